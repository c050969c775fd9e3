"""The rule for `task_settings["queues"]`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from rail_async_tasks.conf import problems as ids
from rail_async_tasks.conf.model import DEFAULT_QUEUES, QueueSettings
from rail_async_tasks.conf.problems import Place, Report, shown
from rail_async_tasks.conf.rules import (
    MAX_INT,
    MAX_QUEUE_NAME,
    Rule,
    known_keys,
    or_none,
    rate,
    whole,
    word,
)


def queues(value: Any, place: Place, report: Report) -> Any:
    """Returns the queues, merged over the three default ones option by option."""
    merged = dict(DEFAULT_QUEUES)
    if not isinstance(value, Mapping):
        report.error(
            ids.WRONG_TYPE,
            place,
            f"must be a dict, not {shown(value)}",
            'Write {"reports": {"priority": 5, "concurrency": 2}}.',
        )
        return merged
    for name, options in value.items():
        where = place / name
        word(MAX_QUEUE_NAME)(name, where, report)
        if not isinstance(options, Mapping):
            report.error(
                ids.WRONG_TYPE,
                where,
                f"must be a dict, not {shown(options)}",
                'Write {"priority": 5, "concurrency": 2}, or {} for the defaults.',
            )
            options = {}
        known_keys(options, _QUEUE_OPTIONS, where, report)
        base = merged.get(name, QueueSettings())
        given = {
            option: rule(options[option], where / option, report)
            for option, rule in _QUEUE_OPTIONS.items()
            if option in options
        }
        merged[name] = QueueSettings(
            given.get("priority", base.priority),
            given.get("concurrency", base.concurrency),
            given.get("rate", base.rate),
        )
    return MappingProxyType(merged)


_QUEUE_OPTIONS: Final[Mapping[str, Rule]] = {
    "priority": whole(low=-MAX_INT),
    "concurrency": or_none(whole(low=1), "no limit but max_concurrency"),
    "rate": or_none(rate, "no limit"),
}
