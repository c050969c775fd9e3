"""The shop's slow work. Each function here is a task, and a GraphQL mutation of the same name.

Small pauses are written where the work would be over before anybody saw its bar move.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import strawberry
from django.conf import settings
from django.db import transaction

from example_project.shop.charts import airport_map, fuel_economy
from example_project.shop.datasets import read_airports, read_cars
from example_project.shop.models import Airport, Car
from rail_async_tasks import Fail, task_mutation


@strawberry.enum
class Chart(Enum):
    """The charts of `draw_chart`."""

    AIRPORT_MAP = "airport-map"
    FUEL_ECONOMY = "fuel-economy"


@task_mutation
async def import_airports(info):
    """Read 3,376 airports from a CSV file, row by row, into the database."""
    # A file that is read on the event loop holds up everything else there.
    airports = await asyncio.to_thread(list, read_airports())
    done = 0
    for batch in batches(airports, 100):
        # A row that exists is updated: the task may run twice without harm.
        await Airport.objects.abulk_create(
            batch,
            update_conflicts=True,
            unique_fields=["iata"],
            update_fields=["name", "city", "state", "country", "latitude", "longitude"],
        )
        done += len(batch)
        info.context.task.update_progress(
            100 * done // len(airports), f"{done:,} of {len(airports):,} rows"
        )
        await asyncio.sleep(0.06)
    return {"rows": done, "in_table": await Airport.objects.acount()}


@task_mutation
async def import_cars(info):
    """Read 406 classic cars from a JSON file into the stock."""
    cars = await asyncio.to_thread(list, read_cars())
    done = 0
    for batch in batches(cars, 20):
        await Car.objects.abulk_create(
            batch,
            update_conflicts=True,
            unique_fields=["lot"],
            # All but the price, which is the shop's own.
            update_fields=[it.name for it in Car._meta.fields if it.name not in ("lot", "price")],
        )
        done += len(batch)
        info.context.task.update_progress(100 * done // len(cars), f"{done} of {len(cars)} cars")
        await asyncio.sleep(0.06)
    return {"rows": done, "in_table": await Car.objects.acount()}


@task_mutation
async def draw_chart(info, chart: Chart):
    """Draw a chart of what is in the tables, as an SVG file."""
    task = info.context.task
    task.update_progress(10, "Reading the table")
    if chart is Chart.AIRPORT_MAP:
        rows = [airport async for airport in Airport.objects.all()]
        draw = airport_map
    else:
        rows = [car async for car in Car.objects.filter(miles_per_gallon__isnull=False)]
        draw = fuel_economy
    if not rows:
        # The message is for the user, and another attempt would not help.
        raise Fail("There is nothing to draw yet. Run the imports first.")
    task.update_progress(50, f"Drawing {len(rows):,} rows")
    await asyncio.sleep(0.4)
    svg = await asyncio.to_thread(draw, rows)
    task.update_progress(90, "Writing the file")
    path = media_path("charts", f"{chart.value}-{task.id}.svg")
    await asyncio.to_thread(path.write_text, svg, encoding="utf-8")
    return {"url": media_url(path), "rows": len(rows), "bytes": len(svg.encode())}


@task_mutation
def reprice_cars(info, percent: Decimal = Decimal(5)):
    """Price every car anew. A plain `def`: it runs in a thread and uses the ORM directly."""
    cars = list(Car.objects.all())
    factor = 1 + percent / 100
    for batch in info.context.task.track(list(batches(cars, 20)), message="Pricing"):
        info.context.task.raise_if_cancelled()
        with transaction.atomic():
            for car in batch:
                base = 4_000 + 45 * (car.horsepower or 75) + 120 * (1990 - car.year)
                car.price = (base * factor).quantize(Decimal("0.01"))
                car.save(update_fields=["price"])
    return {"cars": len(cars), "percent": str(percent)}


@task_mutation(max_retries=3, retry_delay=0.8)
async def flaky_sync(info):
    """Ask a supplier who hangs up twice and answers the third call."""
    attempt = info.context.task.attempt
    for step in range(1, 6):
        await asyncio.sleep(0.12)
        info.context.task.update_progress(step * 16, f"Call {attempt}: waiting for an answer")
    if attempt < 3:
        raise ConnectionError(f"The supplier hung up on call {attempt}.")
    return {"calls": attempt, "answer": "All in stock."}


@task_mutation(max_retries=0)
async def slow_export(info):
    """Export the airports for about a minute: something to cancel. Leaves no half a file behind."""
    task = info.context.task
    airports = [airport async for airport in Airport.objects.all()]
    path = media_path("exports", f"airports-{task.id}.csv")
    unfinished = path.with_suffix(".part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["iata", "name", "city", "state"])
            # 226 portions of the 3,376 rows, 0.25 s each.
            for batch in task.track(list(batches(airports, 15)), message="Writing"):
                writer.writerows([it.iata, it.name, it.city, it.state] for it in batch)
                await asyncio.sleep(0.25)
        unfinished.rename(path)
    finally:
        # Cancelled, timed out or failed: the exception passes through here on its way out.
        unfinished.unlink(missing_ok=True)
    return {"url": media_url(path), "rows": len(airports)}


@task_mutation(max_retries=1, retry_delay=0.5)
async def always_fails(info):
    """Fail, and fail again: this is how an error reaches the page."""
    info.context.task.update_progress(40, "Charging the card")
    await asyncio.sleep(0.6)
    raise ValueError("The card expired in 1982.")


@task_mutation(queue="bulk")
async def tick(info, number: int):
    """Do next to nothing. A hundred of them start with one request, 20 run at once."""
    for step in range(1, 5):
        await asyncio.sleep(0.12)
        info.context.task.update_progress(step * 25)
    return number


def batches(rows: list[Any], size: int) -> Iterator[list[Any]]:
    """The rows in lists of `size`, the last one shorter."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def media_path(folder: str, name: str) -> Path:
    """Where a task writes a file that the browser may fetch."""
    path = Path(settings.MEDIA_ROOT) / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def media_url(path: Path) -> str:
    return settings.MEDIA_URL + quote(path.relative_to(settings.MEDIA_ROOT).as_posix())
