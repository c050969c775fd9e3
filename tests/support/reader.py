"""A reader who does what a page says, block by block, in a folder of their own."""

from __future__ import annotations

import ast
import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import httpx
from graphql import build_schema, parse, validate

from devservers.process import accepts, free_port
from tests.support.pages import Block, Page, read
from tests.support.reader_python import Console, ReaderPython, is_plain_manage
from tests.support.server import LoggedProcess
from tests.support.waiting import TIMEOUT

# Files to which a block is added. All others are replaced.
ADDED_TO = {"settings.py", "urls.py", "tasks.py"}
# Commands that go on until they are stopped, with the option that gives them another port.
SERVERS = {
    "uvicorn": " --port {port}",
    "daphne": " -p {port}",
    "hypercorn": " -b 127.0.0.1:{port}",
    "python manage.py runserver": " {port}",
    "python manage.py task_worker": "",
    "python manage.py qcluster": "",
    "python manage.py rundramatiq": "",
    "python -m shop.shelf": "",
    "celery": "",
}
_PORT = "8000"  # what pages say; readers have ports of their own
# Modules that only their program, or a test, imports.
_NOT_IMPORTED = {"settings.py", "conftest.py"}
# Variables of the test run that no reader has.
_OURS = ("PYTHON", "DJANGO_SETTINGS_MODULE")
# Folders in which a page was followed, by page and environment.
_followed: dict[tuple[Any, ...], Path] = {}


