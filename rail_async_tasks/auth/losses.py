"""The reasons for which a stream or a socket ends before its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.core.exceptions import PermissionDenied

from rail_async_tasks.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a stream ends. `close_code` is for WebSockets, `code` and `message` for the client."""

    close_code: int
    code: str
    message: str

    def error(self) -> Exception:
        """Returns the refusal that the edges know."""
        if self.code == Unauthenticated.code:
            return Unauthenticated(self.message)
        return PermissionDenied(self.message)


SIGNED_OUT: Final = Loss(4401, "UNAUTHENTICATED", "You are signed out. Sign in again.")
EXPIRED: Final = Loss(4401, "UNAUTHENTICATED", "The token has expired. Connect with a new one.")
WITHDRAWN: Final = Loss(4403, "FORBIDDEN", "You may not see all tasks any more. Connect again.")
