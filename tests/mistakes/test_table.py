"""The page shows every mistake, in the words of the tests."""

from __future__ import annotations

from tests.mistakes.table import PAGE, mistakes, modules, rendered


def test_the_page_has_the_tables_of_the_tests() -> None:
    """`python -m tests.mistakes.table --write` brings it up to date."""
    text = PAGE.read_text()
    assert rendered(text) == text


def test_each_module_of_tests_has_a_table() -> None:
    """And one only."""
    assert sorted(modules(PAGE.read_text())) == sorted(mistakes())


def test_no_mistake_is_there_twice() -> None:
    """Titles tell the rows apart."""
    titles = [it.done for known in mistakes().values() for it in known]
    assert len(titles) == len(set(titles)) >= 22


def test_what_to_do_is_part_of_the_message() -> None:
    """No row has an empty cell, and none is mere wildcard."""
    for known in mistakes().values():
        for it in known:
            assert all(len(words.strip("… ")) >= 5 for words in (it.done, it.says, it.do, it.where))
