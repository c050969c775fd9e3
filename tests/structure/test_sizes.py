"""A file is a page: how long a module of the package may be."""

from __future__ import annotations

from tests.structure.graph import modules

USUAL = 300  # lines; more than that is listed below with its reason
MOST = 400

# Modules longer than USUAL, each with the reason why two files would be worse.
LONGER: dict[str, str] = {
    "rail_async_tasks.models": "an execution's columns, indexes and constraints stand together",
}


def sizes() -> dict[str, int]:
    """Returns the number of lines of each module of the package, by its name."""
    return {
        name: len(path.read_text().splitlines())
        for name, path in modules("rail_async_tasks").items()
    }


def test_a_module_is_a_page() -> None:
    """A module over 300 lines has its reason in LONGER; one over 400 has too many jobs."""
    allowed = dict.fromkeys(LONGER, MOST)
    long = {name: size for name, size in sizes().items() if size > allowed.get(name, USUAL)}
    assert long == {}


def test_a_listed_module_is_still_long() -> None:
    """A reason that is no longer needed leaves the list."""
    assert {name for name in LONGER if sizes().get(name, 0) <= USUAL} == set()
