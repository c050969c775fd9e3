"""Bad input, through every edge: a clear refusal and no row, or a failed row with its code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strawberry.scalars import JSON

from rail_async_tasks import InvalidArguments, TaskError, UnknownQueue
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.models import TaskExecution
from tests.acceptance.edges import (
    EDGES,
    Edge,
    Http,
    Python,
    PythonThread,
    Refused,
    Rest,
    Socket,
    Task,
)
from tests.projects.acceptance.bad_tasks import GIFTS, HALF, take
from tests.projects.acceptance.tasks import climb
from tests.support.places import Place
from tests.support.server import ROOT, Server, running_server

GRACE = 0.3  # seconds
CLING = 30.0  # seconds for which a body swallows its cancel: a watcher must not wait for it

# PostgreSQL keeps neither a NUL nor half a pair of surrogates: these cells have found faults.
FOUND = ["NUL", "nul", "surrogate", "half", "data[0].text", "ud83d"]
by_python = pytest.mark.parametrize("kind", [Python, PythonThread], ids=["loop", "thread"])
by_graphql = pytest.mark.parametrize("kind", [Http, Socket], ids=["http", "socket"])


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Server]:
    """Each database with another loop; what will not end is given up soon."""
    loop = {"sqlite": "uvloop", "postgres": "asyncio"}[place.kind]
    with running_server(place.env, loop=loop, drain_seconds=1, cancel_grace_seconds=GRACE) as it:
        yield it


async def rows() -> int:
    return await TaskExecution.objects.acount()


# --- what is given to a start --------------------------------------------------------------------

TAKE = "mutation($data: JSON!, $number: Int = 0, $share: Float = 0) {"
TAKE += " it: take(data: $data, number: $number, share: $share) { taskId } }"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# Variables, and a word of the message.
REFUSED_BY_US: list[tuple[dict[str, Any], str]] = [
    ({"data": "x" * 65_536}, "65536"),
    ({"data": ["x" * 10_000] * 10}, "max_args_bytes"),
    ({"data": "a\0b"}, "NUL"),
    ({"data": {"a\0b": 1}}, "NUL"),
    ({"data": HALF}, "surrogate"),
    ({"data": [{"text": HALF}]}, "data[0].text"),
    ({"data": nested(200)}, "nested"),
    ({"data": float("nan")}, "NaN"),
    ({"data": [float("inf")]}, "infinity"),
]  # fmt: skip
REFUSED_BY_GRAPHQL: list[tuple[dict[str, Any], str]] = [
    ({}, "$data"),
    ({"data": 1, "number": "7"}, "Int"),
    ({"data": 1, "number": 1.5}, "Int"),
    ({"data": 1, "number": 2**31}, "32-bit"),
    ({"data": 1, "number": 2**70}, "32-bit"),
    ({"data": 1, "number": [1]}, "Int"),
    ({"data": 1, "share": "0.5"}, "Float"),
    ({"data": 1, "share": float("nan")}, "Float"),
    ({"data": 1, "share": float("inf")}, "Float"),
    ({"data": 1, "share": True}, "Float"),
]


def errors_of(answer: Any) -> list[dict[str, Any]]:
    """Of a GraphQL operation, over HTTP or a WebSocket."""
    if isinstance(answer, tuple):
        assert answer[0] in (200, 400), answer
        found: list[dict[str, Any]] = json.loads(answer[2])["errors"]
        return found
    frame = json.loads(answer[0])
    return list(frame["payload"] if frame["type"] == "error" else frame["payload"]["errors"])


@pytest.mark.covering("place", "kind", "variables", keep=FOUND)
@by_graphql
@pytest.mark.parametrize(("variables", "word"), REFUSED_BY_US, ids=lambda it: repr(it)[:30])
async def test_arguments_that_cannot_be_kept(
    server: Server, kind: type[Any], variables: dict[str, Any], word: str
) -> None:
    """INVALID_ARGUMENT, with the reason, and no row."""
    before = await rows()
    answer = await kind(server).operate({"query": TAKE, "variables": variables})
    [error] = errors_of(answer)
    assert error["extensions"] == {"code": "INVALID_ARGUMENT"}
    assert word in error["message"]
    assert await rows() == before


@pytest.mark.covering("place", "kind", "variables")
@by_graphql
@pytest.mark.parametrize(("variables", "word"), REFUSED_BY_GRAPHQL, ids=lambda it: repr(it)[:30])
async def test_arguments_of_another_type(
    server: Server, kind: type[Any], variables: dict[str, Any], word: str
) -> None:
    """GraphQL refuses the operation before anything is started."""
    before = await rows()
    answer = await kind(server).operate({"query": TAKE, "variables": variables})
    assert [error for error in errors_of(answer) if word not in error["message"]] == []
    assert await rows() == before


LITERALS = [
    'take(data: "x", number: "7")',
    'take(data: "x", nothing: 7)',
    "take",
    'take(data: "\\ud83d")',
    f"take(data: {'[' * 3000}1{']' * 3000})",
    f"take(data: 1, number: {2**70})",
    "take(data: 1, share: NaN)",
    'climb(steps: "x", pause: 0)',
    "climb(steps: 1, pause: [0])",
    "climb(steps: null, pause: 0)",
]


@pytest.mark.covering("place", "kind", "call", keep=FOUND)
@by_graphql
@pytest.mark.parametrize("call", LITERALS, ids=lambda it: it[:40])
async def test_a_mutation_that_is_written_wrong(server: Server, kind: type[Any], call: str) -> None:
    """The answer says so, and nothing is started."""
    before = await rows()
    answer = await kind(server).operate({"query": f"mutation {{ it: {call} {{ taskId }} }}"})
    assert all(error["message"] for error in errors_of(answer))
    assert await rows() == before


@by_graphql
async def test_integers_beyond_64_bits_pass_through_json(server: Server, kind: type[Any]) -> None:
    """Such an argument of type JSON comes back as it was, from every edge."""
    big = [2**70, -(2**63) - 1, 2**64, 2**53 + 1]
    answer = await kind(server).operate({"query": TAKE, "variables": {"data": big}})
    content = answer[2] if isinstance(answer, tuple) else answer[0]
    body = json.loads(content)
    data = body["data"] if "data" in body else body["payload"]["data"]
    task_id = data["it"]["taskId"]
    last = await kind(server).until(task_id, status="completed")
    assert last["result"] == big
    for edge in EDGES:
        assert (await edge(server).ask("read", id=task_id))["result"] == big


class Loop(list[Any]):
    """A list that contains itself."""

    def __init__(self) -> None:
        super().__init__()
        self.append(self)


ARGUMENTS: list[tuple[Any, dict[str, Any], str]] = [
    (climb, {"steps": "3", "pause": 0}, "steps"),
    (climb, {"steps": 3}, "pause"),
    (climb, {"steps": 3, "pause": 0, "labels": "x"}, "label"),
    (climb, {"steps": True, "pause": 0}, "steps"),
    (climb, {"steps": 1.5, "pause": 0}, "steps"),
    (climb, {"steps": 1, "pause": float("nan")}, "pause"),
    (climb, {"steps": 1, "pause": 0, "label": None}, "label"),
    (climb, {"steps": 1, "pause": 0, "label": b"x"}, "label"),
    (climb, {"steps": 1, "pause": 0, "label": "a\0b"}, "NUL"),
    (climb, {"steps": 1, "pause": 0, "label": HALF}, "surrogate"),
    (climb, {"steps": 1, "pause": 0, "label": "x" * 65_536}, "max_args_bytes"),
    (take, {"data": Loop()}, "contains itself"),
    (take, {"data": object()}, "object"),
    (take, {"data": {1: 2}}, "key"),
    (take, {"data": nested(200)}, "nested"),
    (take, {"data": nested(100_000)}, "nested"),
    (take, {"data": 10**5000}, "digits"),
    (take, {"data": "x" * 50_000_000}, "max_args_bytes"),
]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("declared", "arguments", "word"),
    ARGUMENTS,
    ids=[f"{number}-{word}" for number, (_, _, word) in enumerate(ARGUMENTS)],
)
async def test_arguments_that_python_gives_wrong(
    place: Place, declared: Any, arguments: dict[str, Any], word: str
) -> None:
    """InvalidArguments that names the argument or the reason; nothing was stored."""
    before = await rows()
    with pytest.raises(InvalidArguments, match=word):
        await declared.aenqueue(**arguments)
    assert await rows() == before


USING: list[dict[str, Any]] = [
    {"queue": "no such queue"},
    {"queue": ""},
    {"queue": "a\0b"},
    {"queue": HALF},
    {"queue": ["default"]},
    {"queue": 3},
    {"priority": "high"},
    {"priority": 2**31},
    {"priority": -(2**70)},
    {"priority": 1.5},
    {"priority": True},
    {"delay": -1},
    {"delay": True},
    {"delay": "soon"},
    {"delay": 1e300},
    {"run_after": "tomorrow"},
    {"unique_key": 3},
    {"unique_key": HALF},
    {"tenant_id": "a\0b"},
    {"tenant_id": HALF},
    {"tenant_id": "x" * 300},
]


@pytest.mark.covering("place", "kind", "using", keep=[*FOUND, "x00"])
@by_python
@pytest.mark.parametrize("using", USING, ids=repr)
async def test_starts_that_cannot_be(
    server: Server, kind: type[Edge], using: dict[str, Any]
) -> None:
    """`using(...)` with what it does not take: a refusal that names it, and no row."""
    before = await rows()
    refused = await kind(server).ask("start", task="take", data=1, using=using)
    assert isinstance(refused, Refused), refused
    assert refused.code == "INVALID_ARGUMENT"
    assert str(next(iter(using))) in refused.message
    assert await rows() == before


@by_python
async def test_any_text_is_a_unique_key(server: Server, kind: type[Edge]) -> None:
    """Only its hash is stored, so it may be long."""
    for key in ("é", "x" * 100_000):
        started = await kind(server).ask("start", task="take", data=1, using={"unique_key": key})
        assert (await kind(server).until(started["id"], status="completed"))["result"] == 1


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_an_unknown_queue_is_refused_with_the_known_ones(place: Place) -> None:
    """By an error of its own, with the code of wrong arguments."""
    before = await rows()
    with pytest.raises(UnknownQueue, match="default, high, low"):
        await take.using(queue="hihg").aenqueue(data=JSON(1))
    assert UnknownQueue.code == InvalidArguments.code
    assert issubclass(UnknownQueue, TaskError)
    assert await rows() == before


# --- what a list is asked for --------------------------------------------------------------------


# JSON can spell half a surrogate pair; a URL cannot, and says something else instead.
@pytest.mark.covering("place", "kind", "name", keep=["postgres"])
@pytest.mark.parametrize("kind", [it for it in EDGES if it is not Rest])
@pytest.mark.parametrize("name", ["status", "name", "queue", "after"])
async def test_a_filter_with_half_a_pair(
    server: Server, place: Place, kind: type[Edge], name: str
) -> None:
    """Refused as any other text that nothing is called by."""
    refused = await kind(server, place.cookies["ada"]).ask("list", **{name: f"a{HALF}"})
    assert isinstance(refused, Refused), refused
    assert refused.code == "INVALID_ARGUMENT"
    assert name in refused.message


@pytest.mark.parametrize(
    "query",
    ["name=%ED%A0%BD", "queue=%ff", "limit=1e3", "limit=-1", "limit=99999999999999999999",
     "limit=%D9%A1", "after=%00", "status=%00", "page=2", "limit=1&limit=2", "name=" + "x" * 5000],
)  # fmt: skip
async def test_queries_of_rest(server: Server, query: str) -> None:
    """Refused by name, or an honest empty page; never an accident."""
    status, _, content = await Rest(server)._request("GET", f"api/v1/tasks/?{query}")
    body = json.loads(content)
    if status == 200:
        assert body == {"results": [], "next": None}
        assert query.startswith(("name=", "queue="))
    else:
        assert (status, body["error"]["code"]) == (400, "INVALID_ARGUMENT")
        assert query.partition("=")[0] in body["error"]["message"]


# --- what a body gives and does ------------------------------------------------------------------

WORDS = {
    "an object": "result.rows[0].price: object",
    "a rude object": "_Rude",
    "a class": "type",
    "a set": "set",
    "bytes": "bytes",
    "nan": "result.price: JSON has no NaN",
    "infinity": "result[0]: JSON has no NaN and no infinity",
    "a key that is a number": "a key of type int",
    "nul": "result.text: has a NUL character",
    "a key with nul": "NUL",
    "half a pair": "result[0]: has an unpaired surrogate",
    "a key with half a pair": "unpaired surrogate",
    "a cycle": "contains itself",
    "nesting": "nested",
    "many digits": "too many digits",
}
TOO_LARGE = {"50 MB": "50000002", "just too large": "262145"}
GOOD = sorted(set(GIFTS) - set(WORDS) - set(TOO_LARGE))


async def ended(server: Server, field: str, cookie: str = "", **arguments: Any) -> Task:
    """The final task, which every edge shows alike to its owner."""
    edge = Http(server, cookie)
    started = await edge.ask("start", task=field, **arguments)
    assert not isinstance(started, Refused), started
    last: Task = (await edge.ask("watch", id=started["id"]))[-1]
    for other in EDGES:
        shown = await other(server, cookie).ask("read", id=started["id"])
        same = ("status", "error", "error_code", "result", "attempts", "progress_message")
        assert [shown[name] for name in same] == [last[name] for name in same]
    return last


@pytest.mark.covering("place", "field", "what", keep=FOUND)
@pytest.mark.parametrize("field", ["give", "give_in_thread"])
@pytest.mark.parametrize("what", [*WORDS, *TOO_LARGE])
async def test_a_result_that_cannot_be_kept(server: Server, field: str, what: str) -> None:
    """The task fails with the code and the place, once: the body has run."""
    last = await ended(server, field, what=what)
    code = "result_too_large" if what in TOO_LARGE else "result_not_serializable"
    assert (last["status"], last["error_code"], last["result"]) == ("failed", code, None)
    assert {**WORDS, **TOO_LARGE}[what] in last["error"]
    assert (last["attempts"], last["retry_count"]) == (1, 0)


@pytest.mark.parametrize("what", GOOD)
async def test_a_result_that_only_looks_bad(server: Server, what: str) -> None:
    """It is kept as it is."""
    last = await ended(server, "give", what=what)
    assert (last["status"], last["result"]) == ("completed", GIFTS[what]())


@pytest.mark.covering("place", "field", "what", keep=FOUND)
@pytest.mark.parametrize("field", ["throw", "throw_in_thread"])
@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("unspeakable", "Unspeakable (its __str__ raised)"),
        ("nul", "a\ufffdb"),
        ("half a pair", "a?b"),
        ("long", "é" * 2046 + "…"),
        ("silent", "ValueError"),
    ],
)
async def test_an_error_whose_text_cannot_be_made(
    server: Server, place: Place, field: str, what: str, text: str
) -> None:
    """The task fails all the same, and says what can be said, to who is logged in."""
    last = await ended(server, field, place.cookies["ada"], what=what)
    assert (last["status"], last["error_code"], last["error"]) == ("failed", "exception", text)


@pytest.mark.parametrize(
    ("what", "shown"), [("150", "150"), ("-1", "-1"), ("nan", "nan"), ("text", "'50'")]
)
async def test_progress_that_is_no_percentage(
    server: Server, place: Place, what: str, shown: str
) -> None:
    """ValueError in the body, which fails by it unless it is caught."""
    last = await ended(server, "report", place.cookies["ada"], what=what)
    assert (last["status"], last["error_code"], last["progress"]) == ("failed", "exception", 0)
    assert last["error"] == f"progress is a percentage from 0 to 100, not {shown}"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nul", "a\ufffdb"),
        ("half a pair", "a?b"),
        ("long", "é" * 1022 + "…"),
        ("a number", "7"),
    ],
)
async def test_a_message_of_progress_is_cleaned(server: Server, what: str, message: str) -> None:
    """It is no reason to fail."""
    last = await ended(server, "report", what=what)
    assert (last["status"], last["progress_message"]) == ("completed", message)


@pytest.mark.covering("place", "kind")
@pytest.mark.parametrize("kind", EDGES)
async def test_a_body_that_swallows_its_cancel(server: Server, kind: type[Edge]) -> None:
    """It is given up after the grace period: the row is final while the body goes on."""
    edge = kind(server)
    started = await edge.ask("start", task="cling", seconds=CLING)
    await edge.until(started["id"], status="running", progress=5)
    began = time.monotonic()
    assert (await edge.ask("cancel", id=started["id"]))["cancel_requested"] is True
    last = (await edge.ask("watch", id=started["id"]))[-1]
    assert (last["status"], last["error_code"]) == ("cancelled", "cancelled")
    assert GRACE * 0.9 < time.monotonic() - began < CLING


# --- settings ------------------------------------------------------------------------------------

PROJECT = {
    "manage.py": """
        import os, sys
        from django.core.management import execute_from_command_line
        os.environ["DJANGO_SETTINGS_MODULE"] = "root.settings"
        execute_from_command_line(sys.argv)
    """,
    "root/__init__.py": "",
    "root/settings.py": """
        import json
        from pathlib import Path
        from tests.settings import *
        INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
        ROOT_URLCONF = "root.urls"
        ASGI_APPLICATION = "root.asgi.application"
        RAIL_DJANGO_GRAPHQL = json.loads(Path(__file__).with_name("wrong.json").read_text())
    """,
    "root/asgi.py": """
        from rail_async_tasks.asgi import get_asgi_application
        application = get_asgi_application()
    """,
    "root/urls.py": """
        from django.urls import include, path
        from root import asgi
        from shop import schema, tasks
        urlpatterns = [path("", include("rail_async_tasks.urls"))]
    """,
    "shop/__init__.py": "",
    "shop/tasks.py": """
        from rail_async_tasks import task_mutation
        @task_mutation
        async def sell(item: str) -> None:
            '''Sell it.'''
    """,
    "shop/schema.py": """
        import strawberry
        from rail_async_tasks.graphql.schema import get_schema
        from shop.tasks import sell
        @strawberry.type
        class Mutations:
            sell = sell
    """,
}

KEYS = sorted(TaskSettings.__dataclass_fields__)


def misspelt(key: str) -> str:
    return key + key[-1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project on disk, whose URLs import its schema, its tasks and its ASGI application."""
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


