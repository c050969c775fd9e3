"""The probes `tasks/health/live` and `tasks/health/ready`, without authentication."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import Future
from typing import Final, NamedTuple, TypeVar

from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from rail_async_tasks.backends import find_broker
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.own_views import own_view
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.health")
T = TypeVar("T")

# For the answers of the runtime's loop and of the database, in seconds.
LOOP_TIMEOUT: Final = 1.0
DATABASE_TIMEOUT: Final = 2.0
DATABASE_GIVEN_UP: Final = 10.0

OK: Final = "ok"
NO_WORKER: Final = "none is alive: tasks wait until one starts"
NO_LIFESPAN: Final = "the server has sent no ASGI lifespan: see its log"


@own_view
@require_safe
async def live(request: HttpRequest) -> HttpResponse:
    """Returns 503 if only a restart helps, else 200. Reads no database."""
    found = {"runtime": await _loop()}
    if found["runtime"] == OK:
        return JsonResponse({"status": "ok"})
    return _unavailable(found)


@own_view
@require_safe
async def ready(request: HttpRequest) -> HttpResponse:
    """Returns 200 while this process can take work; else 503 with the reason.

    Problems that do not stop the work are warnings, and the status stays 200: a schedule that fails
    does so in every process.
    """
    try:
        get_settings()
        ledger, bus = host.ledger(), host.bus()
    except ConfigurationError:
        logger.exception("Not ready: the settings are wrong")
        return _unavailable({"settings": "wrong"})
    answered = await _database.answers(ledger)
    found = {
        "runtime": _runtime(),
        "database": answered.state,
        "bus": OK if bus.connected else "not connected",
        "writer": _writer(ledger),
    }
    if any(answer != OK for answer in found.values()):
        return _unavailable(found)
    answer: dict[str, object] = {"status": "ok", "checks": found}
    if warnings := _warnings(no_worker=answered.no_worker):
        answer["warnings"] = warnings
    runtime = host.current()
    if runtime is not None and (paused := runtime.paused_queues):
        answer["paused_queues"] = paused  # an operator's wish: no reason to take this process out
    return JsonResponse(answer)


def _unavailable(found: dict[str, str]) -> HttpResponse:
    return JsonResponse({"status": "unavailable", "checks": found}, status=503)


async def _loop() -> str:
    """Checks that the runtime's loop runs. Without one (WSGI, `sync`) nothing can hang."""
    runtime = host.hosted()
    if runtime is None or runtime.loop is asyncio.get_running_loop():
        # It has ended by an error, which is in the log. Not by a drain, after which
        # there is none.
        return OK if runtime is None or runtime.alive else "ended"
    if not runtime.alive:
        return "ended"
    turned: Future[str] = Future()
    host.call_soon(runtime, lambda: turned.set_result(OK))
    return await _in_time(turned, LOOP_TIMEOUT) or _late(LOOP_TIMEOUT)


def _runtime() -> str:
    """Checks that the runtime takes work. One that is not started yet starts with the first."""
    if server.is_going_away():
        return "draining"
    if server.waits_for_tables():
        return "waits for manage.py migrate"
    runtime = host.hosted()
    if runtime is None:
        return OK
    if not runtime.alive:
        return "ended"
    return "draining" if runtime.draining else OK


def _warnings(*, no_worker: bool) -> dict[str, str]:
    """Returns problems that do not stop this process's work."""
    found: dict[str, str] = {}
    if not server.is_announced():
        found["lifespan"] = NO_LIFESPAN
    runtime = host.current()
    if runtime is not None and (failing := runtime.failing_schedules):
        found["schedules"] = f"failing: {', '.join(failing)}"
    if no_worker:
        found["workers"] = NO_WORKER
    return found


def _writer(ledger: Ledger) -> str:
    """Checks that the writer writes, and in time."""
    writers = ledger.writers()
    states = () if writers is None else writers.states()
    if any(state.failing_for is not None for state in states):
        return "failing"
    return "behind" if any(state.congested for state in states) else OK


class _Answer(NamedTuple):
    """What the database answers. `no_worker`: its tasks need one, and none is alive."""

    state: str
    no_worker: bool = False


class _Database:
    """Queries the database in a thread, once for all probes that wait meanwhile.

    A thread that hangs is abandoned after a while: the database may be back without its notice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: Future[_Answer] | None = None
        self._asked_at = 0.0

    async def answers(self, ledger: Ledger) -> _Answer:
        if not ledger.blocking:
            return _Answer(OK)
        answer = await _in_time(self._ask(ledger), DATABASE_TIMEOUT)
        return answer or _Answer(_late(DATABASE_TIMEOUT))

    def _ask(self, ledger: Ledger) -> Future[_Answer]:
        with self._lock:
            now = time.monotonic()
            if (
                self._asked is None
                or self._asked.done()
                or now - self._asked_at > DATABASE_GIVEN_UP
            ):
                self._asked, self._asked_at = Future(), now
                asking = threading.Thread(
                    target=_ping, args=(ledger, self._asked), name="rail-tasks-health", daemon=True
                )
                asking.start()
            return self._asked


def _ping(ledger: Ledger, asked: Future[_Answer]) -> None:
    """Runs in a thread and on a connection of its own, which end with it."""
    answer = _Answer("failing")
    try:
        ledger.ping()
        answer = _Answer(OK, no_worker=_lacks_workers(ledger))
    except Exception as error:  # noqa: BLE001 (whatever the driver raises)
        # The text may name hosts and users: it is for the log alone.
        logger.warning("Not ready: the database fails: %s", error)
    finally:
        connections.close_all()
        asked.set_result(answer)


def _lacks_workers(ledger: Ledger) -> bool:
    dispatches = ledger.dispatches()
    if dispatches is None or find_broker(get_settings()) is None:
        return False
    return not dispatches.any_worker()


def _late(timeout: float) -> str:
    return f"no answer in {timeout:g} s"


async def _in_time(asked: Future[T], timeout: float) -> T | None:
    """Returns the other thread's answer; None for none in time. The caller may be cancelled."""
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()

    def signal(_: Future[T]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of a WSGI request, closed meanwhile
            loop.call_soon_threadsafe(answered.set)

    asked.add_done_callback(signal)
    try:
        await asyncio.wait_for(answered.wait(), timeout)
    except TimeoutError:
        return None
    return asked.result()


_database = _Database()
