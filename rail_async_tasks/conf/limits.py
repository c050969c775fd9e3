"""The rules for `limits`, the limits of one client, and for `trusted_proxies`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from rail_async_tasks.conf import problems as ids
from rail_async_tasks.conf.model import LimitSettings
from rail_async_tasks.conf.problems import Place, Report, shown
from rail_async_tasks.conf.rules import Rule, known_keys, or_none, whole

_RULES: Final[Mapping[str, Rule]] = {
    **{field.name: or_none(whole(low=1), "no limit") for field in fields(LimitSettings)},
    "anonymous_pending_percent": or_none(whole(low=1, high=100), "no limit"),
}


def limits(value: Any, place: Place, report: Report) -> Any:
    """Returns the limits, merged over the defaults key by key."""
    if not isinstance(value, Mapping):
        hint = 'Write {"subscriptions_per_socket": 100}, or {} for the defaults.'
        report.error(ids.WRONG_TYPE, place, f"must be a dict, not {shown(value)}", hint)
        return LimitSettings()
    known_keys(value, _RULES, place, report)
    return LimitSettings(
        **{
            key: rule(value[key], place / key, report)
            for key, rule in _RULES.items()
            if key in value
        }
    )


def trusted_proxies(value: Any, place: Place, report: Report) -> Any:
    """Returns the addresses and networks of the proxies before this server."""
    if not isinstance(value, list | tuple):
        hint = f"Write a list: [{value!r}]." if isinstance(value, str) else "Write a list of text."
        report.error(ids.WRONG_TYPE, place, f"must be a list, not {shown(value)}", hint)
        return ()
    found = []
    for index, text in enumerate(value):
        try:
            # It takes numbers too: an address of so many bits.
            found.append(ipaddress.ip_network(text if isinstance(text, str) else ""))
        except ValueError:
            report.error(
                ids.MALFORMED,
                place / index,
                f"is no address and no network: {shown(text)}",
                'Write "10.0.0.7", or a network without host bits, "10.0.0.0/8" or "fd00::/8".',
            )
    return tuple(found)
