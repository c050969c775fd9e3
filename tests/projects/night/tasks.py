"""Tasks that charge cards by a service, which is up while a file exists."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import strawberry

from rail_async_tasks import task, task_mutation

# The service is up while there is such a file.
SERVICE = "NIGHT_SERVICE"


class PaymentServiceDown(Exception):
    pass


def connect() -> None:
    """Raises while the service is away."""
    if not Path(os.environ.get(SERVICE, "/nowhere")).exists():
        raise PaymentServiceDown("connection to payments:443 refused")


@task_mutation(queue="payments", max_retries=0)
async def charge_card(invoice: int) -> str:
    """Charge the card of an invoice."""
    connect()
    return f"charged invoice {invoice}"


@task_mutation
async def hold(seconds: float) -> str:
    """Run for a while."""
    await asyncio.sleep(seconds)
    return "held"


@task(max_retries=0)
async def refuse(text: str) -> None:
    """Fail with a text."""
    raise ValueError(text)


@task(cron="0 3 * * *", queue="low")
async def nightly_report() -> str:
    """Sum up the day."""
    return "summed up"


@task(cron="*/5 * * * *", queue="low", catch_up=True)
async def sync_catalogue() -> str:
    """Fetch the suppliers' catalogue."""
    return "fetched"


@strawberry.type
class TaskMutations:
    charge_card = charge_card
    hold = hold