def manage(project: Path, settings: Any, *command: str) -> subprocess.CompletedProcess[str]:
    (project / "root/wrong.json").write_text(json.dumps(settings))
    return subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *command, "--no-color"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_one_check_reports_every_wrong_setting(project: Path) -> None:
    """Each key misspelt and each of a wrong type, in one run, each with what to do about it."""
    # A dict is wrong everywhere but where a dict is asked for.
    wrong = {key: 3.5 if key in ("queues", "jwt", "limits") else {"not": ["this"]} for key in KEYS}
    done = manage(
        project,
        {
            "task_settings": {**wrong, **{misspelt(key): 1 for key in KEYS}},
            "schema_settings": {
                "query_extensions": 7,
                "mutation_extensions": ["nowhere.Type", None],
                "subscription_extensions": ["shop.schema.Missing"],
            },
        },
        "check",
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    said = re.split(r"\n\n?(?=\S)", done.stderr)
    for key in KEYS:
        own = [it for it in said if f'task_settings["{key}"] ' in it]
        assert len(own) == 1, (key, own)
        assert re.search(r"\(rail_async_tasks\.E00[356]\)", own[0]), own
        assert "HINT: " in own[0]
        [other] = [it for it in said if f'task_settings["{misspelt(key)}"] ' in it]
        assert "(rail_async_tasks.E002)" in other
        assert f'HINT: Did you mean "{key}"?' in other
    for place in (
        'schema_settings["query_extensions"] ',
        'schema_settings["mutation_extensions"][1] ',
        "nowhere.Type",
        "shop.schema.Missing",
    ):
        assert place in done.stderr
    assert f"System check identified {2 * len(KEYS) + 4} issues" in done.stderr


def test_right_settings_are_silent(project: Path) -> None:
    """The same project without mistakes."""
    settings = {"schema_settings": {"mutation_extensions": ["shop.schema.Mutations"]}}
    done = manage(project, settings, "check", "--fail-level=WARNING")
    assert (done.returncode, done.stderr) == (0, "")
