"""The statements of a batch for a dialect: their texts, built once, and what binds to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import UUID

from rail_async_tasks.ledger.dispatch_records import DeliveryClaim
from rail_async_tasks.ledger.records import QueueClaim, Recovery
from rail_async_tasks.ledger.sql.dialects import POSTGRESQL, SQLITE, Dialect
from rail_async_tasks.ledger.sql.statements import (
    claim,
    claim_ids,
    fair_claim,
    progress,
    recover,
    send,
    settle,
    stage,
    survey,
)
from rail_async_tasks.ledger.sql.statements.audit import audit
from rail_async_tasks.ledger.sql.statements.create import create, create_counted, create_due

ClaimParameters: TypeAlias = Callable[[Dialect, QueueClaim, UUID, UUID, str | None], list[Any]]
IdParameters: TypeAlias = Callable[
    [Dialect, DeliveryClaim, Sequence[str], UUID, str | None], list[Any]
]
RecoverParameters: TypeAlias = Callable[[Recovery, int, str | None], list[Any]]


@dataclass(frozen=True)
class Statements:
    """The texts. `create`, `settle`, `progress` and `audit` take the records of a batch.

    An INSERT is chosen by whether some of its rows have a trace context. That of rows that are all
    due, `create_due`, answers with their number and time; on SQLite it has no answer.

    Without `next_due_later` no row can be locked when it comes due. Without `send` an UPDATE takes
    the one write lock even if it finds nothing.
    """

    create: dict[bool, str]
    create_due: dict[bool, str]
    settle: str
    progress: str
    claim: str
    claim_suspect: str
    claim_parameters: ClaimParameters
    claim_fair: str
    fair_parameters: ClaimParameters
    claim_ids: str
    id_parameters: IdParameters
    send: str | None
    recover: str
    recover_parameters: RecoverParameters
    audit: str
    stage: str
    next_due: str
    next_due_later: str | None
    survey: str


# By the vendor of Django's connection.
STATEMENTS: Final[dict[str, Statements]] = {
    "postgresql": Statements(
        create={it: create(POSTGRESQL, traced=it) for it in (False, True)},
        create_due={it: create_counted(POSTGRESQL, traced=it) for it in (False, True)},
        settle=settle.postgresql(POSTGRESQL),
        progress=progress.postgresql(POSTGRESQL),
        claim=claim.postgresql(POSTGRESQL, claim.SOUND),
        claim_suspect=claim.postgresql(POSTGRESQL, claim.SUSPECT),
        claim_parameters=claim.postgresql_parameters,
        claim_fair=fair_claim.postgresql(POSTGRESQL),
        fair_parameters=fair_claim.postgresql_parameters,
        claim_ids=claim_ids.postgresql(POSTGRESQL),
        id_parameters=claim_ids.postgresql_parameters,
        send=send.postgresql(POSTGRESQL),
        recover=recover.postgresql(POSTGRESQL),
        recover_parameters=recover.postgresql_parameters,
        audit=audit(POSTGRESQL),
        stage=stage.postgresql(POSTGRESQL),
        next_due=stage.postgresql_next_due(POSTGRESQL),
        next_due_later=stage.postgresql_next_due_later(POSTGRESQL),
        survey=survey.postgresql(POSTGRESQL),
    ),
    "sqlite": Statements(
        create={it: create(SQLITE, traced=it) for it in (False, True)},
        create_due={it: create_due(SQLITE, traced=it) for it in (False, True)},
        settle=settle.sqlite(SQLITE),
        progress=progress.sqlite(SQLITE),
        claim=claim.sqlite(SQLITE, claim.SOUND),
        claim_suspect=claim.sqlite(SQLITE, claim.SUSPECT),
        claim_parameters=claim.sqlite_parameters,
        claim_fair=fair_claim.sqlite(SQLITE),
        fair_parameters=fair_claim.sqlite_parameters,
        claim_ids=claim_ids.sqlite(SQLITE),
        id_parameters=claim_ids.sqlite_parameters,
        send=None,
        recover=recover.sqlite(SQLITE),
        recover_parameters=recover.sqlite_parameters,
        audit=audit(SQLITE),
        stage=stage.sqlite(SQLITE),
        next_due=stage.sqlite_next_due(),
        next_due_later=None,
        survey=survey.sqlite(),
    ),
}
