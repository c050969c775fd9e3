"""The ledgers that the contract is held against."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from rail_async_tasks.ledger import vendors
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from tests.support.databases import default_database, empty_tables, forget_connections
from tests.support.ledgers import Kit

ON_POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)
ON_MARIADB = pytest.param("mariadb", marks=pytest.mark.mariadb)
ON_SQL = ["sqlite", ON_POSTGRES, ON_MARIADB]


@pytest.fixture(params=["memory", *ON_SQL])
def ledger_kind(
    request: pytest.FixtureRequest, django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Yields the kind of ledger that the test runs on; `default` is its database.

    `portable` is the ledger of other databases, on SQLite.
    """
    kind = str(request.param)
    if kind == "memory":
        yield kind
        return
    if kind == "portable":
        monkeypatch.setattr(vendors, "DIALECTS", {})
    config = request.getfixturevalue("sqlite_config" if kind == "portable" else f"{kind}_config")
    with django_db_blocker.unblock(), default_database(config):
        try:
            yield kind
        finally:
            forget_connections()
            empty_tables()


@pytest.fixture
def ledger_options() -> LedgerOptions:
    """The options of the ledger under test; a module may override them."""
    return LedgerOptions()


@pytest.fixture
async def kit(
    ledger_kind: str, ledger_options: LedgerOptions, anyio_backend: Any
) -> AsyncIterator[Kit]:
    """A started ledger with no rows in it."""
    ledger = (
        MemoryLedger() if ledger_kind == "memory" else OrmLedger(options=lambda: ledger_options)
    )
    ledger.start()
    yield Kit(ledger_kind, ledger)
    await ledger.stop()
