"""Due rows and the wake-up of the dispatcher that claims or sends them.

The services that change rows call `expect`, `due_in` and `slot_freed`; one dispatcher waits in
`until_needed`. Everything that is "later" is a row that comes due.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rail_async_tasks.runtime.state import RuntimeState

# Seconds between two surveys of the ledger while rows are found that other processes have left, and
# while this one claims.
POLL_SECONDS = 1.0


class Due(ABC):
    """Rows that may be due, and the time of the next one. On the runtime's loop.

    Args:
        state: ends every wait once the runtime drains.
        poll_seconds: the time between two surveys while they find something.
        longest_poll: returns the longest time between two surveys that find nothing: each pause
            is twice the one before. Seconds.
    """

    def __init__(
        self,
        *,
        state: RuntimeState,
        poll_seconds: float = POLL_SECONDS,
        longest_poll: Callable[[], float] = lambda: POLL_SECONDS,
    ) -> None:
        self._state = state
        self._poll_seconds = self._pause = poll_seconds
        self._longest_poll = longest_poll
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        # The dispatcher has nothing to do, or had not at its last look.
        self._idle = asyncio.Event()
        # By the loop's clock. The survey keeps its time also where rows of one queue wake the
        # dispatcher again and again.
        self._next_due: float | None = None
        self._poll_at = self._loop.time() + poll_seconds
        # It is time for a survey.
        self.needs_survey = False
        # The broker is away: `caught_up` does not wait for it.
        self.stalled = False

    # --- for the services that change rows ------------------------------------------------------

    @abstractmethod
    def expect(self, name: str, queue: str) -> None:
        """A due row of the task `name` is in the ledger."""

    @abstractmethod
    def slot_freed(self, queue: str) -> None:
        """Wakes the dispatcher if it can use the slot of an attempt that has ended here."""

    def due_in(self, seconds: float) -> None:
        """A row comes due in so many seconds."""
        at = self._loop.time() + seconds
        if self._next_due is None or at < self._next_due:
            self._next_due = at
            self._wake.set()

    def wake(self) -> None:
        """Has the dispatcher look again, for example because the runtime drains."""
        self._wake.set()

    def look_everywhere(self) -> None:
        """Has the dispatcher look into every queue: a lease has begun, or a row was handed back."""
        self.expect_all()
        self._wake.set()

    def survey_now(self) -> None:
        """Has the dispatcher survey the ledger: another process has left rows there, it says."""
        self.needs_survey = True
        self._wake.set()

    # --- for the dispatcher ----------------------------------------------------------------------

    @abstractmethod
    def expect_all(self) -> None:
        """Rows may be due in any queue: the next delayed one has come due."""

    @abstractmethod
    def expect_in(self, queue: str) -> None:
        """Rows are due in that queue, by a survey."""

    @contextmanager
    def surveying(self) -> Iterator[None]:
        """Around a survey; one that fails is still to be made.

        What `survey_now` asks for meanwhile takes another: this one may have read too early.
        """
        self.needs_survey = False
        try:
            yield
        except BaseException:
            self.needs_survey = True
            raise

    def surveyed(self, *, found: bool) -> None:
        """A survey has been made. What finds nothing is repeated after twice the pause."""
        longest = max(self._longest_poll(), self._poll_seconds)
        self._pause = self._poll_seconds if found else min(2 * self._pause, longest)
        self._poll_at = self._loop.time() + self._pause

    def acted(self) -> None:
        """Rows were claimed or sent. Some may have been locked: the next survey comes soon."""
        self._pause = self._poll_seconds
        self._poll_at = min(self._poll_at, self._loop.time() + self._pause)

    @property
    @abstractmethod
    def any_due(self) -> bool:
        """Returns whether a row may be due that the dispatcher can do something about."""

    @property
    def may_act(self) -> bool:
        """Returns whether the dispatcher may act on due rows now."""
        return True

    async def until_needed(self) -> None:
        """Returns when a row may be due: expected, its time come, or it is time for a survey."""
        loop = self._loop
        while not self._state.draining:
            now = loop.time()
            if self._next_due is not None and now >= self._next_due:
                self._next_due = None
                self.expect_all()
            if now >= self._poll_at:
                self._poll_at = now + self._poll_seconds
                self.needs_survey = True
            if (self.any_due or self.needs_survey) and self.may_act:
                return
            self._wake.clear()
            self._idle.set()
            try:
                await self._woken_by(
                    self._poll_at if self._next_due is None else min(self._poll_at, self._next_due)
                )
            finally:
                self._idle.clear()

    async def sleep(self, seconds: float) -> None:
        """Returns after so many seconds, or when the runtime drains."""
        deadline = self._loop.time() + seconds
        while not self._state.draining and self._loop.time() < deadline:
            self._wake.clear()
            await self._woken_by(deadline)

    def stall(self) -> None:
        """Releases the callers of `caught_up`: nothing can be done about due rows for now."""
        self.stalled = True
        self._idle.set()

    def end(self) -> None:
        """The dispatcher has ended; releases the callers of `caught_up`."""
        self._idle.set()

    async def _woken_by(self, when: float) -> None:
        timer = self._loop.call_at(when, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    # --- for those that wait for the dispatcher --------------------------------------------------

    async def caught_up(self) -> None:
        """Returns when the dispatcher has nothing left to do, is stalled, or the runtime drains."""
        while (self.any_due or self.needs_survey or not self._idle.is_set()) and not (
            self.stalled or self._state.draining
        ):
            self._idle.clear()
            await self._idle.wait()
