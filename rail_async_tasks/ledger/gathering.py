"""The line of operations between an event loop and a writer's thread.

What one step of the loop submits goes over together. One by one, the first operation would wake the
thread, which would write it alone, and all others would wait for its COMMIT.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from rail_async_tasks.ledger.writer_port import Operation

# What stands in the thread's line behind the last operation.
_END: Final = (None,)


class Gathering:
    """Hands operations over to one thread, in order."""

    def __init__(self) -> None:
        # Lists of operations; None ends the thread. A SimpleQueue wakes its reader for a tenth of
        # what an Event costs.
        self._queue: queue.SimpleQueue[Sequence[Any] | None] = queue.SimpleQueue()
        self._step: list[Operation] = []  # those of this step of the loop
        self._line: deque[Any] = deque()  # taken from the queue; of the thread

    # --- on the loop -----------------------------------------------------------------------------

    def put(self, operation: Operation, loop: asyncio.AbstractEventLoop) -> None:
        """Hands an operation over, with all others of this step of the loop."""
        if not self._step:
            loop.call_soon(self._hand_over)
        self._step.append(operation)

    def _hand_over(self) -> None:
        step, self._step = self._step, []
        if step:
            self._queue.put(step)

    def end(self) -> None:
        """Has the thread end once it has taken all that was put."""
        self._hand_over()
        self._queue.put(None)

    def drop(self) -> list[Operation]:
        """Returns all operations that no thread will take any more."""
        left = [*self._line]
        self._line.clear()
        while not self._queue.empty():
            left += self._queue.get_nowait() or ()
        left += self._step
        self._step = []
        return [operation for operation in left if operation is not None]

    # --- in the thread ---------------------------------------------------------------------------

    def take(self, most: int) -> list[Any]:
        """Returns the next batch, at least one operation; empty when the thread is to end.

        Operations with a unique key and those without share no batch.
        """
        line = self._line
        try:
            if not line:
                line.extend(self._queue.get() or _END)
            while len(line) < most:
                line.extend(self._queue.get_nowait() or _END)
        except queue.Empty:
            pass
        first = line.popleft()
        if first is None:
            return []
        batch, keyed = [first], first.key is not None
        while line and len(batch) < most:
            following = line[0]
            if following is None or (following.key is not None) is not keyed:
                break
            batch.append(line.popleft())
        return batch
