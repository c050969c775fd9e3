"""Any order of creations, claims, outcomes, cancels, crashes and hand-backs keeps the rules.

A model in plain Python goes through the same edges as the rows, and after each of them both must
say the same. Attempts go on after their process was taken for dead: what they write must not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from uuid import UUID

import pytest
from django.db import connections
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.operations import Claim, Create, Keep, Recover, Settle
from rail_async_tasks.ledger.orm import cancel
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.ledger.records import NewExecution, Outcome, Progress, QueueClaim, Recovery
from rail_async_tasks.ledger.session import WriterSession
from rail_async_tasks.ledger.sql.texts import STATEMENTS
from rail_async_tasks.ledger.vendors import batch_on
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import FINAL, Status

MAX_RETRIES, MAX_CRASHES = 1, 1
NAME = "machine"


@dataclass
class Row:
    """The model's state of an execution."""

    status: Status = Status.PENDING
    seq: int = 1
    attempts: int = 0
    retries: int = 0
    crashes: int = 0
    hand_backs: int = 0
    holder: UUID | None = None
    token: UUID | None = None
    cancel_requested: bool = False
    progress: int = 0
    accepted: int = 0

    def go(self, status: Status) -> None:
        self.status = status
        self.seq += 1
        if status is not Status.RUNNING:
            self.holder = None


@dataclass
class Attempt:
    """A body that runs somewhere, whatever has become of its execution."""

    id: UUID
    token: UUID
    retries: int
    holder: UUID


class _Plan:
    """A claim of at most so many."""

    def __init__(self, runtime_id: UUID, limit: int) -> None:
        self.runtime_id = runtime_id
        self._limit = limit

    def claims(self) -> Iterator[QueueClaim]:
        yield QueueClaim("default", (NAME,), self._limit)

    def took(self, claim: QueueClaim, count: int) -> None: ...

    def rests(self, claim: QueueClaim, seconds: float) -> None: ...


def ignore(result: Any) -> None: ...


PICKS = st.integers(0, 1000)
MOSTLY = st.sampled_from([True, True, True, False])


