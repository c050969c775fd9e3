"""The place of a task's declaration, and the run of its module: a reload declares it again."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Final

# What a script's own module is called, in a process that multiprocessing has started too.
_MAIN: Final = frozenset({"__main__", "__mp_main__"})


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The function of a declaration, and the module that was being executed when it was made.

    Each execution of a module, a script or a notebook's cell has a code object of its own: an
    import, a reload, a prompt and a cell load or compile it anew. `run_of` and `run` are None where
    no module was being executed.
    """

    module: str
    qualname: str
    file: str
    line: int
    run_of: str | None
    run: weakref.ref[CodeType] | None

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Origin:
        """Returns the origin of a function that is being declared now, in this thread."""
        code: CodeType = inspect.unwrap(function).__code__
        return cls(
            function.__module__, function.__qualname__, code.co_filename, code.co_firstlineno,
            *_running(),
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname} ({self.file}:{self.line})"

    def replaces(self, earlier: Origin) -> bool:
        """Returns whether this is the earlier declaration, executed again by a reload.

        Also where a script declares what is then imported under the module's own name.
        """
        if (self.module, self.qualname) == (earlier.module, earlier.qualname):
            if self.run is None or earlier.run is None or self.run_of != earlier.run_of:
                return False
            if self._is_of_another_file_than(earlier):
                return False
            return self.run() is not earlier.run()
        return self.is_copy_of(earlier) and not _MAIN.isdisjoint((self.module, earlier.module))

    def _is_of_another_file_than(self, other: Origin) -> bool:
        """Returns whether two modules of one name were loaded from two files. A prompt has none."""
        files = [Path(it.file).resolve() for it in (self, other)]
        return files[0] != files[1] and all(it.is_file() for it in files)

    def is_copy_of(self, other: Origin) -> bool:
        """Returns whether both come from one place in one file, imported under two names."""
        return (
            self.module != other.module
            and (self.qualname, self.line) == (other.qualname, other.line)
            and Path(self.file).resolve() == Path(other.file).resolve()
        )


def _running() -> tuple[str, weakref.ref[CodeType]] | tuple[None, None]:
    """Returns the innermost module that is being executed in this thread, by name and code."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        # A module's code is called "<module>", a cell's "<cell line: 1>". Unlike that of functions
        # it keeps its variables in a dict; so does a class's, which has a plain name.
        if code.co_name.startswith("<") and not code.co_flags & inspect.CO_OPTIMIZED:
            return str(frame.f_globals.get("__name__")), weakref.ref(code)
        frame = frame.f_back
    return None, None
