"""The rule for `limits`, the limits of one client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rail_async_tasks.conf import problems as ids
from rail_async_tasks.conf.model import LimitSettings
from rail_async_tasks.conf.problems import Place, Report, shown
from rail_async_tasks.conf.rules import Rule, known_keys, or_none, whole

_RULES: Final[Mapping[str, Rule]] = {
    "subscriptions_per_socket": or_none(whole(low=1), "no limit"),
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
