"""Whether a process has had work lately."""

from __future__ import annotations

from rail_async_tasks.runtime.activity import LINGER_SECONDS, Activity
from tests.support.clock import FakeClock


def test_a_process_is_quiet_some_time_after_its_last_attempt() -> None:
    """The first seconds of its life count as such a time. What runs for long is work all along."""
    clock = FakeClock()
    activity = Activity(clock.monotonic)
    assert not activity.check(0)
    clock.jump(LINGER_SECONDS)
    assert activity.check(0)
    assert activity.quiet
    assert not activity.check(1)
    clock.jump(LINGER_SECONDS - 1)
    assert not activity.check(0)
    clock.jump(1)
    assert activity.check(0)


def test_work_ends_the_quiet_once() -> None:
    """A trickle of tasks wakes the services once, not for each task."""
    clock = FakeClock()
    activity, calls = Activity(clock.monotonic), []
    activity.when_quiet_ends(lambda: calls.append(1))
    activity.note()
    assert calls == []
    clock.jump(LINGER_SECONDS)
    activity.check(0)
    for _ in range(3):
        activity.note()
        clock.jump(1)
        activity.check(0)
    assert calls == [1]
    assert not activity.quiet