class Machine(RuleBasedStateMachine):
    """The rules. Each does one thing to the ledger and the same to the model."""

    edges: ClassVar[set[tuple[str, str, str]]] = set()

    @initialize()
    def begin(self) -> None:
        TaskExecution.objects.all().delete()
        self.session = WriterSession("default", batch_on)
        self.ledger = OrmLedger("default")
        self.holders = [new_id(), new_id()]
        self.rows: dict[UUID, Row] = {}
        self.attempts: list[Attempt] = []

    def _pick(self, pick: int, live: bool) -> Attempt | None:
        """One of all attempts that ever were or, mostly, one that is still its execution's."""
        found = [
            it
            for it in self.attempts
            if not live
            or (self.rows[it.id].status is Status.RUNNING and self.rows[it.id].token == it.token)
        ]
        return found[pick % len(found)] if found else None

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.reset()

    def _do(self, *operations: Any) -> list[Any]:
        return self.session.execute(operations)

    def _edge(self, row: Row, event: str, status: Status) -> None:
        Machine.edges.add((row.status.value, event, status.value))
        row.go(status)

    # --- rules -----------------------------------------------------------------------------------

    @precondition(lambda self: len(self.rows) < 4)
    @rule()
    def create(self) -> None:
        new = self._new()
        self._do(Create(new, ignore))
        self.rows[new.id] = Row()

    @precondition(lambda self: len(self.rows) < 4)
    @rule(which=st.integers(0, 1))
    def create_as_claim(self, which: int) -> None:
        """The hot path: the insert is the claim."""
        holder, token = self.holders[which], new_id()
        new = self._new(runtime_id=holder, token=token)
        self._do(Create(new, ignore))
        row = self.rows[new.id] = Row(attempts=1, token=token)
        self._edge(row, "claim", Status.RUNNING)
        row.holder = holder
        self.attempts.append(Attempt(new.id, token, 0, holder))

    def _new(self, **held: UUID) -> NewExecution:
        return NewExecution(
            id=new_id(), name=NAME, queue="default", priority=0, arguments="{}",
            max_retries=MAX_RETRIES, **held,
        )  # fmt: skip

    @rule(which=st.integers(0, 1), limit=st.integers(1, 3))
    def claim(self, which: int, limit: int) -> None:
        holder = self.holders[which]
        (due,) = self._do(Claim(_Plan(holder, limit), new_id(), ignore))
        waiting = [
            execution_id
            for execution_id, row in sorted(self.rows.items())
            if row.status in (Status.PENDING, Status.RETRYING)
        ]
        assert [it.snapshot.id for it in due.claimed] == waiting[:limit]
        for claimed in due.claimed:
            row = self.rows[claimed.snapshot.id]
            self._edge(row, "claim", Status.RUNNING)
            row.attempts += 1
            row.holder, row.token, row.progress = holder, claimed.token, 0
            attempt = Attempt(claimed.snapshot.id, claimed.token, row.retries, holder)
            self.attempts.append(attempt)

    @rule(pick=PICKS, live=MOSTLY)
    def succeed(self, pick: int, live: bool) -> None:
        if (attempt := self._pick(pick, live)) is None:
            return
        self._settle(attempt, "succeed", Status.COMPLETED, Status.COMPLETED)

    @rule(pick=PICKS, live=MOSTLY)
    def fail(self, pick: int, live: bool) -> None:
        if (attempt := self._pick(pick, live)) is None:
            return
        may_retry = attempt.retries < MAX_RETRIES
        wanted = Status.RETRYING if may_retry else Status.FAILED
        self._settle(attempt, "raise", wanted, None, retried=int(may_retry))

    @rule(pick=PICKS, live=MOSTLY)
    def hand_back(self, pick: int, live: bool) -> None:
        if (attempt := self._pick(pick, live)) is None:
            return
        self._settle(attempt, "hand back", Status.RETRYING, None)

    @rule(pick=PICKS, live=MOSTLY)
    def acknowledge_cancel(self, pick: int, live: bool) -> None:
        if (attempt := self._pick(pick, live)) is None:
            return
        if self.rows[attempt.id].cancel_requested:
            self._settle(attempt, "acknowledge", Status.CANCELLED, Status.CANCELLED)

    def _settle(
        self, attempt: Attempt, event: str, wanted: Status, always: Status | None, retried: int = 0
    ) -> None:
        row = self.rows[attempt.id]
        outcome = Outcome(
            id=attempt.id, token=attempt.token, status=wanted, progress=row.progress,
            retried=retried,
        )  # fmt: skip
        (settled,) = self._do(Settle(outcome, ignore))
        if row.status is not Status.RUNNING or row.token != attempt.token:
            # The one exception: its own outcome, asked about again, is still its own.
            its_own = row.token == attempt.token
            assert settled is None or (its_own and settled.status == row.status)
            return
        assert settled is not None
        status = always or (Status.CANCELLED if row.cancel_requested else wanted)
        assert settled.status == status
        self._edge(row, event, status)
        row.accepted += 1
        if status is Status.RETRYING:
            row.retries += retried
            row.hand_backs += not retried
        if status is Status.COMPLETED:
            row.progress = 100

    @rule(pick=PICKS, live=MOSTLY, percent=st.integers(1, 99))
    def report(self, pick: int, live: bool, percent: int) -> None:
        if (attempt := self._pick(pick, live)) is None:
            return
        self._do(Keep(Progress(attempt.id, attempt.token, percent, None, 1), ignore))
        row = self.rows[attempt.id]
        if row.status is Status.RUNNING and row.token == attempt.token:
            row.progress = percent

    @rule(pick=PICKS, live=MOSTLY)
    def cancel(self, pick: int, live: bool) -> None:
        candidates = [it for it, row in self.rows.items() if not live or row.status not in FINAL]
        if not candidates:
            return
        execution_id = sorted(candidates)[pick % len(candidates)]
        row = self.rows[execution_id]
        cancelled = self.ledger.cancel(execution_id, None)
        assert cancelled is not None
        assert cancelled.changed == (row.status not in FINAL)
        if row.status in FINAL:
            return
        row.cancel_requested = True
        if row.status is Status.RUNNING:
            Machine.edges.add(("running", "cancel", "running"))
        else:
            self._edge(row, "cancel", Status.CANCELLED)

    @rule(which=st.integers(0, 1))
    def take_for_dead(self, which: int) -> None:
        """Its attempts go on, unknowing; it claims again under a new id."""
        dead, self.holders[which] = self.holders[which], new_id()
        (freed,) = self._do(Recover(Recovery(dead, MAX_CRASHES, None), 100, ignore))
        held = sorted(it for it, row in self.rows.items() if row.holder == dead)
        assert sorted(snapshot.id for snapshot in freed) == held
        for execution_id in held:
            row = self.rows[execution_id]
            if row.cancel_requested:
                status = Status.CANCELLED
            else:
                status = Status.RETRYING if row.crashes < MAX_CRASHES else Status.FAILED
            self._edge(row, "holder dead", status)
            row.crashes += 1
            row.token = None  # later reports of the lost attempt have no holder

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def rows_are_as_the_model_has_them(self) -> None:
        if not hasattr(self, "rows"):
            return
        found = {it.id: it for it in TaskExecution.objects.all()}
        assert found.keys() == self.rows.keys()
        for execution_id, row in self.rows.items():
            stored = found[execution_id]
            assert (
                stored.status, stored.seq, stored.attempts, stored.retry_count, stored.crashes,
                stored.runtime_id, stored.cancel_requested, stored.progress,
            ) == (
                row.status, row.seq, row.attempts, row.retries, row.crashes,
                row.holder, row.cancel_requested, row.progress,
            )  # fmt: skip
            assert (stored.completed_at is not None) == (row.status in FINAL)
            assert row.attempts <= 1 + row.retries + row.crashes + row.hand_backs
            assert row.accepted <= row.attempts


