"""What the shop's tasks do, and what starts them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from example_project.shop.models import Car
from example_project.shop.tasks import Chart, draw_chart, flaky_sync, reprice_cars, tick
from rail_async_tasks import Fail
from rail_async_tasks.testing import run_task, subscribe

REPRICE = 'mutation { repriceCars(percent: "10") { taskId status } }'
FOLLOW = "subscription { myTaskUpdates { name status progress } }"


@pytest.fixture
def beetle(db):
    return Car.objects.create(
        lot=1, name="beetle", year=1970, origin="Germany", cylinders=4, horsepower=46,
        weight_lbs=1835, miles_per_gallon=26,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    """Files that tasks write go into the test's own folder."""
    settings.MEDIA_ROOT = tmp_path


def test_the_mutation_reprices_the_cars(rail_tasks, client, beetle):
    answer = client.post("/graphql/", {"query": REPRICE}, content_type="application/json").json()
    assert answer["data"]["repriceCars"]["status"] == "pending"
    rail_tasks.assert_enqueued(reprice_cars, percent=Decimal(10))

    (handle,) = rail_tasks.run()
    assert handle.result() == {"cars": 1, "percent": "10"}
    beetle.refresh_from_db()
    # 4,000 dollars, 45 for each horsepower, 120 for each year since 1970; and a tenth of it all.
    assert beetle.price == Decimal("9317.00")


def test_every_tick_is_a_task(rail_tasks, client):
    query = "mutation { a: tick(number: 1) { taskId } b: tick(number: 2) { taskId } }"
    client.post("/graphql/", {"query": query}, content_type="application/json")
    assert [it.arguments for it in rail_tasks.enqueued(tick)] == [{"number": 1}, {"number": 2}]


def test_a_chart(beetle, tmp_path):
    run = run_task(draw_chart, chart=Chart.FUEL_ECONOMY)
    assert run.result["rows"] == 1
    assert [it.percent for it in run.progress] == [10, 50, 90]
    (file,) = Path(tmp_path, "charts").iterdir()
    assert file.stat().st_size == run.result["bytes"]


@pytest.mark.django_db
def test_a_chart_of_nothing():
    with pytest.raises(Fail, match="Run the imports first"):
        run_task(draw_chart, chart=Chart.AIRPORT_MAP)


def test_the_supplier_answers_the_third_call(rail_tasks):
    handle = flaky_sync.enqueue()
    for seconds, status in [(0, "retrying"), (0.8, "retrying"), (1.6, "completed")]:
        rail_tasks.advance(seconds)
        (ran,) = rail_tasks.run()
        assert ran.status == status
    assert handle.result() == {"calls": 3, "answer": "All in stock."}


async def test_the_page_sees_a_task_of_its_visitor(rail_tasks, beetle, django_user_model):
    visitor = await django_user_model.objects.acreate(username="demo")
    await reprice_cars.using(owner=visitor).aenqueue()
    updates = subscribe(FOLLOW, user=visitor)
    seen = [await anext(updates)]
    await rail_tasks.arun()
    seen.append(await anext(updates))
    await updates.aclose()
    assert seen == [
        {"myTaskUpdates": {"name": "reprice_cars", "status": "pending", "progress": 0}},
        {"myTaskUpdates": {"name": "reprice_cars", "status": "completed", "progress": 100}},
    ]
