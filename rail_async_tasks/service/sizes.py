"""How many bytes tasks take in an answer, before they are read and after."""

from __future__ import annotations

from typing import Final

import msgspec

from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import TooLarge
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.records import Page
from rail_async_tasks.snapshot import TaskSnapshot

# The fields of a task but its result and its texts, as JSON.
FIELDS_BYTES: Final = 600

_encode: Final = msgspec.json.Encoder().encode


def size_of(snapshot: TaskSnapshot, results: int = 1) -> int:
    """Returns about how many bytes of JSON the task takes, with its result so many times."""
    texts = len(snapshot.error or "") + len(snapshot.progress_message or "")
    result = 0 if snapshot.result is None or not results else len(_encode(snapshot.result))
    return FIELDS_BYTES + texts + result * results


def answer_too_large(limit: int) -> TooLarge:
    """Returns the refusal of an answer."""
    return TooLarge(
        f'The answer has more bytes than limits["answer_bytes"] allows: {limit}. Ask for fewer'
        " tasks, or without their results."
    )


def must_be_counted(page: Page, at_most: int | None) -> bool:
    """Returns whether the results of so many tasks might have more bytes than `at_most`.

    The database counts them then, for which it reads each of them: a page of large results takes it
    a tenth of a second and more.
    """
    if at_most is None or not page.results:
        return False
    return page.limit * get_settings().max_result_bytes > at_most


def page_within(ledger: Ledger, page: Page, at_most: int | None) -> list[TaskSnapshot]:
    """Returns the page. Raises `TooLarge` where its results have more bytes than `at_most`."""
    counted = must_be_counted(page, at_most)
    if at_most is not None and counted and ledger.result_bytes(page) > at_most:
        raise answer_too_large(at_most)
    return ledger.page(page)
