"""When the next attempt is due: pure arithmetic, all in seconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How one task is retried. `delay` and `max_delay` are seconds; `jitter` is a share, 0 to 1."""

    max_retries: int
    delay: float
    backoff: bool
    max_delay: float
    jitter: float
    retry_on: tuple[type[BaseException], ...] = (Exception,)

    def allows(self, error: BaseException, retry_count: int, max_retries: int) -> bool:
        """Whether an attempt that ended in `error`, after `retry_count` retries, gets another."""
        return retry_count < max_retries and isinstance(error, self.retry_on)

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
