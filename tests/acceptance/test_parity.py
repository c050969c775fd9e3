"""One scenario through every edge: the same tasks field by field, and the same refusals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client as DjangoClient
from django.utils import timezone

from rail_async_tasks.models import TaskExecution
from tests.acceptance.edges import EDGES, Edge, Http, Refused, Rest, Task
from tests.support.places import Place
from tests.support.server import Server, running_server
from tests.support.tokens import HS, good

MISSING = "01890a5d-ac96-774b-bcce-b302099a8057"
NOT_FOUND = Refused("NOT_FOUND", "Task not found.")
UNAUTHENTICATED = Refused("UNAUTHENTICATED", "Authentication is required.")
ONE_TASK = ("read", "cancel", "retry", "watch")
TIMES = (
    "created_at", "run_after", "started_at", "completed_at", "expires_at", "updated_at",
)  # fmt: skip

MALFORMED = [
    "no id",
    "0",
    "x" * 300,
    MISSING[:-1],
    MISSING.replace("-", ""),
    "{" + MISSING + "}",
    f"urn:uuid:{MISSING}",
    "é",
    "' OR 1=1 --",
    "a\0b",
]

pytestmark = pytest.mark.turns("place")
on_one_database = pytest.mark.parametrize("place", ["sqlite"], indirect=True)
through_every_edge = pytest.mark.parametrize("kind", EDGES, ids=lambda it: it.__name__.lower())


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Server]:
    """Each database with another loop; one queue takes one task at a time."""
    loop = {"sqlite": "asyncio", "postgres": "uvloop"}[place.kind]
    queues = {"alone": {"concurrency": 1}}
    with running_server(place.env, loop=loop, drain_seconds=1, jwt=HS, queues=queues) as it:
        yield it


class People:
    """Makes people with sessions: one for each scenario, so that lists are its own."""

    def __init__(self, place: Place) -> None:
        self.cookies: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        for kind in EDGES:
            self._add(kind.__name__)
        self._add("other")

    def _add(self, name: str) -> None:
        user, _ = User.objects.get_or_create(username=f"parity {name}")
        client = DjangoClient()
        client.force_login(user)
        session = client.cookies["sessionid"].value
        self.cookies[name] = f"{django_settings.SESSION_COOKIE_NAME}={session}"
        self.keys[name] = str(user.pk)


@pytest.fixture(scope="module")
def people(place: Place) -> People:
    return People(place)


# --- the same results ----------------------------------------------------------------------------


class Names:
    """Writes tasks so that those of different scenarios compare: names for ids, no clock."""

    def __init__(self, owner: str) -> None:
        self.known = {owner: "owner"}

    def add(self, name: str, task: Task) -> Task:
        self.known[task["id"]] = name
        return self.plain(task)

    def plain(self, task: Task) -> Task:
        written = dict(task)
        for column in ("id", "owner_id", "parent_id"):
            written[column] = None if task[column] is None else self.known[task[column]]
        for column in TIMES:
            written[column] = None if task[column] is None else moment(task[column]) and "a time"
        return written

    def said(self, answer: Any) -> Any:
        return answer if isinstance(answer, Refused) else self.plain(answer)


def moment(text: str) -> datetime:
    """A time as an edge writes it, which must say its zone."""
    found = datetime.fromisoformat(text)
    assert found.utcoffset() == timedelta(0)
    return found


async def scenario(edge: Edge, owner: str) -> dict[str, Any]:
    """Every operation in turn. Returns what each one said."""
    names, said = Names(owner), {}

    said["start"] = names.add("runs", await edge.ask("start", task="linger_alone"))
    runs = await start_of(edge, "runs", names)
    await edge.until(runs, status="running", progress=1)
    said["read of what runs"] = names.said(await edge.ask("read", id=runs))
    said["retry of what runs"] = names.said(await edge.ask("retry", id=runs))

    said["start of what waits"] = names.add("waits", await edge.ask("start", task="linger_alone"))
    waits = await start_of(edge, "waits", names)
    said["read of what waits"] = names.said(await edge.ask("read", id=waits))
    said["retry of what waits"] = names.said(await edge.ask("retry", id=waits))
    said["cancel of what waits"] = names.said(await edge.ask("cancel", id=waits))
    said["cancel of what is cancelled"] = names.said(await edge.ask("cancel", id=waits))
    said["watch of what is cancelled"] = [
        names.plain(it) for it in await edge.ask("watch", id=waits)
    ]

    said["retry"] = names.add("again", await edge.ask("retry", id=waits))
    again = await start_of(edge, "again", names)
    said["lists"] = [
        [names.plain(it) for it in await edge.ask("list", **asked)]
        for asked in (
            {"status": "pending"},
            {"status": "cancelled"},
            {"queue": "alone", "limit": 2},
            {"queue": "alone", "limit": 2, "after": waits},
            {"name": "acceptance.nap"},
            {"status": "running", "name": "acceptance.linger_alone", "queue": "alone"},
        )
    ]

    said["cancel of what runs"] = names.said(await edge.ask("cancel", id=runs))
    said["watch of what was asked to end"] = names.plain((await edge.ask("watch", id=runs))[-1])
    await edge.until(again, status="running", progress=1)
    said["cancel of the retry"] = names.said(await edge.ask("cancel", id=again))
    await edge.until(again, status="cancelled")
    said["read of the retry"] = names.said(await edge.ask("read", id=again))

    started = await edge.ask("start", task="climb", steps=3, pause=1.0, label="é\n")
    said["start with arguments"] = names.add("climbs", started)
    seen = await edge.ask("watch", id=started["id"])
    versions = [(it["seq"], it["step"]) for it in seen]
    assert versions == sorted(set(versions))
    # A watcher that comes late on a busy machine sees the last steps, but some of them at work.
    assert any(it["status"] == "running" and it["step"] > 0 for it in seen)
    assert seen[-1]["progress_message"] == "step 3"
    said["the end of what was watched"] = names.plain(seen[-1])
    said["cancel of what has completed"] = names.said(await edge.ask("cancel", id=started["id"]))

    fallen = await edge.ask("start", task="fall")
    said["start of what fails"] = names.add("falls", fallen)
    said["what has failed"] = names.plain(await edge.until(fallen["id"], status="failed"))

    everything = await edge.ask("list", limit=500)
    said["everything"] = [names.plain(it) for it in everything]
    pages, after = [], {}
    while page := await edge.ask("list", limit=2, **after):
        pages += page
        after = {"after": page[-1]["id"]}
    assert pages == everything
    return said


async def start_of(edge: Edge, name: str, names: Names) -> str:
    return next(id_ for id_, known in names.known.items() if known == name)


EXPECTED = {
    "read of what runs": ("running", 1, "lingering"),
    "read of what waits": ("pending", 0, None),
    "retry of what runs": "NOT_FINAL",
    "retry of what waits": "NOT_FINAL",
    "cancel of what waits": ("cancelled", 0, None),
    "cancel of what is cancelled": "ALREADY_FINAL",
    "retry": ("pending", 0, None),
    "cancel of what runs": ("running", 1, "lingering"),
    "watch of what was asked to end": ("cancelled", 1, "lingering"),
    "the end of what was watched": ("completed", 100, "step 3"),
    "cancel of what has completed": "ALREADY_FINAL",
    "what has failed": ("failed", 0, None),
}


async def test_every_edge_tells_the_same_story(server: Server, people: People) -> None:
    """Start, read, watch, cancel, retry, list: field by field, and what is refused."""
    stories = {}
    for kind in EDGES:
        edge = kind(server, people.cookies[kind.__name__])
        stories[kind.__name__] = await scenario(edge, people.keys[kind.__name__])
    story_of_http = stories["Http"]
    for step, wanted in EXPECTED.items():
        answer = story_of_http[step]
        if isinstance(answer, Refused):
            assert (step, answer.code) == (step, wanted)
        else:
            found = (answer["status"], answer["progress"], answer["progress_message"])
            assert (step, found) == (step, wanted)
    assert story_of_http["retry"]["parent_id"] == "waits"
    assert story_of_http["the end of what was watched"]["result"] == {"steps": 3, "label": "é\n"}
    assert story_of_http["what has failed"]["error"] == "the data makes no sense"
    assert [[it["id"] for it in page] for page in story_of_http["lists"]] == [
        ["again"], ["waits"], ["again", "waits"], ["runs"], [], ["runs"]
    ]  # fmt: skip
    assert [it["id"] for it in story_of_http["everything"]] == [
        "falls",
        "climbs",
        "again",
        "waits",
        "runs",
    ]
    for name, story in stories.items():
        for step, answer in story_of_http.items():
            assert (name, step, _without_steps(story[step])) == (
                name, step, _without_steps(answer)
            )  # fmt: skip
        assert list(story) == list(story_of_http)


def _without_steps(answer: Any) -> Any:
    """How many reports of progress passed is the clock's to say."""
    if isinstance(answer, list):
        return [_without_steps(it) for it in answer]
    if isinstance(answer, dict) and answer["name"] == "acceptance.climb":
        return {**answer, "step": None}
    return answer


