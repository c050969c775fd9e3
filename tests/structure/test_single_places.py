"""Facts that stand in one place, and rooms that know nothing of each other."""

from __future__ import annotations

import pytest

from tests.structure.graph import facts, modules

PACKAGE = "rail_async_tasks"


def readers_of(attribute: str) -> set[str]:
    """Returns the modules that read an attribute of this name."""
    return {name for name, path in modules(PACKAGE).items() if attribute in facts(path).attributes}


def imports_of(folder: str, target: str) -> list[str]:
    """Returns the imports of a module, or of all below it, by a folder's modules."""
    return [
        f"{module}:{line} imports {name}"
        for module, path in modules(PACKAGE).items()
        if f"{module}.".startswith(f"{PACKAGE}.{folder}.")
        for line, name in facts(path).imports
        if f"{name}.".startswith(f"{PACKAGE}.{target}.")
    ]


def test_one_module_decides_what_is_published() -> None:
    """`emit_subscriptions` is read where the announcer is made; all others ask the announcer."""
    assert readers_of("emit_subscriptions") == {f"{PACKAGE}.runtime.announce"}


def test_one_module_registers_fork_hooks() -> None:
    """A second spelling would be one that a change of the first misses."""
    assert readers_of("register_at_fork") == {f"{PACKAGE}.forks"}


def test_one_module_runs_the_csrf_check() -> None:
    """The edges ask it, so that one of them cannot differ."""
    middleware = "django.middleware.csrf.CsrfViewMiddleware"
    users = {
        name
        for name, path in modules(PACKAGE).items()
        if middleware in {it for _, it in facts(path).imports}
    }
    assert users == {f"{PACKAGE}.auth.csrf"}


@pytest.mark.parametrize(
    ("folder", "target"),
    [("rest", "graphql"), ("graphql", "rest"), ("observability", "graphql"), ("auth", "graphql")],
)
def test_an_edge_knows_no_other(folder: str, target: str) -> None:
    """What two edges need lives below both."""
    assert imports_of(folder, target) == []


@pytest.mark.parametrize("folder", ["graphql", "rest"])
@pytest.mark.parametrize("target", ["db_connections", "ledger"])
def test_edges_go_through_the_service(folder: str, target: str) -> None:
    """They know neither how rows are kept nor the connections behind them."""
    assert imports_of(folder, target) == []


@pytest.mark.parametrize("folder", ["codec", "bus", "ledger"])
def test_the_ground_is_handed_its_settings(folder: str) -> None:
    """Keys, addresses and limits are arguments, so that a test needs no Django settings."""
    found = imports_of(folder, "conf")
    assert [it for it in found if "conf.model" not in it] == []


def test_an_import_is_found() -> None:
    """The helper sees an import inside a function, too."""
    assert imports_of("asgi", "graphql") != []
