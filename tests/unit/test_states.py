"""The states, and the rule that a cancel turns an outcome."""

from __future__ import annotations

import pytest

from rail_async_tasks.states import FINAL, UNFINISHED, WAITING, ErrorCode, Status, settle


def test_statuses_are_spelt_as_users_see_them() -> None:
    """Six, lower case; final, waiting and running divide them."""
    assert [str(it) for it in Status] == [
        "pending", "running", "completed", "failed", "cancelled", "retrying",
    ]  # fmt: skip
    assert {"completed", "failed", "cancelled"} == FINAL
    assert {"pending", "retrying"} == WAITING
    assert WAITING | {"running"} == UNFINISHED
    assert set(Status) == FINAL | UNFINISHED
    assert not FINAL & UNFINISHED


def test_error_codes_are_the_published_ones() -> None:
    """Clients switch on them."""
    assert {str(it) for it in ErrorCode} == {
        "exception", "timeout", "worker_lost", "unknown_task", "invalid_args",
        "result_not_serializable", "result_too_large", "cancelled",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("intended", "cancel_requested", "becomes"),
    [
        (Status.COMPLETED, False, Status.COMPLETED),
        (Status.FAILED, False, Status.FAILED),
        (Status.RETRYING, False, Status.RETRYING),
        (Status.CANCELLED, False, Status.CANCELLED),
        (Status.COMPLETED, True, Status.COMPLETED),
        (Status.FAILED, True, Status.CANCELLED),
        (Status.RETRYING, True, Status.CANCELLED),
        (Status.CANCELLED, True, Status.CANCELLED),
    ],
)
def test_settle(intended: Status, cancel_requested: bool, becomes: Status) -> None:
    """A cancel that was asked for turns every end but success."""
    assert settle(intended, cancel_requested=cancel_requested) is becomes