async def test_every_edge_shows_the_same_task(server: Server, people: People) -> None:
    """To the microsecond: one finished task of each end, read, listed and watched everywhere."""
    edges = [kind(server, people.cookies["other"]) for kind in EDGES]
    ids = [
        (await edges[0].ask("start", task="climb", steps=1, pause=0, label="same"))["id"],
        (await edges[2].ask("start", task="fall"))["id"],
        (await edges[5].ask("start", task="linger"))["id"],
    ]
    await edges[0].ask("cancel", id=ids[2])
    for task_id, status in zip(ids, ("completed", "failed", "cancelled"), strict=True):
        await edges[0].until(task_id, status=status)
        shown = [await edge.ask("read", id=task_id) for edge in edges]
        for edge in edges:
            [watched] = await edge.ask("watch", id=task_id)
            listed = await edge.ask("list", status=status, limit=500)
            shown += [watched, *(it for it in listed if it["id"] == task_id)]
        assert len(shown) == 3 * len(edges)
        exact = [
            {name: moment(it) if name in TIMES and it else it for name, it in task.items()}
            for task in shown
        ]
        assert [task for task in exact if task != exact[0]] == []


# --- the same refusals ---------------------------------------------------------------------------


async def whole(edge: Edge, do: str, task_id: str) -> Any:
    """The answer of an edge, and that it is the one refusal."""
    answer = await edge.send(do, id=task_id)
    assert edge.read(do, answer) == NOT_FOUND
    return answer


