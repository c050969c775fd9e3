"""JSON values that are easily changed on their way through a database, and how to compare them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

WHOLE = (
    0, 1, -1, 2**31, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64,
    2**64 + 1, -(2**63), -(2**63) - 1, 10**22, 10**30, -(10**30), 10**400 + 1,
)  # fmt: skip
FLOATS = (
    0.0, -0.0, 1.0, -1.0, 100.0, 1e2, 0.1, 2.5, 1e15, 1e16, -1e16, 1e17, 1.5e16,
    123456789012345680.0, 1e21, 1e22, 1e23, -1e22, 1.5e300, 1e308, 1.7976931348623157e308,
    -1.7976931348623157e308,
    2.0**53, 2.0**63, 2.0**64, 1e-4, 1e-5, 1e-7, -1e-7, 2.2250738585072014e-308, 5e-324, -5e-324,
    3.141592653589793, 1 / 3,
)  # fmt: skip
TEXTS = (
    "", " ", "1e22", "-0.0", "1e22]", '"1e22"', '\\"1e22', "\\", '"', "\\\\1e5,", "[-0.0]", "é😀",
    "\u2028\u2029", "\x7f\x1f", "null", "100.0", "\ufffe", "e1", "019e22,", "NaN", "%s", "$sealed",
)  # fmt: skip

CORNERS: tuple[Any, ...] = (
    *WHOLE, *FLOATS, *TEXTS, True, False, [], {}, [[]], [{}], {"": {}},
    list(FLOATS), list(WHOLE), [1, 1.0, True, "1", 1e16, 10**16],
    dict(zip(TEXTS, FLOATS, strict=False)), {text: text for text in TEXTS},
    {"z": 1, "a": 1.0, "aa": [-0.0, {"b": 1e22, "a": 10**22}], "1e22": -0.0},
    {"text": "1e22", "number": 1e22}, [["1e22", 1e22, '","', 1e22]], {"1e22": "1e22"},
)  # fmt: skip

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
# Whole floats of every size: those are what a database may take for integers.
whole_floats = st.integers(-(10**25), 10**25).map(float)
numbers = (
    st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | whole_floats
    | st.sampled_from(WHOLE)
    | st.sampled_from(FLOATS)
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Returns whether two JSON values are equal and of the same types, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def nested(depth: int) -> Any:
    """Lists and objects in turn, with a number inside."""
    value: Any = 1e22
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value
