"""The identity and the phase of a runtime."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.ids import new_id
from rail_async_tasks.runtime.state import RuntimeState


def test_a_lease_that_is_lost_is_counted_and_ends_the_holding() -> None:
    """Executions are held under the id of the lease, until that one is lost."""
    state, lease = RuntimeState(), new_id()
    state.leased(lease)
    assert (state.id, state.holding) == (lease, True)
    assert state.fenced(lease)
    assert (state.holding, state.fences) == (False, 1)


def test_the_end_of_an_older_lease_changes_nothing() -> None:
    """The news of its loss may come after the next lease has begun."""
    state, old, new = RuntimeState(), new_id(), new_id()
    state.leased(old)
    state.leased(new)
    assert not state.fenced(old)
    assert (state.holding, state.fences) == (True, 0)


def test_the_first_error_is_the_fault() -> None:
    """Later errors follow from it."""
    state, first = RuntimeState(), ValueError("first")
    state.fail(first)
    state.fail(ValueError("second"))
    assert state.fault is first


def test_a_refusal_names_its_reason() -> None:
    """A process that shuts down says so; after a fault the error is the cause."""
    state, error = RuntimeState(), ValueError("worn out")
    assert str(state.refusal()) == "This process is shutting down."
    state.fail(error)
    refusal = state.refusal()
    assert isinstance(refusal, BackendUnavailable)
    assert refusal.__cause__ is error
    assert "has ended by an error" in str(refusal)


def test_a_drain_ends_a_runtime() -> None:
    """Without a host task, too."""
    state = RuntimeState()
    assert not state.is_ending
    state.draining = True
    assert state.is_ending


@pytest.fixture
async def cancelled_host() -> asyncio.Task[None]:
    """A host task whose cancel was asked for, and has not reached it."""

    async def forever() -> None:
        await asyncio.Event().wait()

    host = asyncio.ensure_future(forever())
    await asyncio.sleep(0)
    host.cancel()
    return host


async def test_a_cancelled_host_ends_a_runtime(cancelled_host: asyncio.Task[None]) -> None:
    """The loop is being shut down."""
    state = RuntimeState()
    state.host = cancelled_host
    assert state.is_ending
    assert not state.drops_outcomes  # a loop of its own: outcomes are stored


async def test_a_servers_loop_that_ends_without_a_drain_cuts_off(
    cancelled_host: asyncio.Task[None],
) -> None:
    """Outcomes are dropped: what ran counts as lost, and is recovered by other processes."""
    state = RuntimeState()
    state.host, state.under_server = cancelled_host, True
    assert state.is_cut_off
    assert state.drops_outcomes
    state.draining = True
    assert not state.is_cut_off


async def test_a_broken_service_cuts_nothing_off(cancelled_host: asyncio.Task[None]) -> None:
    """The group of services cancels its host too: outcomes are stored."""
    state = RuntimeState()
    state.host, state.under_server = cancelled_host, True
    state.scope = anyio.CancelScope()
    state.scope.cancel()
    assert not state.is_cut_off
