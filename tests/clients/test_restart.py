"""A server that is restarted while npm's clients follow a task."""

from __future__ import annotations

from tests.clients.conftest import APPLICATION, place_of
from tests.services.node import finish_script, start_script
from tests.support.shop_server import serving


def test_clients_come_back_and_see_the_end_once(server_env: dict[str, str]) -> None:
    """A socket is closed with 1012 and a stream ends without `complete`; both subscribe again."""
    with serving(server_env, APPLICATION) as server:
        script = start_script("restart.mjs", place_of(server))
        assert script.stdout is not None
        assert script.stdout.readline() == "following\n"
    with serving(server_env, APPLICATION, port=server.port):
        seen = finish_script(script)
    for client in ("ws", "sse"):
        assert seen[client].count("completed") == 1
        assert seen[client][-1] == "completed"
    assert seen["closed"][0] == 1012
