"""The argument codec and the encoding of results: what comes back, and what is refused, where."""

import dataclasses
import enum
import json
import math
import sys
import types
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union
from zoneinfo import ZoneInfo

import msgspec
import pytest
import strawberry
from django.utils.functional import lazystr
from hypothesis import given, settings
from hypothesis import strategies as st
from strawberry.relay import GlobalID
from strawberry.scalars import JSON

from rail_async_tasks.codec import MISSING, ArgumentsCodec, Parameter, encode_result
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.errors import InvalidArguments, ResultError, TaskDeclarationError


@strawberry.enum
class Colour(enum.Enum):
    RED = ("not", "json")
    BLUE = 2


class Size(enum.StrEnum):
    SMALL = "s"
    LARGE = "l"


@strawberry.input
class Price:
    amount: Decimal
    currency: str = "EUR"


@strawberry.input
class Row:
    sku: strawberry.ID
    price: Price
    colour: Colour | None = None
    tags: list[str] = strawberry.field(default_factory=list)
    note: str | None = strawberry.UNSET
    seen: strawberry.Maybe[date | None]


@strawberry.input
class Node:
    name: str
    children: "list[Node]" = strawberry.field(default_factory=list)


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0
    length: float = dataclasses.field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.length = math.hypot(self.x, self.y)


UserId = NewType("UserId", int)
HERE = __name__


def task_with(annotation: object, default: object = MISSING) -> Callable[..., Any]:
    """A function `task(value: annotation)` in a copy of this module's namespace."""
    template = (lambda value: value) if default is MISSING else (lambda value=default: value)
    function = types.FunctionType(
        template.__code__, dict(globals()), "task", template.__defaults__, template.__closure__
    )
    function.__annotations__["value"] = annotation
    function.__qualname__ = "task"
    return function


def codec_of(annotation: object, default: object = MISSING) -> ArgumentsCodec:
    return ArgumentsCodec(task_with(annotation, default), task="t")


def round_trip(annotation: object, value: object) -> Any:
    codec = codec_of(annotation)
    return codec.decode(codec.encode({"value": value}))["value"]


def refusal(annotation: object, value: object) -> str:
    with pytest.raises(InvalidArguments) as refused:
        codec_of(annotation).encode({"value": value})
    return str(refused.value)


def declaration_error(annotation: object) -> str:
    with pytest.raises(TaskDeclarationError) as refused:
        codec_of(annotation)
    return str(refused.value)