@pytest.mark.covering("place", "kind")
@through_every_edge
async def test_ids_that_name_nothing_are_all_answered_alike(
    server: Server, people: People, kind: type[Edge]
) -> None:
    """Byte for byte: another owner's, a missing, an expired and a malformed one."""
    theirs = Http(server, people.cookies["other"])
    foreign = (await theirs.ask("start", task="linger"))["id"]
    foreign_final = (await theirs.ask("start", task="fall"))["id"]
    edge = kind(server, people.cookies[kind.__name__])
    expired = (await edge.ask("start", task="fall"))["id"]
    await edge.until(expired, status="failed")
    await theirs.until(foreign_final, status="failed")
    past = timezone.now() - timedelta(seconds=1)
    await TaskExecution.objects.filter(id=expired).aupdate(expires_at=past)
    malformed = MALFORMED if not isinstance(edge, Rest) else [as_path(it) for it in MALFORMED]
    for do in ONE_TASK:
        expected = await whole(edge, do, MISSING)
        for task_id in (foreign, foreign_final, expired, *malformed):
            assert (task_id, await whole(edge, do, task_id)) == (task_id, expected)
        anonymous = kind(server)
        refused = [await anonymous.send(do, id=it) for it in (foreign, MISSING, malformed[0])]
        assert refused == refused[:1] * 3
        assert anonymous.read(do, refused[0]) == NOT_FOUND
    listed = await edge.ask("list", limit=500)
    assert {foreign, foreign_final, expired}.isdisjoint(it["id"] for it in listed)
    assert (await theirs.ask("read", id=foreign))["cancel_requested"] is False
    await theirs.ask("cancel", id=foreign)


