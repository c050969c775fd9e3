"""The servers of a fault test, and the database that they share.

`fleet` starts them. The `database` is the whole suite's, emptied after each test. A test's `forms`
are its databases and sizes: a short one, which every run takes, and long ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from tests.faults.bodies import notes
from tests.faults.fleet import Fleet
from tests.support.places import logged_in


def prepared() -> str:
    """Makes what the bodies write to, and a user. Returns the cookie of the user's session."""
    notes.create_table()
    return logged_in("ada")


@pytest.fixture
async def fleet(database: Any, tmp_path: Any, anyio_backend: Any) -> AsyncIterator[Fleet]:
    """Servers on the test's database. They end with the test."""
    cookie = await sync_to_async(prepared)()
    async with AsyncExitStack() as stack:
        yield Fleet(database.env, cookie, stack, str(tmp_path / "notes"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Any:
    """A test that fails shows what its servers said."""
    outcome = yield
    result = outcome.get_result()
    if result.when == "call" and result.failed:
        for server in Fleet.latest:
            result.sections.append((f"server {server.port}", server.said()[-60000:]))
