"""The tools with `track_in_database` off. Run by `tests/testing`."""

from __future__ import annotations

import pytest

from rail_async_tasks import TaskNotFound
from rail_async_tasks.testing import RailTasks
from tests.projects.library.tasks import burn, lend, remind, sweep


@pytest.mark.parametrize("turn", range(2))
def test_every_tool(rail_tasks: RailTasks, turn: int) -> None:
    assert rail_tasks.enqueued() == []
    reminder = remind.enqueue(title="Emma")
    later = lend.using(delay=60).enqueue(title="later")
    assert rail_tasks.assert_enqueued(lend).arguments == {"title": "later"}
    assert [it.status for it in rail_tasks.run()] == ["retrying"]
    rail_tasks.advance(10)
    assert [it.id for it in rail_tasks.run()] == [reminder.id]
    rail_tasks.advance(20)
    rail_tasks.run()
    assert reminder.result() == 3
    rail_tasks.advance(30)
    assert [it.id for it in rail_tasks.run()] == [later.id]
    rail_tasks.advance(240)
    assert len(rail_tasks.enqueued(sweep)) == 1
    rail_tasks.advance(86_400)
    with pytest.raises(TaskNotFound):
        reminder.refresh()


async def test_in_a_coroutine(rail_tasks: RailTasks) -> None:
    handle = await burn.aenqueue(title="Emma")
    await rail_tasks.arun()
    assert isinstance(handle.__cause__, ValueError)