VALUES: list[tuple[object, object]] = [
    (str, "naïve ☃ \U0001f600 \\u0000"),
    (int, -(10**30)),
    (float, 0.1),
    (bool, False),
    (strawberry.ID, "42"),
    (UserId, 7),
    (uuid.UUID, uuid.UUID("12345678-1234-5678-1234-567812345678")),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    (datetime, datetime(1890, 1, 1, tzinfo=timezone(timedelta(minutes=53, seconds=28)))),
    (datetime, datetime(2026, 1, 2, 3)),  # naive stays naive
    (date, date(2026, 1, 2)),
    (time, time(23, 59, 59, 1)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (Decimal, Decimal("1.10")),
    (Decimal, Decimal("-1E+30")),
    (Colour, Colour.RED),
    (Size, Size.LARGE),
    (GlobalID, GlobalID("Film", "7")),
    (Literal["a", 1, True] | None, True),
    (Optional[int], None),  # noqa: UP045
    (int | None, 3),
    (Union[None, Colour], Colour.BLUE),  # noqa: UP007
    (list[int], [1, 2]),
    (list[list[Decimal | None]], [[Decimal("1.0"), None], []]),
    (list, [1, "a", None]),
    (Sequence[str], ["a"]),
    (tuple[date, ...], (date(2026, 1, 2),)),
    (dict[str, Decimal], {"a": Decimal("2.50")}),
    (Mapping[str, list[int]], {"a": [1]}),
    (dict, {"a": {"b": [1.5]}}),
    (Any, {"a": [None, True, "x"]}),
    (JSON, [1, {"b": 2}]),
    (Point, Point(3.0, 4.0)),
    (Price, Price(amount=Decimal("9.90"))),
    (Row, Row(sku=strawberry.ID("s"), price=Price(amount=Decimal(1), currency="USD"))),
    (
        list[Row],
        [
            Row(
                sku=strawberry.ID("s"),
                price=Price(amount=Decimal(1)),
                colour=Colour.RED,
                tags=["a"],
                note=None,
                seen=strawberry.Some(date(2026, 1, 2)),
            ),
            Row(sku=strawberry.ID("t"), price=Price(amount=Decimal(1)), seen=strawberry.Some(None)),
        ],
    ),
    (Node, Node(name="a", children=[Node(name="b"), Node(name="c", children=[Node(name="d")])])),
    (Annotated[Size, strawberry.argument(description="How big", name="howBig")], Size.SMALL),
    (Annotated["Price", strawberry.lazy(HERE)], Price(amount=Decimal(2))),
    (list[Annotated["Price", strawberry.lazy(HERE)]], [Price(amount=Decimal(2))]),
    ("list[Price] | None", [Price(amount=Decimal(3))]),
    ("Annotated['Price', strawberry.lazy(HERE)]", Price(amount=Decimal(3))),
    (list["Price"], [Price(amount=Decimal(4))]),
    (strawberry.Maybe[int], strawberry.Some(3)),
    (Annotated[strawberry.Maybe[int | None], strawberry.argument(name="x")], strawberry.Some(None)),
]


@pytest.mark.parametrize(("annotation", "value"), VALUES)
def test_a_value_comes_back_as_it_was(annotation: object, value: object) -> None:
    """Every supported annotation gives the task an equal value of the same type."""
    actual = round_trip(annotation, value)

    assert actual == value
    assert type(actual) is type(value)


scalars = st.sampled_from(
    [
        (str, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))),
        (int, st.integers()),
        (float, st.floats(allow_nan=False, allow_infinity=False)),
        (bool, st.booleans()),
        (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
        (uuid.UUID, st.uuids()),
        # Offsets, not zones: an hour that a zone has twice is equal to nothing but itself.
        (
            datetime,
            st.datetimes(timezones=st.sampled_from([None, UTC, timezone(-timedelta(hours=9.5))])),
        ),
        (date, st.dates()),
        (time, st.times()),
        (timedelta, st.timedeltas()),
        (Colour, st.sampled_from(Colour)),
        (Size, st.sampled_from(Size)),
    ]
)
annotated = st.recursive(
    scalars,
    lambda inner: st.one_of(
        inner.map(lambda it: (it[0] | None, st.none() | it[1])),
        inner.map(lambda it: (list[it[0]], st.lists(it[1], max_size=3))),
        inner.map(
            lambda it: (dict[str, it[0]], st.dictionaries(st.text("abc"), it[1], max_size=3))
        ),
    ),
    max_leaves=3,
)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_value_of_any_supported_annotation_comes_back(data: st.DataObject) -> None:
    """Whatever is nested in whatever, the task gets an equal value."""
    annotation, values = data.draw(annotated)
    value = data.draw(values)

    assert round_trip(annotation, value) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
@settings(max_examples=150, deadline=None)
def test_a_json_value_is_kept_or_refused_but_never_changed(value: Any) -> None:
    """Infinities, NUL and lone surrogates are refused; everything else is what json.loads gives."""
    try:
        raw = encode_result(value)
    except ResultError:
        text = json.dumps(value)
        assert any(mark in text for mark in ("Infinity", "\\u0000", "\\ud"))
    else:
        assert json.loads(raw) == value
        assert "\0" not in str(json.loads(raw))


def test_encoding_is_canonical() -> None:
    """Equal arguments give equal bytes, whatever the order: compact, sorted, nothing left out."""

    def task(b: dict[str, int], a: int = 1, c: str | None = None) -> None: ...

    codec = ArgumentsCodec(task, task="t")

    assert codec.encode({"a": 2, "b": {"y": 1, "x": 2}}) == b'{"a":2,"b":{"x":2,"y":1}}'
    assert codec.encode({"b": {"x": 2, "y": 1}, "a": 2}) == b'{"a":2,"b":{"x":2,"y":1}}'


def test_an_argument_left_out_or_unset_is_not_stored() -> None:
    """So that the function's own default applies when the task runs; None is a value."""

    def task(a: int, b: int | None = 5, c: strawberry.Maybe[int] = None) -> None: ...

    codec = ArgumentsCodec(task, task="t")

    assert codec.encode({"a": 1, "b": strawberry.UNSET, "c": None}) == b'{"a":1}'
    assert codec.decode(b'{"a":1}') == {"a": 1}
    assert codec.encode({"a": 1, "b": None}) == b'{"a":1,"b":null}'