def as_path(text: str) -> str:
    """Percent-encoded, so that a URL can carry it."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


LISTS: list[dict[str, Any]] = [
    {"limit": 0},
    {"limit": -1},
    {"limit": 501},
    {"status": "done"},
    {"status": "PENDING"},
    {"after": "no id"},
    {"after": MISSING[:-1]},
    {"name": "a\0b"},
    {"queue": "\0"},
]


# A NUL is what PostgreSQL refuses by itself.
@pytest.mark.covering("kind", "asked", keep=["postgres-{'name'", "postgres-{'queue'"])
@through_every_edge
@pytest.mark.parametrize("asked", LISTS, ids=repr)
async def test_lists_that_cannot_be_are_refused_alike(
    server: Server, people: People, kind: type[Edge], asked: dict[str, Any]
) -> None:
    """With one code, for who is logged in and for who is not, and words for the parameter."""
    for edge in (kind(server, people.cookies["other"]), kind(server)):
        refused = await edge.ask("list", **asked)
        assert isinstance(refused, Refused), refused
        assert refused.code == "INVALID_ARGUMENT"
        assert str(next(iter(asked))) in refused.message


@pytest.mark.covering("place", "kind")
@through_every_edge
async def test_a_bad_bearer_is_refused_everywhere(
    server: Server, people: People, kind: type[Edge]
) -> None:
    """Whatever is asked for, and beside a good session too; a good bearer is its user."""
    key = people.keys["other"]
    own = (await Http(server, people.cookies["other"]).ask("start", task="fall"))["id"]
    rightful = kind(server, bearer=good(key))
    assert (await rightful.until(own, status="failed"))["owner_id"] == key
    for bearer in (good(key, exp=int(time.time()) - 100), good(key)[:-8], "garbage"):
        for cookie in ("", people.cookies["other"]):
            edge = kind(server, cookie, bearer)
            answers = [await edge.ask(do, id=own) for do in ONE_TASK]
            answers += [await edge.ask("list"), await edge.ask("start", task="fall")]
            assert answers == [UNAUTHENTICATED] * 6


@on_one_database
async def test_tasks_that_are_disabled_are_refused_everywhere(place: Place, people: People) -> None:
    """Every operation with the one code."""
    with running_server(place.env, enabled=False) as server:
        for kind in EDGES:
            edge = kind(server, people.cookies["other"])
            answers = [await edge.ask(do, id=MISSING) for do in ONE_TASK]
            answers += [await edge.ask("list"), await edge.ask("start", task="fall")]
            assert answers == [Refused("TASKS_DISABLED", "Tasks are disabled.")] * 6


@on_one_database
async def test_anonymous_callers_are_refused_everywhere_under_deny(
    place: Place, people: People
) -> None:
    """With `anonymous_access` "deny" every request without a credential is refused.

    Python code may start tasks without an owner; no client sees them.
    """
    with running_server(place.env, anonymous_access="deny") as server:
        unowned = await EDGES[0](server).ask("start", task="fall")
        assert unowned["owner_id"] is None
        for kind in EDGES[2:]:
            anonymous, other = kind(server), kind(server, people.cookies["other"])
            answers = [await anonymous.ask(do, id=unowned["id"]) for do in ONE_TASK]
            answers += [await anonymous.ask("list"), await anonymous.ask("start", task="fall")]
            assert answers == [UNAUTHENTICATED] * 6
            assert (await other.ask("start", task="fall"))["status"] == "pending"
            assert [await other.ask(do, id=unowned["id"]) for do in ONE_TASK] == [NOT_FOUND] * 4
