"""The tables of states that people read have the edges that the ledgers have, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from rail_async_tasks import states
from rail_async_tasks.states import Status
from tests.contract.test_state_machine import LEGAL

ROOT = Path(__file__).parents[2]
STATUSES = "|".join(Status)

# Before and after. `LEGAL` is what the state machine's test goes through on every ledger; creation
# and names that no process knows have tests of their own.
EDGES = {(before, after) for before, _, after in LEGAL} | {
    ("", "pending"), ("", "running"), ("pending", "failed"), ("retrying", "failed"),
}  # fmt: skip


def edges(before: str, after: str) -> set[tuple[str, str]]:
    """Returns the edges of a line: from each state of one cell to each state of the other."""
    return {
        (one, other)
        for one in re.findall(STATUSES, before) or [""]
        for other in re.findall(rf"\b({STATUSES})\b", after)
    }


def test_the_table_in_states_is_complete() -> None:
    """One line per edge in the docstring of `states`."""
    assert states.__doc__ is not None
    table = [line.strip() for line in states.__doc__.splitlines() if line.startswith("    ")]
    shown = set()
    for line in table[1:]:
        cells = re.split(r"\s{2,}", line)
        after = "running" if cells[-1] == "(flag only)" else cells[-1]
        if "no edge" not in after:
            shown |= edges(cells[0], after)
    assert shown == EDGES


def test_the_table_in_how_it_works_is_complete() -> None:
    """Each line of the section *States*."""
    page = (ROOT / "docs" / "how-it-works.md").read_text()
    section = page.split("\n## States\n")[1].split("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    shown = {edge for before, _, after in table[2:] for edge in edges(before, after)}
    assert shown == EDGES


def test_a_final_state_is_left_by_no_edge() -> None:
    """Nor does any edge lead back to the beginning."""
    assert {before for before, _ in EDGES} & states.FINAL == set()
    assert {after for before, after in EDGES if before} & {Status.PENDING} == set()
