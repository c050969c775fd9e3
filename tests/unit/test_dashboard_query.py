"""The dashboard's filter: the meaning of a text, and the message of a wrong one."""

from __future__ import annotations

from uuid import UUID

import pytest

from rail_async_tasks.dashboard.query import (
    EXAMPLES,
    LONGEST,
    MOST_TEXTS,
    QUALIFIERS,
    Query,
    Span,
    WrongQuery,
    parse_query,
)

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
MEANINGS = {
    "": Query(),
    "   ": Query(),
    "state:failed": Query(states=("failed",)),
    "STATE:Failed": Query(states=("failed",)),
    "state:failed,cancelled": Query(states=("failed", "cancelled")),
    "state:failed state:cancelled": Query(states=("failed", "cancelled")),
    "queue:reports owner:7": Query(queues=("reports",), owners=("7",)),
    "name:import error:KeyError": Query(names=("import",), errors=("KeyError",)),
    'name:"my task" text': Query(names=("my task",), words=("text",)),
    'owner:"a,b",c': Query(owners=("a,b", "c")),
    "age:<1h": Query(younger=3600.0),
    "age:>1h30m age:>2d": Query(older=172800.0),
    "age:<2h age:<1h": Query(younger=3600.0),
    "two words": Query(words=("two", "words")),
    '"two words"': Query(words=("two words",)),
    '"http://x"': Query(words=("http://x",)),
    "100% a'b \\": Query(words=("100%", "a'b", "\\")),
    f"parent:{ID}": Query(parents=(ID,)),
    str(ID): Query(ids=(Span(ID, ID),)),
    "id:01890a5d": Query(
        ids=(
            Span(
                UUID("01890a5d-0000-0000-0000-000000000000"),
                UUID("01890a5d-ffff-ffff-ffff-ffffffffffff"),
            ),
        )
    ),
    "12:30": Query(words=("12:30",)),
}
# What the message must name: the part that is wrong, and the remedy.
WRONG = {
    "stat:failed": ["stat:", "Known are state:, queue:", '"stat:failed"'],
    "http://x": ["http:", '"http://x"'],
    "state:broken": ["'broken'", "pending, running"],
    "state:": ["state:", "no value", "state:failed"],
    "owner:,": ["owner:", "no value"],
    "age:1h": ["neither < nor >", "age:<1h"],
    "age:<soon": ["'soon'", "1h30m"],
    "age:>999999d": ["100 years"],
    "parent:42": ["parent:42", "task's page"],
    "id:xyz": ["id:xyz"],
    "id:12": ["at least 4"],
    'name:"my': ["without its end"],
    "a\0b": ["NUL"],
    "x" * (LONGEST + 1): [str(LONGEST), "shorten"],
    "e " * MOST_TEXTS + "name:z": [str(MOST_TEXTS + 1), f"{MOST_TEXTS} at most"],
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_filter_means(text: str) -> None:
    """Qualifiers in any order and case, quotes around what has spaces, words for the rest."""
    assert parse_query(text) == MEANINGS[text]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_filter_is_explained(text: str) -> None:
    """The message names what is wrong, and what to write."""
    with pytest.raises(WrongQuery) as refused:
        parse_query(text)
    for part in WRONG[text]:
        assert part in str(refused.value)


def test_every_qualifier_has_an_example_that_is_right() -> None:
    """Messages and the help quote them."""
    assert tuple(EXAMPLES) == QUALIFIERS
    for example in EXAMPLES.values():
        assert parse_query(example)


def test_an_empty_filter_is_false() -> None:
    """And any other one is true."""
    assert not parse_query("")
    assert parse_query("age:<1h")
