"""Ends streams and sockets whose caller has lost the right to them.

A `Guard` stands for one stream or socket. The `Watch` of its event loop asks for all guards
together: every `CHECK_SECONDS`, and at once where `auth.signals` has heard of a change in this
process. Before each operation on a socket its guard asks. A token ends at its own time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, Self, TypeVar

from rail_async_tasks.access import Viewer
from rail_async_tasks.auth.credential import credential_of
from rail_async_tasks.auth.losses import EXPIRED, SIGNED_OUT, WITHDRAWN, Loss
from rail_async_tasks.auth.standing import (
    Claim,
    Standing,
    may_read_the_context,
    standings,
    users_are_in_one_place,
)
from rail_async_tasks.auth.watch import Watch, watch_here
from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.own_views import close_old_outside_transactions
from rail_async_tasks.together import Together

T = TypeVar("T")


def _fresh_standings(claims: Sequence[Claim]) -> list[Standing]:
    """`standings` on a connection as fresh as a request's."""
    close_old_outside_transactions()
    return standings(claims)


_ask_together: Final = Together(_fresh_standings, alone=may_read_the_context)

# The longest timer in seconds: event loops refuse some that are centuries long.
_LONGEST_TIMER: Final = 86_400.0


class Guard:
    """Watches over one caller. Open it with `with`, in the event loop of the stream.

    Args:
        claim: what the database must still say; None where it knows nothing of the user.
        expires_at: when the token ends, in seconds since 1970; None for other credentials.
        sees_all: whether the caller could see every task; None where it is not known yet.
    """

    def __init__(
        self, claim: Claim | None, expires_at: float | None, *, sees_all: bool | None = None
    ) -> None:
        self.claim = claim
        self.lost: Loss | None = None
        self.on_lost: Callable[[Loss], None] = lambda _: None
        self._expires_at = expires_at
        self._sees_all = sees_all
        self._timer: asyncio.TimerHandle | None = None
        self._waits: set[asyncio.Timeout] = set()
        self._watch: Watch | None = None

    @classmethod
    def of(
        cls,
        user: Any,
        request: Any,
        connection_params: Mapping[str, Any] | None = None,
        viewer: Viewer | None = None,
    ) -> Guard | None:
        """Returns the guard of an authenticated caller; None where there is nothing to lose."""
        credential = credential_of(user, request, connection_params)
        if credential is None:
            return None
        stored = credential.is_stored and users_are_in_one_place()
        claim = Claim.of(user, credential.session_key) if stored else None
        return cls(
            claim, credential.expires_at, sees_all=None if viewer is None else viewer.sees_all
        )

    def __enter__(self) -> Self:
        self._watch = watch_here()
        self._watch.add(self)
        self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the watch. May be called twice."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.remove(self)
        if self._timer is not None:
            self._timer.cancel()

    async def ask(self) -> Standing | None:
        """Asks now, for an operation; None where the database knows nothing of the user.

        Raises:
            Unauthenticated, PermissionDenied: the caller has lost the right.
            BackendUnavailable: the database does not answer.
        """
        standing = None
        if self.lost is None and self.claim is not None:
            # In the thread of synchronous code, so that it is in a test's transaction.
            try:
                standing = await _ask_together(self.claim)
            except Exception as error:  # a database, a session store
                raise BackendUnavailable from error
            self.judge(standing)
        self.check()
        return standing

    def check(self) -> None:
        """Raises what `ask` raises if the right is known to be lost."""
        if self.lost is not None:
            raise self.lost.error()

    async def next(self, events: AsyncGenerator[T, None]) -> T:
        """Returns the next event. Raises `StopAsyncIteration`, or as `check` once it is lost."""
        self.check()
        wait = asyncio.timeout(None)  # ended by `lose`, without a task per event
        try:
            async with wait:
                self._waits.add(wait)
                event = await anext(events)
        except TimeoutError:
            self.check()
            raise
        finally:
            self._waits.discard(wait)
        self.check()
        return event

    def judge(self, standing: Standing) -> None:
        """Compares what was found now with what the caller was let in by."""
        if standing.user is None:
            self.lose(SIGNED_OUT)
        elif self._sees_all and not standing.viewer.sees_all:
            self.lose(WITHDRAWN)
        else:
            self._sees_all = standing.viewer.sees_all

    def lose(self, loss: Loss) -> None:
        """Ends the stream, in its event loop. The first reason stays."""
        if self.lost is not None:
            return
        self.lost = loss
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())
        if self._watch is not None:
            self.on_lost(loss)

    def _arm(self) -> None:
        if self._expires_at is None:
            return
        left = self._expires_at - time.time()
        if left <= 0:
            self.lose(EXPIRED)
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(left, _LONGEST_TIMER), self._arm)


async def guarded(events: AsyncGenerator[T, None], guard: Guard | None) -> AsyncGenerator[T, None]:
    """Yields the events while the guard's caller may read them; then raises as `Guard.check`."""
    async with aclosing(events):
        if guard is None:
            async for event in events:
                yield event
            return
        with guard, suppress(StopAsyncIteration):
            while True:
                yield await guard.next(events)
