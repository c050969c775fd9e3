"""Pages whose results the database must count are read one at a time, for all callers together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rail_async_tasks import service
from rail_async_tasks.access import Viewer
from rail_async_tasks.service import read

AT_MOST = 4 * 1024 * 1024
CALLERS = 5


class Reads:
    """Stands before the ledger; counts how many reads go on at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def __call__(self, call: Any) -> list[Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(3):
            await asyncio.sleep(0)
        self.now -= 1
        return []


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    found = Reads()
    monkeypatch.setattr(read, "on_ledger", found)
    return found


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"limit": 500, "at_most": AT_MOST}, 1),
        ({"limit": 10, "at_most": AT_MOST}, CALLERS),
        ({"limit": 500, "at_most": AT_MOST, "results": False}, CALLERS),
        ({"limit": 500}, CALLERS),
    ],
)
async def test_how_many_are_read_at_once(reads: Reads, options: dict[str, Any], most: int) -> None:
    viewer = Viewer(user_id="1")
    await asyncio.gather(*(service.alist(viewer, **options) for _ in range(CALLERS)))
    assert reads.most == most