def test_a_maybe_without_default_is_none_when_left_out() -> None:
    """As in a Strawberry input; the parameter is not required."""
    codec = codec_of(strawberry.Maybe[int])

    assert codec.parameters[0].required is False
    assert codec.decode(codec.encode({})) == {"value": None}


def test_a_left_out_input_field_takes_its_default() -> None:
    """UNSET fields are not stored, so that the input is built with its own default."""
    codec = codec_of(Row)
    raw = codec.encode({"value": Row(sku=strawberry.ID("s"), price=Price(amount=Decimal(1)))})

    assert "note" not in json.loads(raw)["value"]
    assert "seen" not in json.loads(raw)["value"]
    assert codec.decode(raw)["value"].note is strawberry.UNSET


def test_a_float_takes_an_int_and_gives_a_float() -> None:
    """Also after a database has rewritten 1e16 as an integer."""
    assert type(round_trip(float, 3)) is float
    assert repr(codec_of(float).decode('{"value":10000000000000000}')["value"]) == "1e+16"


def test_a_str_subclass_is_taken_as_text() -> None:
    """A template's safe string or a StrEnum member where a str is expected."""
    assert round_trip(str, Size.SMALL) == "s"
    assert type(round_trip(str, Size.SMALL)) is str


def test_the_same_datetime_in_a_named_zone() -> None:
    """The instant and the offset come back; the zone's name does not."""
    value = datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))

    assert round_trip(datetime, value).isoformat() == "2026-07-01T00:00:00+02:00"


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "1", "Argument value: expected an int, got str."),
        (int, True, "Argument value: expected an int, got bool."),
        (int, 1.0, "Argument value: expected an int, got float."),
        (int, None, "Argument value: expected an int, got None."),
        (list[int], [10**5000], "Argument value[0]: is an integer of too many digits."),
        (bool, 1, "Argument value: expected a bool, got int."),
        (str, 1, "Argument value: expected a str, got int."),
        (strawberry.ID, 1, "Argument value: expected a str, got int."),
        (float, True, "Argument value: expected a float, got bool."),
        (float, math.nan, "Argument value: JSON has no NaN and no infinity."),
        (float, 10**400, "Argument value: is too large for a float."),
        (Decimal, 0.1, "Argument value: expected a Decimal, got float."),
        (Decimal, Decimal("NaN"), "Argument value: JSON has no NaN and no infinity."),
        (uuid.UUID, "1", "Argument value: expected a UUID, got str."),
        (date, datetime(2026, 1, 1, tzinfo=UTC), "Argument value: expected a date, got datetime."),
        (datetime, date(2026, 1, 1), "Argument value: expected a datetime, got date."),
        (timedelta, 3, "Argument value: expected a timedelta, got int."),
        (Colour, 2, "Argument value: expected a member of Colour, got int."),
        (Literal["a", 1], True, "Argument value: expected one of 'a', 1."),
        (Literal["a"], [], "Argument value: expected one of 'a'."),
        (list[int], {1}, "Argument value: expected a list, got set."),
        (list[int], "12", "Argument value: expected a list, got str."),
        (list[int], [1, None], "Argument value[1]: expected an int, got None."),
        (dict[str, int], {1: 1}, "Argument value: has a key of type int; JSON's keys are strings."),
        (dict[str, int], {"a b": ""}, "Argument value['a b']: expected an int, got str."),
        (Price, {"amount": 1}, "Argument value: expected Price(...), got dict."),
        (
            list[Row],
            [Row(sku=strawberry.ID("s"), price=Price(amount=0.5))],  # type: ignore[arg-type]
            "Argument value[0].price.amount: expected a Decimal, got float.",
        ),
        (
            Row,
            Row(sku=strawberry.UNSET, price=Price(amount=Decimal(1))),
            "Argument value.sku: is required.",
        ),
        (
            strawberry.Maybe[int],
            3,
            "Argument value: expected strawberry.Some(...) or None, got int.",
        ),
        (str, "a\0b", "Argument value: has a NUL character, which databases refuse."),
        (
            str,
            "\ud800",
            "Argument value: has an unpaired surrogate, which is not valid Unicode.",
        ),
        (Any, {"a": ["\0"]}, "Argument value.a[0]: has a NUL character, which databases refuse."),
        (Any, {"\0": 1}, "Argument value['\\x00']: has a NUL character, which databases refuse."),
        (Any, [1.5, math.inf], "Argument value[1]: JSON has no NaN and no infinity."),
        (Any, [date(2026, 1, 1)], "Argument value[0]: date is not a JSON value."),
        (JSON, {"a": {1: 2}}, "Argument value.a: has a key of type int; JSON's keys are strings."),
    ],
)
def test_a_wrong_value_is_refused_where_it_is(
    annotation: object, value: object, message: str
) -> None:
    """Nothing is coerced, and the error says the path and the types, never the value."""
    assert refusal(annotation, value) == message


