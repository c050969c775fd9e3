"""Whether a failed attempt is retried, and when. Pure; all times are in seconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from django.core.exceptions import SynchronousOnlyOperation

# Errors of the program, with what derives from them (`UnboundLocalError`, `ModuleNotFoundError`,
# `IndentationError`): another attempt runs the same code into the same error.
PROGRAM_ERRORS: Final[tuple[type[Exception], ...]] = (
    NameError,
    ImportError,
    SyntaxError,
    NotImplementedError,
    SynchronousOnlyOperation,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How one task is retried. `delay` and `max_delay` are seconds; `jitter` is a share, 0 to 1."""

    max_retries: int
    delay: float
    backoff: bool
    max_delay: float
    jitter: float
    retry_on: tuple[type[BaseException], ...] = (Exception,)

    def allows(
        self, error: BaseException, retry_count: int, max_retries: int, *, misfit: bool = False
    ) -> bool:
        """Returns whether an attempt that ended in `error`, after so many retries, gets another.

        An error of the program gets one only where `retry_on` names its kind: `ImportError` names
        `ModuleNotFoundError`; `Exception` names none of them.

        Args:
            misfit: `error` is the TypeError of a call that does not fit the function's signature.
        """
        if retry_count >= max_retries or not isinstance(error, self.retry_on):
            return False
        kinds = (*PROGRAM_ERRORS, TypeError) if misfit else PROGRAM_ERRORS
        if not _is_one_of(error, kinds):
            return True
        return any(isinstance(error, it) and issubclass(it, kinds) for it in self.retry_on)

    def wait(self, retry: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds before retry number `retry` (from 1): exponential, capped, then jittered.

        The jitter spreads both ways, so that many tasks failed by one outage don't return in step,
        and is applied under the cap so that no wait exceeds it.
        """
        # 2 ** 64 seconds is past any cap; a larger exponent would only overflow the float.
        wait = self.delay * 2.0 ** min(retry - 1, 64) if self.backoff else self.delay
        wait = min(wait, self.max_delay)
        if self.jitter:
            wait = min(wait * (1 + uniform(-self.jitter, self.jitter)), self.max_delay)
        return wait


def _is_one_of(error: BaseException, kinds: tuple[type[Exception], ...]) -> bool:
    """Returns whether the error, or every error of a group, is of one of the kinds."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(kinds)[1] is None
    return isinstance(error, kinds)
