"""The shop's part of the GraphQL schema; the settings name both types as extensions."""

from __future__ import annotations

from uuid import UUID

import strawberry
from django.db.models import Avg
from strawberry.types import Info

from example_project.shop import tasks
from example_project.shop.models import Airport, Car
from example_project.shop.whereabouts import Whereabouts, where_they_ran


@strawberry.type(description="How full the shop's tables are.")
class Stock:
    airports: int
    cars: int
    average_price: float | None


@strawberry.type
class ShopQuery:
    @strawberry.field(description="What the tasks have left in the database.")
    async def stock(self) -> Stock:
        prices = await Car.objects.aaggregate(average=Avg("price"))
        average = prices["average"]
        return Stock(
            airports=await Airport.objects.acount(),
            cars=await Car.objects.acount(),
            average_price=None if average is None else float(average),
        )

    @strawberry.field(
        description="Which process ran the newest attempt of each task, in `make demo-distributed`."
    )
    async def where_it_ran(self, info: Info, ids: list[UUID]) -> list[Whereabouts]:
        return await where_they_ran(info.context.user, ids)


@strawberry.type
class TaskMutations:
    """One mutation per task: the attribute's name is the field's."""

    import_airports = tasks.import_airports
    import_cars = tasks.import_cars
    draw_chart = tasks.draw_chart
    reprice_cars = tasks.reprice_cars
    flaky_sync = tasks.flaky_sync
    slow_export = tasks.slow_export
    always_fails = tasks.always_fails
    tick = tasks.tick