def test_a_time_whose_zone_needs_a_date_is_refused() -> None:
    """Its offset is unknown, so it would come back without a zone."""
    assert "depends on the date" in refusal(time, time(1, tzinfo=ZoneInfo("Europe/Berlin")))


def test_a_subclass_of_an_input_is_refused() -> None:
    """It would come back as its parent, without its own fields."""

    @strawberry.input
    class Special(Price):
        extra: int = 1

    assert refusal(Price, Special(amount=Decimal(1))) == (
        "Argument value: expected Price(...), got Special."
    )


def test_an_unknown_argument_suggests_a_name() -> None:
    """A misspelt argument is not dropped in silence."""

    def task(dataset_id: str = "") -> None: ...

    with pytest.raises(
        InvalidArguments, match="no argument 'datasetid'; did you mean 'dataset_id'"
    ):
        ArgumentsCodec(task, task="report").encode({"datasetid": "1"})


def test_a_missing_argument_is_refused() -> None:
    """The one without a default, by name."""
    with pytest.raises(InvalidArguments, match="Argument 'value' of task 't' is required"):
        codec_of(int).encode({})


def test_a_cycle_is_refused() -> None:
    """In a free value and in a recursive input, without taking the process down."""
    free: list[Any] = []
    free.append(free)
    node = Node(name="a")
    node.children.append(node)

    assert "contains itself" in refusal(Any, free)
    assert refusal(Node, node) == "The arguments are nested too deeply."


def test_deep_nesting_is_refused_at_the_same_depth_for_all() -> None:
    """A hundred levels, whatever the stack of the caller."""

    def nested(levels: int) -> Any:
        value: list[Any] = []
        for _ in range(levels - 1):
            value = [value]
        return value

    def chain(levels: int) -> Node:
        node = Node(name="leaf")
        for _ in range(levels):
            node = Node(name="n", children=[node])
        return node

    assert round_trip(Any, nested(100)) == nested(100)
    assert "nested more than 100 levels" in refusal(Any, nested(101))
    assert round_trip(Node, chain(40)) == chain(40)
    assert "nested more than 100 levels" in refusal(Node, chain(60))


@pytest.mark.parametrize(
    ("annotation", "raw", "message"),
    [
        (int, '{"value":"1"}', "Argument value: expected an int, got str."),
        (int, '{"value":true}', "Argument value: expected an int, got bool."),
        (int, "{}", "Argument 'value' of task 't' is required."),
        (int, '{"value":1,"old":2}', "Task 't' has no argument 'old'."),
        (int, "[1]", "The stored arguments are not a JSON object."),
        (int, "{", "The stored arguments are not JSON."),
        (int, b'{"value":"\xff"}', "The stored arguments are not JSON."),
        (Any, '{"value":' + "[" * 100_000, "The stored arguments are nested too deeply."),
        (Colour, '{"value":"GREEN"}', "Argument value: is not the name of a member of Colour."),
        (date, '{"value":"soon"}', "Argument value: is not a date."),
        (uuid.UUID, '{"value":"1"}', "Argument value: is not a UUID."),
        (Decimal, '{"value":"one"}', "Argument value: is not a Decimal."),
        (timedelta, '{"value":"1h"}', "Argument value: is not a timedelta."),
        (GlobalID, '{"value":"1"}', "Argument value: is not a GlobalID."),
        (Price, '{"value":{"amount":"1","old":2}}', "Argument value.old: Price has no such field."),
        (Price, '{"value":{}}', "Argument value.amount: is required."),
        (Price, '{"value":[]}', "Argument value: expected the fields of Price, got list."),
        (
            list[date],
            '{"value":["2026-01-01",1]}',
            "Argument value[1]: expected a date as a string, got int.",
        ),
    ],
)
def test_stored_arguments_that_no_longer_fit_are_refused(
    annotation: object, raw: bytes | str, message: str
) -> None:
    """A signature may change between enqueue and run; the task then fails clearly."""
    with pytest.raises(InvalidArguments) as refused:
        codec_of(annotation).decode(raw)

    assert str(refused.value) == message


