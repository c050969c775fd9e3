"""The page `tasks/charts/`: throughput, wait and run times over an hour, a day, a week."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.http import urlencode

from rail_async_tasks.conf import get_settings
from rail_async_tasks.dashboard import svg
from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, page
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.dashboard.words import duration
from rail_async_tasks.rollups.columns import OUTCOMES
from rail_async_tasks.service.statistics import WINDOWS, Charts, Series, Summary, charts
from rail_async_tasks.text import is_storable

BY: Final = ("queue", "name")
# Rows of the table of queues or names.
MOST_PARTS: Final = 50
# Labels of the axis of time.
LABELS: Final = 5


@page
def charts_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page. `?window=hour|day|week&by=queue|name&queue=&name=`."""
    database()
    choice = _choice(request)
    window, by = choice["window"], choice["by"]
    found = charts(WINDOWS[window], by, queue=choice["queue"] or None, name=choice["name"] or None)
    return base_page(
        request,
        visitor,
        "charts.html",
        title="Charts",
        here="charts",
        choice=choice,
        enabled=get_settings().statistics_enabled,
        windows=[(it, _link(choice, window=it)) for it in WINDOWS],
        bys=[(it, _link(choice, by=it)) for it in BY],
        whole_link=_link(choice, queue="", name=""),
        charts=None if found is None else _drawn(found),
        parts=[] if found is None else [_part(it, choice, by) for it in found.parts[:MOST_PARTS]],
        more=0 if found is None else max(len(found.parts) - MOST_PARTS, 0),
    )


def _choice(request: HttpRequest) -> dict[str, str]:
    """Returns what the URL asks for; an unknown value is the first one."""
    window, by = request.GET.get("window", ""), request.GET.get("by", "")
    texts = {key: request.GET.get(key, "") for key in BY}
    return {
        "window": window if window in WINDOWS else "hour",
        "by": by if by in BY else "queue",
        **{key: text if is_storable(text) else "" for key, text in texts.items()},
    }


def _link(choice: dict[str, str], **changed: str) -> str:
    return f"?{urlencode({key: it for key, it in {**choice, **changed}.items() if it})}"


def _drawn(found: Charts) -> dict[str, Any]:
    """Returns the three charts and the table that has the same numbers."""
    times = [datetime.fromtimestamp(it, UTC) for it in found.starts]
    steps = found.whole.steps
    every = duration(found.window.step)
    return {
        "throughput": _throughput(steps, times, every),
        "wait": _latency(steps, times, every, "Wait", lambda it: (it.wait_p50, it.wait_p95)),
        "run": _latency(steps, times, every, "Run time", lambda it: (it.run_p50, it.run_p95)),
        "axis": [times[len(times) * it // LABELS] for it in range(LABELS)] + [times[-1]],
        "total": found.whole.total,
        "rows": [
            {"at": at, "step": step}
            for at, step in zip(times, steps, strict=True)
            if step.ended or step.retried or step.wait_p50 is not None
        ],
        "every": every,
    }


def _throughput(steps: Sequence[Summary], times: Sequence[datetime], every: str) -> dict[str, Any]:
    columns = [[getattr(step, it) for it in OUTCOMES] for step in steps]
    titles = [
        f"{at:%Y-%m-%d %H:%M} UTC: "
        + (", ".join(f"{n:,} {it}" for n, it in zip(counts, OUTCOMES, strict=True) if n) or "none")
        for at, counts in zip(times, columns, strict=True)
    ]
    label = f"Ended attempts in each {every}, by outcome"
    return {
        "svg": svg.stacked(columns, OUTCOMES, titles, label),
        "top": f"{svg.scale(max(map(sum, columns), default=0)):,.0f}",
    }


def _latency(
    steps: Sequence[Summary],
    times: Sequence[datetime],
    every: str,
    what: str,
    of: Callable[[Summary], tuple[float | None, float | None]],
) -> dict[str, Any]:
    pairs = [of(step) for step in steps]
    titles = [
        f"{at:%Y-%m-%d %H:%M} UTC: "
        + ("none" if low is None or high is None else f"p50 {duration(low)}, p95 {duration(high)}")
        for at, (low, high) in zip(times, pairs, strict=True)
    ]
    series = [[high for _, high in pairs], [low for low, _ in pairs]]
    label = f"{what} in each {every}: median, and 95th percentile"
    most = max((it for values in series for it in values if it is not None), default=0.0)
    return {
        "svg": svg.lines(series, ("p95", "p50"), titles, label),
        "top": duration(svg.scale(most)),
    }


def _part(series: Series, choice: dict[str, str], by: str) -> dict[str, Any]:
    ended = [step.ended for step in series.steps]
    key = series.key or ""
    return {
        "key": key,
        "total": series.total,
        "sparkline": svg.sparkline(ended, f"{series.total.ended:,} ended", kind="completed"),
        "link": _link(choice, **{by: key, "by": "name" if by == "queue" else "queue"}),
    }


ROUTES: Final = (path("tasks/charts/", charts_page, name="charts"),)
