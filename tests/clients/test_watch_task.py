"""`watchTask` of our own module in Node.js: against a real server, and against broken ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.clients.conftest import place_of
from tests.services.node import finish_script, start_script
from tests.support.server import Server

CASES = {
    "watch_task.mjs": [
        "to_the_end_by_web_socket",
        "to_the_end_by_events",
        "to_the_end_by_polling",
        "a_final_task_is_one_state",
        "a_missing_task_ends_it_with_its_code",
        "a_good_token_sees_its_users_task",
        "a_bad_token_ends_it",
        "a_function_is_asked_for_another_token_once",
        "an_error_of_the_pages_own_function_ends_it",
        "watches_share_sockets_up_to_the_servers_limit",
        "leaving_a_loop_stops_the_watch",
        "a_signal_ends_the_watch_with_its_reason",
        "further_fields",
        "a_document_that_does_not_fit_ends_it",
        "a_request_has_codes",
        "a_page_in_place_of_graphql_is_named",
        "options_of_the_page_hold_for_all",
    ],
    "watch_faults.mjs": [
        "comes_back_after_1012",
        "comes_back_after_1011",
        "comes_back_after_4408",
        "ends_after_4400",
        "ends_after_1008",
        "ends_after_1009",
        "ends_after_4401",
        "ends_after_4403",
        "another_subprotocol_goes_on_by_events",
        "an_early_complete_is_no_end",
        "stale_states_are_refused",
        "a_temporary_error_is_tried_again",
        "a_dead_connection_is_left",
        "a_ping_is_answered_and_sent",
        "a_handshake_without_an_answer_goes_on_by_events",
        "a_stream_that_breaks_is_opened_again",
        "a_silent_stream_is_opened_again",
        "a_stream_in_small_pieces",
        "a_view_without_streams_is_polled",
        "three_streams_at_most_and_the_others_poll",
        "a_server_that_is_away_is_waited_for",
        "a_refusal_by_status_ends_it",
        "a_server_without_any_transport_is_named",
        "a_callback_that_throws_ends_no_watch",
        "a_socket_without_watches_is_closed",
    ],
}


@cache
def _outcomes(script: str, server: Server, module: Path) -> dict[str, str | None]:
    place = {**place_of(server), "module": str(module)}
    outcomes: dict[str, str | None] = finish_script(start_script(script, place))
    return outcomes


@pytest.mark.parametrize(
    ("script", "case"), [(script, case) for script, cases in CASES.items() for case in cases]
)
def test_a_case_of_the_module(server: Server, module: Path, script: str, case: str) -> None:
    """Each by its name, in the script; one run of the script serves all of its cases."""
    assert _outcomes(script, server, module)[case] is None


@pytest.mark.parametrize("script", CASES)
def test_no_case_is_left_out(server: Server, module: Path, script: str) -> None:
    """The script's cases are the ones that are listed here."""
    assert list(_outcomes(script, server, module)) == CASES[script]