def test_an_input_that_refuses_its_fields_is_an_argument_error() -> None:
    """Validation in `__post_init__` runs again when the input is built for the task."""

    @strawberry.input
    class Percent:
        value: int

        def __post_init__(self) -> None:
            if self.value > 100:
                raise ValueError("too much")

    with pytest.raises(InvalidArguments, match=r"value: Percent refused its fields \(ValueError\)"):
        codec_of(Percent).decode('{"value":{"value":101}}')


T = TypeVar("T")


@strawberry.input
class Page(Generic[T]):
    items: list[T]


@strawberry.type
class Output:
    name: str


@strawberry.input
class WithSecret:
    name: str
    secret: strawberry.Private[int]


@strawberry.input
class WithBytes:
    name: str
    price: Price
    blob: strawberry.scalars.Base64


class Access(enum.Flag):
    READ = 1


@pytest.mark.parametrize(
    ("annotation", "what"),
    [
        (bytes, "bytes has no JSON form; store the data first and pass where it is"),
        (set[int], "set[int] has no JSON form; a set has no order; use list[...]"),
        (complex, "complex has no JSON form; pass two floats"),
        (Callable[[], None], "a function cannot be stored"),
        (types.ModuleType, "module has no JSON form; supported are str, int"),
        (int | str, "int | str leaves open which type"),
        (dict[int, str], "dict[int, str] has keys of another type than str; use dict[str, X]"),
        (tuple[int, str], "tuple[int, str] has items of their own types; use tuple[X, ...]"),
        (list[set[int]], "set[int] has no JSON form"),
        (
            list[strawberry.Maybe[int]],
            "Maybe may only be the type of a parameter or a field itself",
        ),
        (T, "~T has no JSON form"),
        (Page[int], "is generic; write the input out for its type"),
        (Output, "Output is an output type; use a @strawberry.input"),
        (WithSecret, "WithSecret cannot be built again: its 'secret' is required"),
        (list[WithBytes], "field WithBytes.blob: bytes has no JSON form"),
        (Access, "Access is a Flag"),
        (Literal[b"a"], "has a choice that is not a string"),
        ("int |", "is not a type"),
        ("'int' | None", "is not a type"),
    ],
)
def test_an_annotation_without_json_form_fails_at_declaration(
    annotation: object, what: str
) -> None:
    """The error names task, parameter and what to write instead."""
    message = declaration_error(annotation)

    assert message.startswith(f"Task 't' ({HERE}.task), parameter 'value': ")
    assert what in message


def test_signatures_that_cannot_be_passed_by_name_fail() -> None:
    """Star arguments, positional-only and untyped parameters, each with what to change."""

    def stars(*rows: int) -> None: ...
    def double_stars(**rows: int) -> None: ...
    def positional(a: int, /) -> None: ...
    def untyped(a) -> None: ...  # type: ignore[no-untyped-def]
    def late_info(a: int, info: Any) -> None: ...
    def only_root(root, a: int) -> None: ...  # type: ignore[no-untyped-def]
    def only_self(self) -> None: ...  # type: ignore[no-untyped-def]
    def keyword_info(*, info: Any) -> None: ...

    expected = {
        stars: r"'\*rows': name each argument",
        double_stars: r"'\*\*rows': name each argument",
        positional: "'a': is positional-only",
        untyped: "'a': has no type; write one, such as \"a: str\"",
        late_info: "'info': the name is reserved; put root and info first",
        only_root: r"'root': write \(root, info, \.\.\.\), or give it another name",
        only_self: "'self': write",
        keyword_info: "'info': write it as a plain leading parameter",
    }
    for function, message in expected.items():
        with pytest.raises(TaskDeclarationError, match=message):
            ArgumentsCodec(function, task="t")


