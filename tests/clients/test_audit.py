"""GraphQL over HTTP, by the audits of npm's graphql-http: every MUST, SHOULD and MAY."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import place_of
from tests.services.node import finish_script, start_script
from tests.support.server import Server

AUDITS = """
    22EB 4655 47DE 80D8 82A3 BF61 78D5 2C94 5A70 9C48 9ABE 03D4 A5BF 423L LKJ0 LKJ1 LKJ2
    LKJ3 34A2 13EE 6C00 6C01 6C02 6C03 8161 B8B3 94B0 0220 94B1 0221 94B2 0222 4760 4761
    4762 4763 2EA1 28B9 D6D5 6A70 58B0 58B1 58B2 58B3 428F 1B7A B6DC BCF8 B7N8 8764 3E3A
    572B FDE2 7B9B 865D 556A D586 51FE 74FF 5E5B 86EE
"""


@pytest.fixture(scope="module")
def audits(server: Server) -> Any:
    """Each audit's name, and why it failed, by its id."""
    return finish_script(start_script("audit.mjs", place_of(server)))


@pytest.mark.parametrize("audit", AUDITS.split())
def test_an_audit(audits: Any, audit: str) -> None:
    """Optional ones too."""
    assert audits[audit]["reason"] is None, audits[audit]["name"]


def test_no_audit_is_left_out(audits: Any) -> None:
    """The suite's audits are those that are listed here."""
    assert sorted(audits) == sorted(AUDITS.split())
