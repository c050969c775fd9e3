"""The measure of documents: what is counted, and that counting costs no more than the limit."""

from __future__ import annotations

import pytest
from graphql import parse

from rail_async_tasks.conf import LimitSettings
from rail_async_tasks.errors import TooComplex
from rail_async_tasks.graphql import complexity, documents
from rail_async_tasks.graphql.complexity import measure

LIMITS = LimitSettings(tokens=200, depth=4, aliases=3, root_fields=3)


def bomb(levels: int) -> str:
    """A document of a few hundred bytes whose fields are 2**levels."""
    fragments = [
        f"fragment F{n} on Q {{ a: x {{ ...F{n + 1} }} b: x {{ ...F{n + 1} }} }}"
        for n in range(levels)
    ]
    return " ".join(["{ ...F0 }", *fragments, f"fragment F{levels} on Q {{ x }}"])


def refused(text: str, limits: LimitSettings = LIMITS) -> str:
    with pytest.raises(TooComplex) as raised:
        measure(parse(text), limits)
    assert raised.value.code == "TOO_COMPLEX"
    return raised.value.message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{ a b c d }", "root_fields"),
        ("{ ...F } fragment F on Q { a b ...G } fragment G on Q { c d }", "root_fields"),
        ("{ a: x b: x ... on Q { x { c: x d: x } } }", "aliases"),
        ("{ a { b { c { d { e } } } } }", "depth"),
        (
            "{ ...F } fragment F on Q { a { b { ...G } } } fragment G on Q { c { d { e } } }",
            "depth",
        ),
        ("query A { x } query B { a b c d }", "root_fields"),
        ("{ x } fragment Unused on Q { a: x b: x c: x d: x }", "aliases"),
        ("{ x { " + "y " * 50 + "} }", "tokens"),
    ],
)
def test_each_limit_is_of_the_document_as_spread_out(text: str, key: str) -> None:
    """And the message names it with its value."""
    assert f'limits["{key}"] allows: {getattr(LIMITS, key)}' in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "{ a b c }",
        "{ a: x b: x c: x }",
        "{ a { b { c { d } } } }",
        "{ x ...F } fragment F on Q { y ...F }",
        "{ ...Missing }",
    ],
)
def test_a_document_at_its_limits_passes(text: str) -> None:
    """A fragment that is missing or spreads itself is the validation's to report."""
    assert measure(parse(text), LIMITS) == ()


@pytest.mark.parametrize("tokens", [2000, None])
def test_a_fragment_bomb_is_walked_no_further_than_the_limit(
    tokens: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2**40 fields it looks at as many as are allowed, also where no limit is set."""
    monkeypatch.setattr(complexity, "MOST_FIELDS", 3000)
    limits = LimitSettings(tokens=tokens, depth=None, aliases=None)
    walk = complexity._Walk(parse(bomb(40)), limits)
    with pytest.raises(TooComplex):
        walk.operation(walk._fragments["F0"].selection_set)
    assert walk._left == -1


def test_mutations_are_counted_by_field() -> None:
    """By the field's name, not its alias, and wherever fragments spread it."""
    text = "mutation { a: add ...F } fragment F on M { add b: add count }"
    assert measure(parse(text), LimitSettings()) == ({"add": 3, "count": 1},)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{ " + "x " * 2000 + "}", "more tokens than"),
        ("# " + "x" * 70_000 + "\n{ x }", "characters"),
        ("{ a" * 900 + "}" * 900, "nested too deeply"),
        ("{ a(x: " + "[" * 600 + "]" * 600 + ") }", "nested too deeply"),
    ],
)
def test_what_graphql_core_refuses_is_too_complex(text: str, says: str) -> None:
    """Its messages are what tells its limits from syntax errors: an upgrade may change them."""
    with pytest.raises(TooComplex, match=says):
        documents.read(text)


def test_documents_are_kept_within_bounds() -> None:
    """By number of characters, the oldest go first; long ones are not kept."""
    kept = documents._Kept()
    for number in range(1000):
        text = f"{{ x{number} }}".ljust(1000)
        kept.add((text, LIMITS), documents.Document(text, parse(text), ()))
    assert len(kept._documents) == documents.KEPT_IN_ALL // 1000
    assert kept._size <= documents.KEPT_IN_ALL
    text = "{ x }".ljust(documents.KEPT_EACH + 1)
    kept.add((text, LIMITS), documents.Document(text, parse(text), ()))
    assert kept.get((text, LIMITS)) is None


def test_a_long_document_is_parsed_without_locations() -> None:
    """An error of it scans nothing."""
    short, long = "{ x }", "{ x }".ljust(documents.MOST_LOCATED + 1)
    lines = "{ x }" + "\n" * (documents.MOST_LINES + 1)
    assert documents.read(short).node.loc is not None
    assert documents.read(long).node.loc is None
    assert documents.read(lines).node.loc is None