def test_leading_root_and_info_are_not_arguments() -> None:
    """Whatever they are annotated with; `self` is the root in a class body."""

    def both(root: "Nowhere", info: "Nowhere", a: int) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def only_info(info, a: int) -> None: ...  # type: ignore[no-untyped-def]
    def method(self, info, a: int) -> None: ...  # type: ignore[no-untyped-def]
    def neither(a: int) -> None: ...

    taken = {
        function.__name__: (codec.takes_root, codec.takes_info, [p.name for p in codec.parameters])
        for function in (both, only_info, method, neither)
        for codec in [ArgumentsCodec(function, task="t")]
    }

    assert taken == {
        "both": (True, True, ["a"]),
        "only_info": (False, True, ["a"]),
        "method": (True, True, ["a"]),
        "neither": (False, False, ["a"]),
    }


def test_parameters_are_as_written() -> None:
    """The GraphQL edge builds its arguments from them."""
    argument = Annotated[int, strawberry.argument(name="n")]

    def task(info: Any, a: "list[Price]", *, b: argument = 3) -> None: ...  # type: ignore[valid-type]

    assert ArgumentsCodec(task, task="t").parameters == (
        Parameter("a", "list[Price]", MISSING, True),
        Parameter("b", argument, 3, False),
    )


def test_a_forward_reference_is_resolved_at_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type defined further down in the module does not stop the declaration."""
    function = task_with("list[Later]")
    codec = ArgumentsCodec(function, task="t")

    monkeypatch.setitem(function.__globals__, "Later", Price)

    assert codec.decode(codec.encode({"value": [Price(amount=Decimal(1))]})) == {
        "value": [Price(amount=Decimal(1))]
    }


def test_a_forward_reference_that_stays_unknown_fails_when_resolved() -> None:
    """With the same error as at declaration, naming the name."""
    codec = codec_of("list[Nowhere]")

    with pytest.raises(TaskDeclarationError, match="'value': unknown type: name 'Nowhere'"):
        codec.resolve()
    with pytest.raises(TaskDeclarationError, match="Nowhere"):
        codec.encode({"value": []})


def test_a_forward_reference_to_an_unsupported_type_fails_when_resolved() -> None:
    """It could not be refused at declaration; it is refused before anything is stored."""
    function = task_with("Later")
    codec = ArgumentsCodec(function, task="t")
    function.__globals__["Later"] = bytes

    with pytest.raises(TaskDeclarationError, match="bytes has no JSON form"):
        codec.resolve()


def test_an_unsupported_parameter_fails_at_once_beside_an_open_one() -> None:
    """Mistakes that show at import are raised at import."""

    def task(a: "Nowhere", b: bytes) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TaskDeclarationError, match="parameter 'b': bytes"):
        ArgumentsCodec(task, task="t")


def test_a_lazy_type_is_not_imported_at_declaration(tmp_path: Any, monkeypatch: Any) -> None:
    """Its module may import the task's; it is imported when the codec is resolved."""
    (tmp_path / "lazy_rows.py").write_text(
        "import strawberry\n\n@strawberry.input\nclass LazyRow:\n    n: int\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    codec = codec_of(Annotated["LazyRow", strawberry.lazy("lazy_rows")])  # type: ignore[name-defined]  # noqa: F821
    assert "lazy_rows" not in sys.modules

    codec.resolve()
    row = sys.modules.pop("lazy_rows").LazyRow(n=1)

    assert codec.decode(codec.encode({"value": row})) == {"value": row}


def test_a_lazy_type_that_does_not_exist_fails_when_resolved() -> None:
    """With the module and the name."""
    codec = codec_of(Annotated["Nothing", strawberry.lazy(HERE)])  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TaskDeclarationError, match=f"'Nothing' cannot be loaded from '{HERE}'"):
        codec.resolve()


def test_a_custom_scalar_writes_and_reads_itself() -> None:
    """A type made by `strawberry.scalar` has its own JSON form."""
    with pytest.warns(DeprecationWarning, match="scalar_map"):
        Pair: Any = strawberry.scalar(
            NewType("Pair", tuple),
            serialize=lambda pair: f"{pair[0]}:{pair[1]}",
            parse_value=lambda text: tuple(text.split(":")),
        )

    assert round_trip(Pair, ("a", "b")) == ("a", "b")
    assert refusal(Pair, 3) == "Argument value: is not a Pair (TypeError)."


class Named(NamedTuple):
    a: int
    b: str


class Struct(msgspec.Struct):
    a: int
    b: int | msgspec.UnsetType = msgspec.UNSET


