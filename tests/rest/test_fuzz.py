"""Attack: requests at random, made from the OpenAPI document. Each answer is one that it foresees.

In short in every run; `make test-long` sends tens of thousands, and looks at the memory.
"""

from __future__ import annotations

import gc
import json
import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from rail_async_tasks.rest.openapi import document
from tests.rest import shelf
from tests.rest.conftest import Rest, finished, start

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

SEED = int(time.time())
MEBIBYTE = 1024 * 1024
TEXTS = (
    "", " ", "0", "1", "50", "500", "501", "-1", "1e2", "9" * 100, "completed", "PENDING",
    "default",
    "a\0b", "é", "\U0001f600", "' OR 1=1 --", "../..", "%2e%2e", "[]", "{}", "null", "x" * 3000,
    "01890a5d-ac96-774b-bcce-b302099a8057",
)  # fmt: skip
HEADERS = (
    ("accept", "text/event-stream"), ("accept", "text/html"), ("accept", ""), ("accept", "*/*;q=x"),
    ("authorization", "Bearer x"), ("authorization", "Bearer"), ("authorization", "Basic eA=="),
    ("content-type", "multipart/form-data"), ("content-type", "application/json; charset=x"),
    ("last-event-id", "1.2"), ("last-event-id", "x"), ("if-none-match", '"x"'),
    ("x-csrftoken", "x"), ("accept-language", "x" * 300),
)  # fmt: skip
METHODS = ("GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")


class Requests:
    """Makes requests: paths, queries, headers and bodies."""

    def __init__(self, random_: random.Random, ids: list[str]) -> None:
        self._random, self._ids = random_, ids
        self._paths = [it.removeprefix("/api/v1/tasks/") for it in document()["paths"]]
        self._names = ["status", "name", "queue", "limit", "after", "limit", "page", "a\0"]

    def one(self) -> tuple[str, str, dict[str, Any]]:
        """The method, the path and what else Django's client takes."""
        pick, chance = self._random.choice, self._random.random
        path = pick(self._paths).replace("{id}", self._id())
        if chance() < 0.05:
            path += quote(pick([it for it in TEXTS if "/" not in it and "%" not in it]))[:200]
        if chance() < 0.4:
            pairs = (f"{quote(pick(self._names))}={quote(pick(TEXTS))}" for _ in range(2))
            path += "?" + "&".join(pairs)
        options: dict[str, Any] = {}
        if chance() < 0.3:
            options["headers"] = dict([pick(HEADERS)])
        if chance() < 0.2:
            options["data"] = pick([b"{}", b"[1]", b"\xff" * 100, json.dumps({"a": 1}).encode()])
        return pick(METHODS), path, options

    def _id(self) -> str:
        if self._random.random() < 0.6:
            return self._random.choice(self._ids)
        # A server decodes a slash before it looks for a view: that is another path.
        texts = [it for it in TEXTS[1:] if "/" not in it and "%" not in it]
        return quote(self._random.choice(texts), safe="")


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged as an error, whatever was sent."""
    # Each 400 is a WARNING whose record pytest keeps, with its request: that would be the memory.
    requests = logging.getLogger("django.request")
    before = requests.level
    requests.setLevel(logging.ERROR)
    try:
        with caplog.at_level(logging.WARNING):
            yield
    finally:
        requests.setLevel(before)
    loud = [it for it in caplog.records if it.levelno >= logging.ERROR or it.exc_info]
    assert [(it.name, it.getMessage(), it.exc_text) for it in loud] == []


def used() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize(
    ("seed", "count"),
    [
        pytest.param(1, 120, id="short"),
        pytest.param(SEED, 20_000, id="long", marks=pytest.mark.long),
    ],
)
async def test_requests_at_random(ada: Rest, anonymous: Rest, seed: int, count: int) -> None:
    """No 5xx, and no status, body or header that the document does not have."""
    random_ = random.Random(seed)
    ids = [
        await finished(shelf.echo, ada),
        await finished(shelf.echo),
        await start(shelf.wait, ada),
    ]
    requests, before, good = Requests(random_, ids), 0, 0
    for number in range(count):
        method, path, options = requests.one()
        rest = random_.choice([ada, anonymous])
        response = await rest.send(method, path, **options)
        assert response.status_code < 500, (seed, number, method, path, options, response.content)
        good += response.status_code < 400
        if response.streaming:
            response.close()
        if number == count // 4:
            before = used()
    assert good > count / 20
    if count > 1000:
        assert used() - before < 50 * MEBIBYTE
