"""Every mutant of the rule of access is caught by the tables of `test_access.py`."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from rail_async_tasks import access
from tests.unit.test_access import ADA, ADMIN, ANONYMOUS, AUDITOR, RULE, Row

FUNCTIONS = ("may_see", "may_change", "may_see_tracebacks", "_owns")
# What one attribute may be mistaken for.
SWAPS = {
    "sees_all": ("changes_all", "is_anonymous"),
    "changes_all": ("sees_all", "is_anonymous"),
    "user_id": ("tenant_id",),
    "owner_id": ("tenant_id",),
    "tenant_id": ("owner_id", "user_id"),
}
DENY = [
    (ANONYMOUS, Row(None), False, False),
    (ADA, Row(None), False, False),
    (ADA, Row("1"), True, True),
    (AUDITOR, Row(None), True, False),
    (ADMIN, Row(None), True, True),
]


def holds(rule: dict[str, Any]) -> bool:
    """Whether the rule is right in every row of the tables. One that raises is not."""
    try:
        return (
            all(
                (
                    rule["may_see"](viewer, task, "by_id"),
                    rule["may_change"](viewer, task, "by_id"),
                )
                == (sees, changes)
                for viewer, task, sees, changes in RULE
            )
            and all(
                (rule["may_see"](viewer, task, "deny"), rule["may_change"](viewer, task, "deny"))
                == (sees, changes)
                for viewer, task, sees, changes in DENY
            )
            and all(
                rule["may_see_tracebacks"](viewer) == sees
                for viewer, sees in (
                    (ADA, False),
                    (ANONYMOUS, False),
                    (AUDITOR, True),
                    (ADMIN, True),
                )
            )
        )
    except AttributeError:
        return False


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what one expression or statement may be mistaken for."""
    match node:
        case ast.If():
            yield from (_with(node, test=_not(node.test)), _with(node, body=[ast.Pass()]))
        case ast.Return(value=value) if not isinstance(value, ast.Constant):
            yield from (_with(node, value=ast.Constant(it)) for it in (True, False))
        case ast.Return(value=ast.Constant(value=bool() as value)):
            yield _with(node, value=ast.Constant(not value))
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for number in range(len(node.values)):
                left = node.values[:number] + node.values[number + 1 :]
                yield _with(node, values=left) if len(left) > 1 else left[0]
        case ast.Compare():
            opposite = {ast.Eq: ast.NotEq, ast.Is: ast.IsNot, ast.IsNot: ast.Is}
            yield _with(node, ops=[opposite[type(node.ops[0])]()])
        case ast.Attribute(attr=name) if name in SWAPS:
            yield from (_with(node, attr=it) for it in SWAPS[name])
        case ast.Constant(value=str() as text) if text in ("by_id", "deny"):
            yield _with(node, value="deny" if text == "by_id" else "by_id")


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    found = copy.copy(node)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def rule_of(tree: ast.Module) -> dict[str, Any]:
    """Returns the functions of the tree, with all else as the module has it."""
    names = dict(vars(access))
    exec(compile(ast.fix_missing_locations(tree), "mutant", "exec"), names)
    return names


def source() -> ast.Module:
    texts = [inspect.getsource(getattr(access, name)) for name in FUNCTIONS]
    return ast.parse("\n".join(texts))


def mutants() -> Iterator[Any]:
    """Yields the rule with one mistake, under words that show it."""
    for number, node in enumerate(ast.walk(source())):
        for new in changed(node):
            # A node is known by its place: `_Swap` changes the tree that it visits.
            again = source()
            old = list(ast.walk(again))[number]
            words = f"{ast.unparse(node)[:60]} -> {ast.unparse(new)[:60]}".replace("\n", " ")
            yield pytest.param(_Swap(old, new).visit(again), id=words)


MUTANTS = list(mutants())


def test_the_rule_itself_holds() -> None:
    """Written out anew, without a mistake."""
    assert holds(rule_of(source()))
    assert len(MUTANTS) > 40


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant: ast.Module) -> None:
    """By one row of the tables at least."""
    assert not holds(rule_of(mutant))
