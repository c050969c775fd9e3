"""The buttons of the page: what each one sends, and the Python that it sets off."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass
from typing import Any

from example_project.shop import tasks
from example_project.shop.highlight import python_html

TICKS = 100


@dataclass(frozen=True, slots=True)
class Action:
    """One button. The page adds the fragment `Row`, its own columns, to the mutation."""

    key: str
    title: str
    text: str
    task: Any
    mutation: str

    def as_json(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        source = inspect.getsource(self.task.definition.function)
        data = asdict(self) | {"task": self.task.name, "source": python_html(source)}
        return data | {"line": inspect.getsourcelines(self.task.definition.function)[1]}


def _mutation(name: str, field: str) -> str:
    return f"mutation {name} {{\n  {field} {{ taskId status task {{ ...Row }} }}\n}}"


def _ticks() -> str:
    """One request with a hundred mutations in it."""
    fields = (
        f"  t{number}: tick(number: {number}) {{ taskId task {{ ...Row }} }}"
        for number in range(1, TICKS + 1)
    )
    return "mutation HundredTicks {\n" + "\n".join(fields) + "\n}"


ACTIONS = (
    Action(
        "import-airports",
        "Import airports",
        "3,376 rows of a CSV file",
        tasks.import_airports,
        _mutation("ImportAirports", "importAirports"),
    ),
    Action(
        "import-cars",
        "Import cars",
        "406 classic cars from JSON",
        tasks.import_cars,
        _mutation("ImportCars", "importCars"),
    ),
    Action(
        "airport-map",
        "Map the airports",
        "The table, drawn as an SVG",
        tasks.draw_chart,
        _mutation("AirportMap", "drawChart(chart: AIRPORT_MAP)"),
    ),
    Action(
        "fuel-economy",
        "Chart fuel economy",
        "Same task, another argument",
        tasks.draw_chart,
        _mutation("FuelEconomy", "drawChart(chart: FUEL_ECONOMY)"),
    ),
    Action(
        "reprice-cars",
        "Reprice the stock",
        "A plain def, in a thread",
        tasks.reprice_cars,
        _mutation("RepriceCars", 'repriceCars(percent: "7.5")'),
    ),
    Action(
        "flaky-sync",
        "Ask the supplier",
        "Fails twice, then succeeds",
        tasks.flaky_sync,
        _mutation("FlakySync", "flakySync"),
    ),
    Action(
        "slow-export",
        "Slow export",
        "One minute: cancel it",
        tasks.slow_export,
        _mutation("SlowExport", "slowExport"),
    ),
    Action(
        "always-fails",
        "Charge a bad card",
        "Always fails; shows its error",
        tasks.always_fails,
        _mutation("AlwaysFails", "alwaysFails"),
    ),
    Action(
        "hundred-ticks",
        "100 at once",
        "One request, a hundred tasks",
        tasks.tick,
        _ticks(),
    ),
)
