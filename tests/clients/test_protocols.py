"""The protocols as npm's own clients speak them: graphql-transport-ws and GraphQL over SSE."""

from __future__ import annotations

from functools import cache

import pytest

from tests.clients.conftest import place_of
from tests.services.node import finish_script, start_script
from tests.support.server import Server

CASES = {
    "graphql_ws.mjs": [
        "a_query",
        "a_mutation",
        "a_subscription_to_its_end",
        "unsubscribing_in_the_middle",
        "several_on_one_socket",
        "an_error_has_its_code",
        "a_bad_query_ends_its_operation_alone",
        "one_subscription_too_many",
        "a_good_token",
        "an_anonymous_caller",
        "a_bad_token_is_4403",
        "pings_are_answered",
        "a_pong_needs_no_ping",
        "an_unknown_id_is_completed_without_harm",
        "a_malformed_frame_is_4400",
        "an_operation_before_the_acknowledgement_is_4401",
        "a_foreign_subprotocol_is_4406",
        "a_client_that_never_initialises_is_4408",
        "an_id_in_use_is_4409",
        "a_second_initialisation_is_4429",
    ],
    "graphql_sse.mjs": [
        "a_query_is_a_stream_of_one_result",
        "a_mutation_is_a_stream_of_one_result",
        "a_subscription_to_its_end",
        "unsubscribing_in_the_middle",
        "several_at_once",
        "an_error_has_its_code",
        "a_bad_query_is_an_error_of_the_stream",
        "a_good_token",
        "a_bad_token_is_a_401",
        "every_line_ends_with_lf",
        "a_client_that_takes_json_as_well_gets_json",
        "a_subscription_asked_for_as_json_is_a_406",
        "what_is_not_acceptable_is_a_406",
        "a_mutation_by_get_is_a_405",
    ],
}


@cache
def _outcomes(script: str, server: Server) -> dict[str, str | None]:
    outcomes: dict[str, str | None] = finish_script(start_script(script, place_of(server)))
    return outcomes


@pytest.mark.parametrize(
    ("script", "case"), [(script, case) for script, cases in CASES.items() for case in cases]
)
def test_a_case_of_a_client(server: Server, script: str, case: str) -> None:
    """Each by its name, in the script; one run of the script serves all of its cases."""
    assert _outcomes(script, server)[case] is None


@pytest.mark.parametrize("script", CASES)
def test_no_case_is_left_out(server: Server, script: str) -> None:
    """The script's cases are the ones that are listed here."""
    assert list(_outcomes(script, server)) == CASES[script]