class Reader:
    """Follows pages. What is typed runs with `python` as the only interpreter.

    Args:
        folder: an empty one, the reader's working directory.
        python: of the environment that the reader has activated.
        env: more of the environment.
        replace: what the reader writes in place of a page's words, such as another port.
        browser: Selenium's driver; its console runs blocks of JavaScript.
    """

    def __init__(
        self,
        folder: Path,
        python: Path,
        env: Mapping[str, str] | None = None,
        *,
        replace: Mapping[str, str] | None = None,
        browser: Any = None,
    ) -> None:
        self.folder = folder
        self._replace = dict(replace or {})
        self._browser = browser
        self._more_env = dict(env or {})
        self.port = free_port()
        self._env = {
            **{name: it for name, it in os.environ.items() if not name.startswith(_OURS)},
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            **self._more_env,
        }
        self._python = ReaderPython(python, folder, self._env)
        self._console: Console | None = None
        self._schema: Any = None
        self._logs = 0
        self._pasted: dict[str, None] = {}
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
            self._copy_project_of(page.starts_from)
        for block in page.blocks:
            if block.skipped is None:
                self.do(block, serve=serve)

    def _copy_project_of(self, path: Path) -> None:
        """Copies what a page yields, which is followed once per process and environment."""
        text = path.read_text()
        replaced = (it for it in self._replace.items() if it[0] in text)
        key = (path.resolve(), self._python.python, *self._more_env.items(), *replaced)
        if key not in _followed:
            folder = Path(tempfile.mkdtemp(prefix="followed-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            python = self._python.python
            with Reader(folder, python, self._more_env, replace=self._replace) as reader:
                reader.follow(read(path), serve=False)
            _followed[key] = folder
        shutil.copytree(_followed[key], self.folder, dirs_exist_ok=True)

    def check(self) -> None:
        """Imports each Python file that was pasted, and runs `manage.py check`."""
        paths = [Path(it) for it in self._pasted if it.endswith(".py")]
        modules = [
            ".".join(it.with_suffix("").parts).removesuffix(".__init__")
            for it in paths
            if it.name not in _NOT_IMPORTED
            and not it.name.startswith("test")
            and (self.folder / it).exists()
        ]
        imports = "".join(f"import {it}\n" for it in modules)
        script = f"import django\ndjango.setup()\n{imports}"
        script += "from django.core.management import call_command\ncall_command('check')\n"
        self._python.ask(script, "the end of the page")

    def _own(self, text: str) -> str:
        for word, own in self._replace.items():
            text = text.replace(word, own)
        return text

    def assert_servers_are_well(self) -> None:
        """Asserts that each server still runs, and has logged no error."""
        for server in self.servers:
            assert server.exit_code is None, server.said()
            assert not server.alarms(), server.said()

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
        elif block.language == "js":
            self.execute_in_browser(block)
        elif block.language == "html":
            raise AssertionError(f"{block}: name a file in the first line, or say why not.")

    def paste(self, block: Block) -> None:
        """Writes a file, or adds to it, by its name; a mark of the block may say otherwise."""
        assert block.file is not None
        path = self.folder / block.file
        before = path.read_text() if path.exists() else ""
        place = block.place or ("the end" if path.name in ADDED_TO else "the file")
        text = self._own(block.text)
        self._pasted[block.file] = None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(put(text, before, place))
        self._schema = None
        self.leave_console()

    def type(self, block: Block, *, serve: bool = True) -> None:
        """Runs commands; servers are started, and answer when this returns."""
        text = self._own(block.text).replace(_PORT, str(self.port))
        for kind, lines in groupby(text.rstrip().splitlines(), _kind):
            if kind == "shell":
                self.run("\n".join(lines), str(block))
            elif kind == "manage":
                for command in lines:
                    self._python.manage(command, str(block))
            elif serve:
                for command in lines:
                    self.serve(command.partition("  #")[0])

    def run(self, script: str, where: str) -> str:
        """Returns what commands print. Raises AssertionError if one of them fails."""
        return self._python.run(script, where)

    def manage(self, command: str, where: str) -> str:
        """Returns what a command of `manage.py` prints. Raises AssertionError if it fails."""
        return self._python.manage(command, where)

    def ask(self, script: str, where: str) -> str:
        """Returns what Python prints about the project. Raises AssertionError if it fails."""
        return self._python.ask(script, where)

    def serve(self, command: str) -> LoggedProcess:
        """Starts a server in the background, on the reader's port. Returns it once it answers.

        Takes the place of one of the same program.
        """
        name = next(name for name in SERVERS if _is(name, command))
        program, option = command.partition(name)[0] + name, SERVERS[name]
        if str(self.port) not in command:
            command += option.format(port=self.port)
        for earlier in [it for it in self.servers if it.name == program]:
            self.servers.remove(earlier)
            earlier.stop()
        self._logs += 1
        logs = self.folder.parent / f"{self.folder.name}-log-{self._logs}"
        logs.mkdir()
        # A process has the test run's environment below its own.
        less = " ".join(f"-u {name}" for name in os.environ if name.startswith(_OURS))
        argv = ["bash", "-c", f'cd "{self.folder}" && exec env {less} {command}']
        server = LoggedProcess(program, argv, self._env, logs, both=True)
        self.servers.append(server)
        if str(self.port) in command:
            server.wait_until(lambda: accepts(self.port))
        return server

    # --- Python and GraphQL ----------------------------------------------------------------------

    def execute(self, block: Block) -> None:
        """Runs a block in the page's console, which is made anew after a file has changed."""
        if self._console is None:
            self._console = self._python.console()
        error = self._console.execute(self._own(block.text), str(block))
        assert error is None, f"{block}\n{block.text}\n{error}"

    def execute_in_browser(self, block: Block) -> None:
        """Runs a block in the console of a browser that shows the project's first page."""
        assert self._browser is not None, f"{block}: there is no browser."
        if not self._browser.current_url.startswith(self.url):
            self._browser.get(self.url)
        sent = {"expression": block.text, "replMode": True, "awaitPromise": True}
        answer = self._browser.execute_cdp_cmd("Runtime.evaluate", sent)
        assert "exceptionDetails" not in answer, f"{block}\n{block.text}\n{answer}"

    def leave_console(self) -> None:
        """Ends the console; a later block gets a new one, with an empty namespace."""
        if self._console is not None:
            self._console.leave()
            self._console = None

    def check_document(self, block: Block) -> None:
        """Asserts that each operation of a block fits the project's schema."""
        if self._schema is None:
            script = (
                "import django\ndjango.setup()\n"
                "from rail_async_tasks.graphql.schema import get_schema\n"
                "print(get_schema().as_str())\n"
            )
            self._schema = build_schema(self._python.ask(script, str(block)))
        errors = validate(self._schema, parse(block.text))
        assert not errors, f"{block}\n{errors}"

    def post(self, document: str, **variables: Any) -> Any:
        """Returns the answer of the server to a GraphQL document."""
        sent = {"query": document, "variables": variables}
        return httpx.post(f"{self.url}/graphql/", json=sent, timeout=TIMEOUT).json()


def put(text: str, before: str, place: str) -> str:
    """Returns a file with a block in place of it all, of a function or class, or at its end."""
    if place == "the file":
        return text
    lines = before.rstrip().splitlines(keepends=True)
    if place == "the end":
        return "".join([*lines, "\n\n\n" if lines else "", text])
    (old,) = (it for it in ast.parse(before).body if getattr(it, "name", None) == place)
    assert isinstance(old, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    start = min([old.lineno, *(it.lineno for it in old.decorator_list)]) - 1
    return "".join([*lines[:start], text, *lines[old.end_lineno :]])


def _kind(command: str) -> str:
    """Returns who runs a line of a block: a `server`, `manage` or the `shell`."""
    if any(_is(name, command) for name in SERVERS):
        return "server"
    return "manage" if is_plain_manage(command) else "shell"


def _is(name: str, command: str) -> bool:
    """Whether it is this program, with arguments, or with variables before it, or neither."""
    return re.fullmatch(rf"([A-Z_]+=\S+ )*{re.escape(name)}( .*)?", command) is not None
