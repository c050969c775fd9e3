"""A reader who does what a page says, block by block, in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
from graphql import build_schema, parse, validate

from devservers.process import accepts, free_port
from tests.support.pages import Block, Page, read
from tests.support.server import LoggedProcess

# Files to which a block is added. All others are replaced.
ADDED_TO = {"settings.py", "urls.py", "tasks.py"}
# Commands that go on until they are stopped, with the option that gives them another port.
SERVERS = {
    "uvicorn": " --port {port}",
    "daphne": " -p {port}",
    "hypercorn": " -b 127.0.0.1:{port}",
    "python manage.py runserver": " {port}",
    "python manage.py task_worker": "",
    "celery": "",
}
_CONSOLE = Path(__file__).with_name("console.py")


class Reader:
    """Follows pages. What is typed runs with `python` as the only interpreter.

    Args:
        folder: an empty one, the reader's working directory.
        python: of the environment that the reader has activated.
        env: more of the environment.
    """

    def __init__(self, folder: Path, python: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self._env = {
            **{name: it for name, it in os.environ.items() if not name.startswith("PYTHON")},
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "DJANGO_SETTINGS_MODULE": "root.settings",
            **(env or {}),
        }
        self._python = python
        self._console: subprocess.Popen[str] | None = None
        self._schema: Any = None
        self._logs = 0
        self.servers: list[LoggedProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.leave_console()
        self.stop_servers()

    def stop_servers(self) -> None:
        """Stops what `start` has started, the last one first."""
        while self.servers:
            self.servers.pop().stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- pages -----------------------------------------------------------------------------------

    def follow(self, page: Page, *, serve: bool = True) -> None:
        """Does what each block says; a page that it starts from goes first, without servers."""
        if page.starts_from is not None:
            self.follow(read(page.starts_from), serve=False)
        for block in page.blocks:
            if block.skipped is None:
                self.do(block, serve=serve)

    def do(self, block: Block, *, serve: bool = True) -> None:
        """Does what a block says. Raises AssertionError, with the block's place, if that fails."""
        if block.file is not None and block.language != "sh":
            self.paste(block)
        elif block.language == "sh":
            self.type(block, serve=serve)
        elif block.language == "python":
            self.execute(block)
        elif block.language == "graphql":
            self.check_document(block)
        elif block.language in ("js", "html"):
            raise AssertionError(f"{block}: name a file in the first line, or say why not.")

    def paste(self, block: Block) -> None:
        """Writes a file, or adds to it, by its name."""
        assert block.file is not None
        path = self.folder / block.file
        added = path.name in ADDED_TO and path.exists()
        before = f"{path.read_text().rstrip()}\n\n\n" if added else ""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(before + block.text)
        self._schema = None
        self.leave_console()

    def type(self, block: Block, *, serve: bool = True) -> None:
        """Runs commands; a server is started, and answers when this returns."""
        commands = block.text.replace("8000", str(self.port)).rstrip().splitlines()
        server = commands.pop() if _is_server(commands[-1]) else None
        if commands:
            self.run("\n".join(commands), str(block))
        if server is not None and serve:
            self.serve(server)

    def run(self, script: str, where: str) -> str:
        """Returns what commands print. Raises AssertionError if one of them fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{where}\n{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serve(self, command: str) -> LoggedProcess:
        """Starts a server in the background, on the reader's port. Returns it once it answers."""
        option = next(option for name, option in SERVERS.items() if _is(name, command))
        if str(self.port) not in command:
            command += option.format(port=self.port)
        self._logs += 1
        logs = self.folder.parent / f"{self.folder.name}-log-{self._logs}"
        logs.mkdir()
        argv = ["bash", "-c", f'cd "{self.folder}" && exec {command}']
        server = LoggedProcess(command, argv, self._env, logs, both=True)
        self.servers.append(server)
        if str(self.port) in command:
            server.wait_until(lambda: accepts(self.port))
        return server

    # --- Python and GraphQL ----------------------------------------------------------------------

    def execute(self, block: Block) -> None:
        """Runs a block in the page's console, which is made anew after a file has changed."""
        console = self._console
        if console is None:
            console = self._console = subprocess.Popen(
                [self._python, _CONSOLE],
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert console.stdin is not None
        assert console.stdout is not None
        print(json.dumps({"code": block.text, "where": str(block)}), file=console.stdin, flush=True)
        answer = json.loads(console.stdout.readline() or '{"error": "The console has ended."}')
        assert answer["error"] is None, f"{block}\n{block.text}\n{answer['error']}"

    def leave_console(self) -> None:
        """Ends the console; a later block gets a new one, with an empty namespace."""
        if self._console is not None:
            self._console.communicate(timeout=60)
            self._console = None

    def check_document(self, block: Block) -> None:
        """Asserts that each operation of a block fits the project's schema."""
        if self._schema is None:
            command = (
                'python -c "import django; django.setup();'
                " from rail_async_tasks.graphql.schema import get_schema;"
                ' print(get_schema().as_str())"'
            )
            self._schema = build_schema(self.run(command, str(block)))
        errors = validate(self._schema, parse(block.text))
        assert not errors, f"{block}\n{errors}"

    def post(self, document: str, **variables: Any) -> Any:
        """Returns the answer of the server to a GraphQL document."""
        sent = {"query": document, "variables": variables}
        return httpx.post(f"{self.url}/graphql/", json=sent, timeout=30).json()


def interpreter() -> Path:
    """Returns the Python of the environment that the tests run in."""
    return Path(sys.executable)


def _is_server(command: str) -> bool:
    return any(_is(name, command) for name in SERVERS)


def _is(name: str, command: str) -> bool:
    return command == name or command.startswith(f"{name} ")