LEGAL = {
    ("pending", "claim", "running"),
    ("retrying", "claim", "running"),
    ("running", "succeed", "completed"),
    ("running", "raise", "retrying"),
    ("running", "raise", "failed"),
    ("running", "raise", "cancelled"),
    ("running", "hand back", "retrying"),
    ("running", "hand back", "cancelled"),
    ("running", "acknowledge", "cancelled"),
    ("running", "cancel", "running"),
    ("pending", "cancel", "cancelled"),
    ("retrying", "cancel", "cancelled"),
    ("running", "holder dead", "retrying"),
    ("running", "holder dead", "failed"),
    ("running", "holder dead", "cancelled"),
}


def run(examples: int, steps: int = 30) -> None:
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize=True,
                phases=[Phase.generate],  # a failure is shown as it is: shrinking takes minutes
                database=None,
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            ),
        )
    finally:
        # The sessions have put connections of theirs in the place of this thread's.
        connections["default"].close()
        del connections["default"]


@pytest.mark.parametrize("examples", [25, pytest.param(1500, marks=pytest.mark.long)])
def test_no_order_of_events_breaks_the_rules(database: Any, examples: int) -> None:
    """Whatever the order, rows and model say the same."""
    Machine.edges.clear()
    run(examples)
    assert Machine.edges <= LEGAL
    assert len(Machine.edges) >= len(LEGAL) / 2


EDGES = (
    "create claim fail claim fail",  # retrying, then out of retries
    "create claim succeed",
    "create cancel",
    "create claim fail cancel",
    "create claim cancel acknowledge_cancel",
    "create claim cancel fail",
    "create claim cancel hand_back",
    "create claim hand_back claim die claim die",
    "create claim cancel die",
)
# An attempt that goes on although its execution has another holder, or has ended.
STALE = (
    "create claim hand_back claim stale_succeed",
    "create claim die claim stale_fail",
    "create claim die claim stale_report",
    "create claim succeed stale_fail",
    "create claim die stale_succeed",
    "create claim_elsewhere create claim die",
    "create claim succeed stale_cancel",
)


def walk(paths: Iterable[str]) -> None:
    """Goes these ways, with the same comparison after each step."""
    machine = Machine()
    try:
        for path in paths:
            machine.begin()
            for step in path.split():
                _take(machine, step)
                machine.rows_are_as_the_model_has_them()
            machine.teardown()
    finally:
        connections["default"].close()
        del connections["default"]


def test_every_legal_edge_is_gone_through(database: Any) -> None:
    """One after the other; and what is stale changes nothing."""
    Machine.edges.clear()
    walk(EDGES)
    assert Machine.edges == LEGAL
    walk(STALE)
    assert Machine.edges == LEGAL


def _take(machine: Machine, step: str) -> None:
    if step == "create":
        machine.create()
    elif step == "claim":
        machine.claim(0, 1)
    elif step == "claim_elsewhere":
        machine.claim(1, 1)
    elif step == "die":
        machine.take_for_dead(0)
    elif step == "stale_report":
        machine.report(0, False, 50)
    else:
        name = step.removeprefix("stale_")
        getattr(machine, name)(0, name == step)


ENDS = ("settle", "progress")

# What is left out: of which statements, and what is put in the place of what in their texts.
MUTANTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "finish by id only": (ENDS, r" AND t\.token = r\.token AND .*'running'", ""),
    "finish by status only": (ENDS, r" AND t\.token = r\.token", ""),
    "finish by token only": (ENDS, r" AND \+?t\.status.*'running'", ""),
    "rescue any": (("recover",), r"(t?\.?runtime_id) = %s", r"(\1 = %s OR true)"),
    "forget a cancel": (("settle",), r"t\.cancel_requested AND", "false AND"),
    "count no crash": (("recover",), r"crashes = t\.crashes \+ 1, ", ""),
}


def mutate(patch: pytest.MonkeyPatch, name: str) -> None:
    statements, pattern, instead = MUTANTS[name]
    for vendor, texts in STATEMENTS.items():
        changed = {it: re.sub(pattern, instead, getattr(texts, it)) for it in statements}
        assert all(text != getattr(texts, it) for it, text in changed.items())
        patch.setitem(STATEMENTS, vendor, replace(texts, **changed))


@pytest.mark.covering("database", "name")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_guard_that_is_missing_is_noticed(
    database: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mistakes that task queues are known for."""
    mutate(monkeypatch, name)
    with pytest.raises(AssertionError):
        walk(EDGES + STALE)


def test_a_cancel_without_its_guard_is_noticed(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A final row stays as it is."""
    monkeypatch.setattr(cancel, "UNFINISHED", frozenset(Status))
    with pytest.raises(AssertionError):
        walk(EDGES + STALE)
