"""Whether this process has had work lately: without work it wakes up seldom."""

from __future__ import annotations

import time
from collections.abc import Callable

# A process counts as busy for so many seconds after its last attempt has begun: its services need
# not change their pace for every task of a trickle.
LINGER_SECONDS = 10.0


class Activity:
    """Notes the attempts that begin here. On the runtime's loop; `quiet` is read in any thread.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self._ended: list[Callable[[], None]] = []
        self.quiet = False

    def note(self) -> None:
        """An attempt begins here. Ends the quiet."""
        self._at = self._clock()
        if self.quiet:
            self.quiet = False
            for call in self._ended:
                call()

    def when_quiet_ends(self, call: Callable[[], None]) -> None:
        """Has `call` called each time that work comes after a quiet time."""
        self._ended.append(call)

    def check(self, running: int) -> bool:
        """Returns whether it is quiet: nothing runs, and nothing has begun for a while."""
        if running:
            self._at = self._clock()
        self.quiet = not running and self._clock() - self._at >= LINGER_SECONDS
        return self.quiet
