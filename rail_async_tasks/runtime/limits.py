"""Which limits hold for one creation, by the settings. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from rail_async_tasks.conf import RateLimit, TaskSettings
from rail_async_tasks.runtime.anonymous_starts import AddressLimit

# The key of the count over everybody. The others are owners' ids.
EVERYBODY: Final = None
# Anonymous callers may fill a smaller queue: a part of it would be a handful of places.
MIN_SHARED: Final = 1000


class Limits(msgspec.Struct, frozen=True, gc=False):
    """The limits on one creation.

    Attributes:
        waiting: a key (an owner's id, `EVERYBODY`) and its limit.
        reserved: places below the limit of `EVERYBODY` that this creation can't have.
        address: the limit of an anonymous caller's address.
    """

    owner_id: str | None
    waiting: tuple[tuple[str | None, int], ...] = ()
    rate: RateLimit | None = None
    reserved: int = 0
    address: AddressLimit | None = None


def limits_for(
    settings: TaskSettings,
    owner_id: str | None,
    *,
    anonymous: bool,
    inline: bool,
    address: str | None = None,
) -> Limits | None:
    """The limits on a creation, or None where it has none.

    A rate is for callers: each owner, or all callers without a name (`anonymous`) together. The
    project's own code, which starts tasks on its own behalf, has none. Under a backend that runs
    `inline` nothing waits.
    """
    rate = settings.rate_limit if owner_id is not None or anonymous else None
    if inline:
        return None if rate is None else Limits(owner_id, rate=rate)
    waiting: list[tuple[str | None, int]] = []
    if settings.max_pending is not None:
        waiting.append((EVERYBODY, settings.max_pending))
    if owner_id is not None and settings.max_pending_per_owner is not None:
        waiting.append((owner_id, settings.max_pending_per_owner))
    if anonymous:
        reserved, of_address = _reserved(settings), _of_address(settings, address)
        if waiting or rate is not None or of_address is not None:
            return Limits(owner_id, tuple(waiting), rate, reserved, of_address)
    return Limits(owner_id, tuple(waiting), rate) if waiting or rate is not None else None


def _reserved(settings: TaskSettings) -> int:
    """Returns how many places of `max_pending` are for users and the project's own code."""
    most, percent = settings.max_pending, settings.limits.anonymous_pending_percent
    if most is None or percent is None or most < MIN_SHARED:
        return 0
    return most - most * percent // 100


def _of_address(settings: TaskSettings, address: str | None) -> AddressLimit | None:
    most = settings.limits.anonymous_pending_per_address
    return None if address is None or most is None else AddressLimit(address, most)
