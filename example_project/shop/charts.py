"""The shop's charts, written as SVG by hand. They follow the light or dark scheme of the reader."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from html import escape
from math import cos, pi, radians, sin, sqrt
from statistics import fmean

from example_project.shop.models import Airport, Car

WIDTH, HEIGHT = 960, 600
Scale = Callable[[float], float]

_STYLE = """
  svg { font-family: -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
  .page { fill: #fff } .title { fill: #17202e; font-size: 27px; font-weight: 650 }
  .sub, .axis { fill: #5c6779; font-size: 17px } .label { fill: #17202e; font-size: 17px }
  .mid { text-anchor: middle }
  .grid { stroke: #e3e7ee } .dots { stroke: #4653d8 } .bar { fill: #4653d8 }
  .track { fill: #eceff5 } .frame { stroke: #d5dbe5; fill: none }
  .usa { --c: #4653d8 } .japan { --c: #d2462f } .europe { --c: #13805f }
  .series path { stroke: var(--c); fill: none } .series circle { fill: var(--c) }
  .series text { fill: var(--c); font-size: 18px; font-weight: 600 } .series .one { opacity: .22 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #161b24 } .title, .label { fill: #e8ecf4 } .sub, .axis { fill: #9aa6ba }
    .grid { stroke: #2a3240 } .dots { stroke: #8d98ff } .bar { fill: #8d98ff }
    .track { fill: #232b38 } .frame { stroke: #374152 }
    .usa { --c: #8d98ff } .japan { --c: #ff8b73 } .europe { --c: #54cfa5 }
  }
"""


def airport_map(airports: Sequence[Airport]) -> str:
    """Every airport of the United States as a dot, and the states that have most of them."""
    states = Counter(airport.state for airport in airports if airport.country == "USA")
    mainland = [it for it in airports if it.state not in ("AK", "HI") and _on_mainland(it)]
    alaska = [it for it in airports if it.state == "AK" and it.longitude < 0]
    hawaii = [it for it in airports if it.state == "HI"]
    shown = len(mainland) + len(alaska) + len(hawaii)
    body = [
        _dots(mainland, _Albers(29.5, 45.5, 38, -96, scale=900, x=362, y=312), 2.6),
        '<path class="frame" d="M36 452h150v104H36zM198 482h100v74H198z"/>',
        _dots(alaska, _Albers(55, 65, 63.5, -154, scale=235, x=112, y=510), 1.8),
        _dots(hawaii, _Albers(8, 18, 20.5, -157.3, scale=780, x=246, y=530), 2.6),
        '<text class="axis" x="44" y="470">Alaska</text>',
        '<text class="axis" x="206" y="500">Hawaii</text>',
        '<text class="label" x="720" y="118" font-weight="600">Airports by state</text>',
    ]
    top = states.most_common(12)
    for index, (state, count) in enumerate(top):
        y = 138 + index * 33
        length = 132 * count / top[0][1]
        body += [
            f'<text class="label" x="720" y="{y + 15}">{escape(state)}</text>',
            f'<rect class="track" x="760" y="{y + 2}" width="132" height="17" rx="3"/>',
            f'<rect class="bar" x="760" y="{y + 2}" width="{length:.1f}" height="17" rx="3"/>',
            f'<text class="axis" x="934" y="{y + 15}" text-anchor="end">{count}</text>',
        ]
    return _svg(
        f"{shown:,} airports of the United States",
        "One dot per airport in the table Airport",
        body,
    )


def fuel_economy(cars: Sequence[Car]) -> str:
    """Miles per gallon by model year: every car as a dot, each origin's average as a line."""
    left, right, top, bottom = 78, 840, 115, 525
    origins = {it.origin for it in cars}
    first, last = min(it.year for it in cars), max(it.year for it in cars)
    most = 10 * (int(max(it.miles_per_gallon or 0 for it in cars)) // 10 + 1)

    def x_of(year: float) -> float:
        return left + (right - left) * (year - first) / max(1, last - first)

    def y_of(mpg: float) -> float:
        return bottom - (bottom - top) * mpg / most

    body = []
    for mpg in range(0, most + 1, 10):
        y = y_of(mpg)
        body.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        body.append(
            f'<text class="axis" x="{left - 12}" y="{y + 5:.1f}" text-anchor="end">{mpg}</text>'
        )
    body += [
        f'<text class="axis mid" x="{x_of(year):.1f}" y="{bottom + 26}">{year}</text>'
        for year in range(first, last + 1, 2)
    ]
    body.append(
        f'<text class="axis mid" transform="translate(26 {(top + bottom) / 2}) '
        f'rotate(-90)">Miles per gallon</text>'
    )
    body.append(
        f'<text class="axis mid" x="{(left + right) / 2}" y="{bottom + 56}">Model year</text>'
    )
    lowest_name = 0.0
    by_origin = [
        _Series(it, [car for car in cars if car.origin == it], x_of, y_of) for it in origins
    ]
    # From the top down: where two lines end close together, the lower one's name gives way.
    for index, series in enumerate(sorted(by_origin, key=lambda it: it.end[1])):
        lowest_name = max(series.end[1] + 5, lowest_name + 21)
        body.append(series.svg(offset=7 * (index - 1), name_y=lowest_name))
    return _svg(
        "Cars learned to drink less",
        f"{len(cars)} cars in the table Car: each one, and the average of its year and origin",
        body,
    )


class _Series:
    """One origin: faint dots for its cars, a line through its yearly averages, its name."""

    def __init__(self, origin: str, cars: Sequence[Car], x_of: Scale, y_of: Scale) -> None:
        by_year: dict[int, list[float]] = defaultdict(list)
        for car in cars:
            by_year[car.year].append(car.miles_per_gallon or 0)
        self._origin = origin
        self._ones = [(x_of(it.year), y_of(it.miles_per_gallon or 0)) for it in cars]
        self._line = [(x_of(year), y_of(fmean(them))) for year, them in sorted(by_year.items())]
        self.end = self._line[-1]

    def svg(self, offset: float, name_y: float) -> str:
        """`offset` keeps the dots of one year's origins side by side, not on top of each other."""
        dots = [
            f'<circle class="one" cx="{x + offset:.1f}" cy="{y:.1f}" r="3.5"/>'
            for x, y in self._ones
        ]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in self._line)
        dots += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in self._line]
        name = f'<text x="{self.end[0] + 18:.1f}" y="{name_y:.1f}">{escape(self._origin)}</text>'
        return (
            f'<g class="series {escape(self._origin.lower())}"><path d="M{line}" stroke-width="3"/>'
            f"{''.join(dots)}{name}</g>"
        )


class _Albers:
    """The equal-area conic projection that maps of the United States are usually drawn in."""

    def __init__(
        self,
        south: float,
        north: float,
        lat: float,
        lon: float,
        *,
        scale: float,
        x: float,
        y: float,
    ) -> None:
        self._n = (sin(radians(south)) + sin(radians(north))) / 2
        self._c = cos(radians(south)) ** 2 + 2 * self._n * sin(radians(south))
        self._rho = self._radius(lat)
        self._lon, self._scale, self._x, self._y = lon, scale, x, y

    def _radius(self, lat: float) -> float:
        return sqrt(self._c - 2 * self._n * sin(radians(lat))) / self._n

    def __call__(self, lat: float, lon: float) -> tuple[float, float]:
        rho, theta = self._radius(lat), self._n * (lon - self._lon) * pi / 180
        return (
            self._x + self._scale * rho * sin(theta),
            self._y + self._scale * (rho * cos(theta) - self._rho),
        )


def _on_mainland(airport: Airport) -> bool:
    return 24 < airport.latitude < 50 and -125.5 < airport.longitude < -66


def _dots(airports: Iterable[Airport], project: _Albers, size: float) -> str:
    """All dots as one path: a line of no length with round ends is a dot."""
    points = (project(it.latitude, it.longitude) for it in airports)
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return f'<path class="dots" d="{path}" stroke-width="{size}" stroke-linecap="round"/>'


def _svg(title: str, subtitle: str, body: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
            f'<text class="title" x="36" y="52">{escape(title)}</text>',
            f'<text class="sub" x="36" y="80">{escape(subtitle)}</text>',
            *body,
            "</svg>\n",
        ]
    )
