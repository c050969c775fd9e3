"""What does a mutation over HTTP take behind our view, and behind the stock one beside it?"""

from __future__ import annotations

import json
import time
from typing import Any

from benchmarks.harness import Case, Metrics, Question, Target
from benchmarks.http_load import Load, load, logged_in, post
from benchmarks.processes import cpu_seconds
from benchmarks.web_server import serving

CONNECTIONS = 16
ANSWER = "{ taskId status error }"
CONSTANT = f"mutation Constant($number: Int!) {{ constant(number: $number) {ANSWER} }}"
LIST = "query List($number: Int!) { tasks(limit: $number) { id name status progress } }"
START = f"mutation Start($number: Int!) {{ start(number: $number) {ANSWER} }}"


async def constant(count: int, middleware: str) -> Metrics:
    return await _measured("/ours/", CONSTANT, count, middleware)


async def tracked(count: int, middleware: str) -> Metrics:
    """A mutation that starts a task: its row is committed before the answer."""
    return await _measured("/ours/", START, count, middleware)


async def stock(count: int, middleware: str) -> Metrics:
    """The constant mutation behind `strawberry.django.views.AsyncGraphQLView`."""
    return await _measured("/stock/", CONSTANT, count, middleware)


async def listed(count: int, middleware: str) -> Metrics:
    """A query of the caller's tasks."""
    found = await _measured("/ours/", LIST, count, middleware, good=b'"tasks":')
    return {"requests/s": found.pop("mutations/s"), **found}


async def _measured(
    path: str, document: str, count: int, middleware: str, good: bytes = b'"status":"pending"'
) -> Metrics:
    headers = {} if middleware == "none" else {"Cookie": await logged_in()}
    body = json.dumps({"query": document, "variables": {"number": 1}}).encode()
    request = post(path, body, headers)
    with serving(middleware) as (pid, port):
        await load(port, request, good, count=max(count // 10, 32), connections=CONNECTIONS)
        cpu, begun = cpu_seconds([pid]), time.perf_counter()
        found = await load(port, request, good, count=count, connections=CONNECTIONS)
        seconds, cpu = time.perf_counter() - begun, cpu_seconds([pid]) - cpu
    return {
        "mutations/s": count / seconds,
        "server CPU ms": max(cpu, 0.01) / count * 1e3,
        **first_bytes(found),
    }


def first_bytes(found: Load) -> Metrics:
    """Returns how long requests waited for the first byte of their answers."""
    ordered = sorted(found.first_byte)
    return {
        "first byte p50 ms": ordered[len(ordered) // 2] * 1e3,
        "first byte p99 ms": ordered[int(len(ordered) * 0.99)] * 1e3,
    }


def _case(label: str, measure: str, least: float, *, quick: bool = False, **more: Any) -> Case:
    return Case(
        label=label,
        measure=f"{__name__}:{measure}",
        beside=f"{__name__}:stock",
        parameters={"count": 2000, "middleware": "none", **more},
        quick={"count": 40} if quick else None,
        database="sqlite",
        targets={"mutations/s": Target(least, of_ratio=True)},
    )


QUESTION = Question(
    name="endpoint",
    title="A mutation over HTTP, 16 connections",
    beside="a constant mutation behind the stock `AsyncGraphQLView`, on the same server",
    cases=[
        _case("constant", "constant", 2, quick=True),
        _case("starts a task", "tracked", 1.3),
        _case("constant, with a session", "constant", 1.2, middleware="session"),
        _case("starts a task, with a session", "tracked", 1, middleware="session"),
    ],
)
