"""Content negotiation as a table: what real clients and RFC 9110 ask for, and what they get."""

from __future__ import annotations

import pytest

from rail_async_tasks.graphql.accept import EVENT_STREAM, GRAPHQL_RESPONSE, HTML, JSON, Accept

URQL = (
    "application/graphql-response+json, application/graphql+json, application/json,"
    " text/event-stream, multipart/mixed"
)
CHROMIUM = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)

CLIENTS = [
    ("no header", None, JSON),
    ("fetch, curl, python", "*/*", JSON),
    ("urql 4.3 to 6.0", URQL, JSON),
    ("urql, an older one", "application/graphql-response+json, application/json", JSON),
    ("Apollo", "application/graphql-response+json,application/json;q=0.9", GRAPHQL_RESPONSE),
    (
        "Apollo, deferring",
        "multipart/mixed;deferSpec=20220824,application/graphql-response+json,application/json;q=0.9",
        GRAPHQL_RESPONSE,
    ),
    ("axios", "application/json, text/plain, */*", JSON),
    ("graphql-sse, EventSource", "text/event-stream", EVENT_STREAM),
    ("a page in a browser", CHROMIUM, JSON),
]

TABLE = [
    # The highest quality wins, wherever it stands.
    ("application/json;q=0.5, text/event-stream", EVENT_STREAM),
    ("text/event-stream;q=0.5, application/json", JSON),
    ("text/event-stream, application/json;q=0.999", EVENT_STREAM),
    ("application/json;q=0.1, application/graphql-response+json;q=0.2", GRAPHQL_RESPONSE),
    # A tie goes to JSON, in any order.
    ("text/event-stream, application/json", JSON),
    ("text/event-stream, */*", JSON),
    ("text/event-stream;q=0.3, */*;q=0.3", JSON),
    ("text/event-stream, application/graphql-response+json", GRAPHQL_RESPONSE),
    # The most specific range decides, whether it gives more or less.
    ("*/*, application/json;q=0.1", GRAPHQL_RESPONSE),
    ("application/*;q=0.2, application/json;q=0.9, */*;q=0.5", JSON),
    ("text/*, application/*;q=0.9", EVENT_STREAM),
    ("text/*;q=0.1, */*;q=0.05", EVENT_STREAM),
    # A quality of zero refuses, whatever a wider range accepts.
    ("text/event-stream;q=0, application/json", JSON),
    ("application/*;q=0, */*", EVENT_STREAM),
    ("text/event-stream;q=0, application/*;q=0, */*", None),
    ("text/event-stream;q=0", None),
    ("text/event-stream;q=0.000", None),
    # What follows the quality is an extension, to be ignored; what precedes it names another type.
    ("application/json;q=0.9;level=1", JSON),
    ("application/json;odata=verbose;q=0.9, text/event-stream;q=0.1", EVENT_STREAM),
    # Nothing of ours.
    ("text/plain", None),
    ("application/xml, image/*", None),
    ("multipart/mixed", None),
    # Case, blanks, parameters.
    ("APPLICATION/JSON", JSON),
    ("Text/Event-Stream ; Q=0.7 , application/json ; q = 0.6", EVENT_STREAM),
    ("application/json; charset=utf-8", JSON),
    ('application/graphql-response+json; charset="UTF-8"', GRAPHQL_RESPONSE),
    ("application/json;odata=verbose", None),
    ('application/json;a="x,text/event-stream", text/event-stream;q=0.1', EVENT_STREAM),
    ("application/json;q=0.12345, text/event-stream;q=0.12344", JSON),
    # An empty header says nothing, and what is no media range is not there.
    ("", JSON),
    (" , ,", JSON),
    ("json, text/event-stream", EVENT_STREAM),
    ("*/json", None),
    ("text/event-stream;q=high", EVENT_STREAM),
    ("application/json;q=0.5, text/event-stream;q=2", EVENT_STREAM),
    ("application/json;q=-1", JSON),
    ('text/event-stream;a="', None),
    ("\x00", None),
    ("é/é", None),
]


@pytest.mark.parametrize(
    ("header", "answer"), [row[1:] for row in CLIENTS], ids=[row[0] for row in CLIENTS]
)
def test_a_client_gets_what_it_reads(header: str | None, answer: str) -> None:
    """The headers that clients send for a query or a mutation, to the letter."""
    assert Accept(header).best(JSON, GRAPHQL_RESPONSE, EVENT_STREAM) == answer


@pytest.mark.parametrize(("header", "answer"), TABLE)
def test_negotiation_follows_the_rfc(header: str, answer: str | None) -> None:
    """Quality decides; the most specific range gives it; a tie goes to what is offered first."""
    assert Accept(header).best(JSON, GRAPHQL_RESPONSE, EVENT_STREAM) == answer


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("text/event-stream", True),
        ("text/*;q=0.1", True),
        (URQL, True),
        ("*/*", False),
        (None, False),
        ("text/event-stream;q=0, */*", False),
        ("application/json", False),
    ],
)
def test_events_are_named_by_more_than_anything(header: str | None, named: bool) -> None:
    """A client that accepts anything has not asked for a stream."""
    assert Accept(header).names(EVENT_STREAM) is named


def test_a_browsers_page_prefers_html() -> None:
    """And no client that asks for JSON, or refuses HTML, does."""
    offered = (JSON, HTML)
    assert Accept(CHROMIUM).best(*offered) == HTML
    assert Accept("text/html;q=0, */*").best(*offered) == JSON
    assert Accept("*/*").best(*offered) == JSON


def test_a_hostile_header_costs_no_more_than_its_length() -> None:
    """100 KB of quotes, commas and semicolons; the square of that would take hours."""
    for piece in ('"', ",", ";", ';a="', 'a/b;q="\\', "a/b;", "*/*,"):
        assert Accept(piece * (100_000 // len(piece))).quality(HTML) in (0.0, 1.0)