@strawberry.type
class Report:
    rows: list[Point]
    secret: strawberry.Private[str] = "s"
    note: str | None = strawberry.UNSET

    @strawberry.field
    def count(self) -> int:
        return len(self.rows)


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (None, b"null"),
        ({"ok": True, "n": [1, 2.5, "x"]}, b'{"ok":true,"n":[1,2.5,"x"]}'),
        ((1, (2,)), b"[1,[2]]"),
        (Named(1, "x"), b'[1,"x"]'),
        (2**70, b"1180591620717411303424"),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        ({"d": Decimal("1.10")}, b'{"d":"1.10"}'),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), b'"2026-01-02T03:04:00Z"'),
        ([date(2026, 1, 2), time(1, 2)], b'["2026-01-02","01:02:00"]'),
        (timedelta(seconds=90), b'"PT90S"'),
        ([Colour.BLUE, Size.LARGE, Colour.RED], b'[2,"l",["not","json"]]'),
        (
            Report(rows=[Point(3, 4)]),
            b'{"rows":[{"x":3,"y":0.0,"length":5.0}]}'.replace(b"0.0", b"4"),
        ),
        (
            Row(sku=strawberry.ID("s"), price=Price(amount=Decimal(1))),
            b'{"sku":"s","price":{"amount":"1","currency":"EUR"},"colour":null,"tags":[],"seen":null}',
        ),
        (strawberry.Some([1]), b"[1]"),
        (Struct(1), b'{"a":1}'),
        ({"a": strawberry.UNSET, "b": lazystr("text")}, b'{"b":"text"}'),
        (types.MappingProxyType({"a": 1}), b'{"a":1}'),
        ({Size.SMALL: 1}, b'{"s":1}'),
        ("\\u0000", b'"\\\\u0000"'),
    ],
)
def test_a_result_takes_its_natural_json_form(value: object, raw: bytes) -> None:
    """Objects by their public fields under Python names, enum members by value."""
    assert encode_result(value) == raw


class Opaque:
    pass


ELSE = "return dicts, lists, strings, numbers, booleans or None."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [{1}]}, "result.a[0]: set has no JSON form; return sorted(...) or list(...)."),
        (b"x", "result: bytes has no JSON form; decode it, or store it and return where it is."),
        ({"a": {1: 2}}, "result.a: has a key of type int; JSON's keys are strings."),
        ([1, math.nan], "result[1]: JSON has no NaN and no infinity."),
        ({"a": math.inf, "b": "x"}, "result.a: JSON has no NaN and no infinity."),
        (Decimal("Infinity"), "result: JSON has no NaN and no infinity."),
        (Point(math.nan), "result.x: JSON has no NaN and no infinity."),
        ({"a": "x\0"}, "result.a: has a NUL character, which databases refuse."),
        (["\udfff"], "result[0]: has an unpaired surrogate, which is not valid Unicode."),
        ([10**5000], "result[0]: is an integer of too many digits."),
        (
            Point,
            f"result: type has no JSON form; {ELSE}",
        ),
        (
            [strawberry.UNSET, Opaque()],
            f"result[0]: UnsetType has no JSON form; {ELSE}",
        ),
        (
            (n for n in range(3)),
            f"result: generator has no JSON form; {ELSE}",
        ),
    ],
)
def test_a_result_without_json_form_is_refused(value: object, message: str) -> None:
    """By path and type; it never becomes str(obj)."""
    with pytest.raises(ResultError) as refused:
        encode_result(value)

    assert str(refused.value) == message
    assert refused.value.error_code == "result_not_serializable"


def test_a_result_that_contains_itself_is_refused() -> None:
    """A list, an object, and dataclasses that point at each other."""
    loop: dict[str, Any] = {}
    loop["again"] = [loop]
    node = Node(name="a")
    node.children.append(node)

    for value in (loop, node):
        with pytest.raises(ResultError, match="contains itself"):
            encode_result(value)


def test_a_mistake_in_a_sensitive_argument_names_no_key_of_it() -> None:
    """The message is public, as the arguments of other tasks are their owners' own."""

    def log_in(user: str, secrets: dict[str, int]) -> None: ...

    hidden = define(log_in, name="codec.log_in", sensitive=["secrets"])
    shown = define(log_in, name="codec.log_in")
    values = {"user": "ada", "secrets": {"hunter2": "x"}}
    for definition, place in ((hidden, "secrets:"), (shown, "secrets.hunter2:")):
        with pytest.raises(InvalidArguments, match=place):
            definition.codec.encode(values)
        with pytest.raises(InvalidArguments, match=place):
            definition.codec.decode(json.dumps(values))
