"""The real files behind the shop: they come inside the installed package `vega_datasets`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from example_project.shop.models import Airport, Car


def read_airports() -> Iterator[Airport]:
    """The 3,376 airports of `airports.csv`, row by row, unsaved."""
    with dataset("airports.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Airport(
                iata=row["iata"],
                name=row["name"],
                city=row["city"],
                state=row["state"],
                country=row["country"],
                latitude=float(row["latitude"]),
                longitude=float(row["longitude"]),
            )


def read_cars() -> Iterator[Car]:
    """The 406 cars of `cars.json`, unsaved; their line in the file is their lot number."""
    rows = json.loads(dataset("cars.json").read_text(encoding="utf-8"))
    for lot, row in enumerate(rows, start=1):
        yield Car(
            lot=lot,
            name=row["Name"].title(),
            year=int(row["Year"][:4]),
            origin=row["Origin"],
            cylinders=row["Cylinders"],
            horsepower=row["Horsepower"],
            weight_lbs=row["Weight_in_lbs"],
            miles_per_gallon=row["Miles_per_Gallon"],
        )


def dataset(name: str) -> Path:
    """A file of the package, found without importing it (which would import pandas).

    Raises:
        FileNotFoundError: the package is not installed; the message says how to install it.
    """
    spec = find_spec("vega_datasets")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "The example's data comes with the package vega_datasets: "
            "install it with `pip install 'rail_async_tasks[demo]'`."
        )
    return Path(spec.origin).parent / "_data" / name
