"""The thread that keeps a lease. A busy loop, or a handler that blocks, must not cost it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rail_async_tasks.runtime.upkeep.lease import Lease, LoopClosed
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.vital import make_vital

logger = get_logger("rail_async_tasks.runtime")

# Renewals in the time of one lease.
RENEWALS = 5
# The thread looks at least this often (seconds) whether the lease is over, unless it was renewed
# and nothing runs here that must end with it.
LOOK_SECONDS = 0.25


class LeaseThread:
    """Calls the lease's `beat` and `give_up_if_over` in time, until `stop`.

    Args:
        quiet: returns whether this process has had no work lately.
    """

    def __init__(self, lease: Lease, *, quiet: Callable[[], bool] = lambda: False) -> None:
        self._lease = lease
        self._quiet = quiet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rail-tasks-lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the lease soon; `lease_ended` reports that. From any thread."""
        self._stop.set()

    def join(self, seconds: float) -> bool:
        """Waits for the thread; returns whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _pause(self, beat_at: float | None, interval: float) -> float:
        """Returns the seconds until the next look."""
        if beat_at is None or self._lease.failing or not self._quiet():
            return min(LOOK_SECONDS, interval)
        return min(max(beat_at - self._lease.clock(), 0.0), interval)

    def _run(self) -> None:
        make_vital()
        lease, interval = self._lease, self._lease.seconds / RENEWALS
        beat_at: float | None = None
        fault: BaseException | None = None
        try:
            while not self._stop.is_set():
                now = lease.clock()
                lease.give_up_if_over()
                if beat_at is None or now >= beat_at:
                    lease.beat()
                    # A renewal that had to wait has stored an old time: renew again at once.
                    beat_at = now + interval if lease.clock() - now < interval else None
                self._stop.wait(self._pause(beat_at, interval))
        except LoopClosed:
            logger.debug("The lease's loop is closed")
        except BaseException as error:  # a runtime without a lease must not live on in silence
            logger.critical("The lease's thread has ended by an error", exc_info=True)
            fault = error
        lease.end(fault)
