"""Times of attempts that no setting changes."""

from __future__ import annotations

import msgspec


class AttemptTimings(msgspec.Struct, frozen=True, kw_only=True):
    """All in seconds."""

    # Progress reaches the row at most this often: two writes a second for a task.
    save_progress_every: float = 0.5
    # An outcome that the database would not take is offered again after this time.
    store_again_after: float = 1.0
    # A body that begins to wait for tasks is looked at so soon, and then this often.
    wait_first_look: float = 0.05
    wait_look_every: float = 1.0
    # A wait for a task that other processes run, and none has begun, is reported after this time.
    wait_report_after: float = 5.0


ATTEMPT_TIMINGS = AttemptTimings()
