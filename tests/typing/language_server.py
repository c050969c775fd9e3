"""A client of pyright's language server: what an editor shows over a name."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.typing.checkers import PYRIGHT

_TIMEOUT: Final = 120  # seconds, after which the server is ended and its answers with it


class LanguageServer:
    """One server, asked over its pipes. Answers come in the order of the questions."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._asked = 0

    def ask(self, method: str, params: Any) -> Any:
        """Returns the result of a request. Raises where the server refused it, or ended."""
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" not in message and message["id"] == self._asked:
                return message["result"]
            if "method" in message and "id" in message:  # a question of the server's
                self._send({"id": message["id"], "result": None})

    def notify(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def open(self, path: Path) -> None:
        """Open a file, as an editor does."""
        document = {"languageId": "python", "version": 1, "text": path.read_text()}
        self.notify("textDocument/didOpen", {"textDocument": {"uri": path.as_uri(), **document}})

    def hover(self, path: Path, text: str) -> str:
        """Returns the words shown over the end of `text`, where the file first has it."""
        before, _, _ = path.read_text().partition(text)
        written = (before + text)[:-1]
        position = {
            "line": written.count("\n"),
            "character": len(written) - written.rfind("\n") - 1,
        }
        params = {"textDocument": {"uri": path.as_uri()}, "position": position}
        shown: str = self.ask("textDocument/hover", params)["contents"]["value"]
        return " ".join(shown.split())

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> Any:
        out = self._process.stdout
        assert out is not None
        length = 0
        while (line := out.readline().strip()) != b"" or length == 0:
            if line == b"":
                raise EOFError("the language server has ended")
            name, _, value = line.partition(b": ")
            if name == b"Content-Length":
                length = int(value)
        return json.loads(out.read(length))


@contextmanager
def language_server(project: Path) -> Iterator[LanguageServer]:
    """pyright's language server, for a folder with a `pyrightconfig.json`."""
    command = ["node", PYRIGHT / "langserver.index.js", "--stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        timer = threading.Timer(_TIMEOUT, process.kill)
        timer.start()
        try:
            server = LanguageServer(process)
            hover = {"contentFormat": ["plaintext"]}
            server.ask(
                "initialize",
                {
                    "processId": None,
                    "rootUri": project.as_uri(),
                    "workspaceFolders": [{"uri": project.as_uri(), "name": "project"}],
                    "capabilities": {"textDocument": {"hover": hover}},
                },
            )
            server.notify("initialized", {})
            yield server
        finally:
            timer.cancel()
            process.kill()
