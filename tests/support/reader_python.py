"""The Python of a reader: commands of `manage.py`, a console, and questions about the project.

In the tests' own environment these processes are forked from one that has imported the libraries;
see `tests.support.forker`. In another environment they start as a user's do.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.forked import ForkedProcess

_CONSOLE = Path(__file__).with_name("console.py")
# For consoles and questions, which no `manage.py` sets up.
SETTINGS = {"DJANGO_SETTINGS_MODULE": "root.settings"}
_TIMEOUT = 600
# A command that needs no shell: no variable before it, no pipe, nothing to expand.
_MANAGE = re.compile(r"python manage\.py( [\w.,:/=-]+)+( +#.*)?")


def interpreter() -> Path:
    """Returns the Python of the environment that the tests run in."""
    return Path(sys.executable)


def is_plain_manage(command: str) -> bool:
    """Returns whether a line is a command of `manage.py` that needs no shell."""
    return _MANAGE.fullmatch(command) is not None


@dataclass(frozen=True)
class ReaderPython:
    """Runs code of the project in `folder`, the working directory, by `python`."""

    python: Path
    folder: Path
    env: Mapping[str, str]

    @property
    def forks(self) -> bool:
        """Whether processes are forked."""
        return self.python == interpreter()

    def run(self, script: str, where: str) -> str:
        """Returns what commands of a shell print. Raises AssertionError if one of them fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=dict(self.env),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{where}\n{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def manage(self, command: str, where: str) -> str:
        """Returns what a command of `manage.py` prints. Raises AssertionError if it fails."""
        if not self.forks:
            return self.run(command, where)
        return self._forked(["manage", *shlex.split(command, comments=True)[2:]], command, where)

    def ask(self, script: str, where: str) -> str:
        """Returns what Python prints about the project; no page says this script."""
        if not self.forks:
            command = f"DJANGO_SETTINGS_MODULE=root.settings python - <<'END'\n{script}END"
            return self.run(command, where)
        with tempfile.TemporaryDirectory(prefix="asked-") as name:
            (Path(name) / "asked_by_the_reader.py").write_text(script)
            return self._forked(["asked_by_the_reader"], script, where, path=[name])

    def _forked(
        self, arguments: Sequence[str], shown: str, where: str, path: Sequence[str] = ()
    ) -> str:
        with tempfile.TemporaryDirectory(prefix="printed-") as name:
            process = self._process(arguments, Path(name), path)
            process.start()
            try:
                code = process.wait(_TIMEOUT)
            finally:
                process.stop()
            errors = process.errors.read_text() if process.errors.exists() else ""
            printed = process.log.read_text()
        assert code == 0, f"{where}\n{shown}\n{printed}\n{errors}"
        return printed

    def _process(self, arguments: Sequence[str], logs: Path, path: Sequence[str]) -> ForkedProcess:
        return ForkedProcess(
            "the reader's Python",
            list(arguments),
            logs / "printed",
            env={**self.env, **SETTINGS},
            cwd=self.folder,
            errors=logs / "errors",
            path=path,
        )

    def console(self) -> Console:
        """Starts a console."""
        return Console(self)


class Console:
    """A Python console in another process, over a socket; see `tests.support.console`."""

    def __init__(self, python: ReaderPython) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="console-"))
        address = str(self._folder / "socket")
        self._process: Any
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            listener.settimeout(60)
            if python.forks:
                # Found by its name, as the reader's path has no module of the tests.
                shutil.copy(_CONSOLE, self._folder / "console_of_the_reader.py")
                arguments = ["console_of_the_reader", address]
                path = [str(self._folder)]
                self._process = python._process(arguments, self._folder, path)
                self._process.start()
            else:
                self._process = subprocess.Popen(
                    [python.python, _CONSOLE, address], cwd=python.folder,
                    env={**SETTINGS, **python.env},
                )  # fmt: skip
            self._socket, _ = listener.accept()
        self._lines = self._socket.makefile("rw")

    def execute(self, code: str, where: str) -> str | None:
        """Runs code in the console's namespace. Returns the traceback of its error, if any."""
        with suppress(BrokenPipeError, ConnectionResetError):
            print(json.dumps({"code": code, "where": where}), file=self._lines, flush=True)
            if line := self._lines.readline():
                error: str | None = json.loads(line)["error"]
                return error
        return "The console has ended."

    def leave(self) -> None:
        """Ends the console, and waits until its process has ended."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._socket.close()
        self._process.wait(60)
        if isinstance(self._process, ForkedProcess):
            self._process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
