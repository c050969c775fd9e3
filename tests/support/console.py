"""A Python console for the blocks of a page: JSON lines in, JSON lines out, over a Unix socket.

    python console.py SOCKET   with DJANGO_SETTINGS_MODULE set, in the project's folder

Each line is `{"code": ..., "where": ...}`; the answer is `{"error": null or a traceback}`. All
share one namespace. Code that awaits at the top level runs in an event loop, the same for all;
other code runs without one, as in `manage.py shell`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import socket
import sys
import traceback
from types import CodeType
from typing import Any

_TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def main() -> None:
    import django

    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    sys.path.insert(0, "")
    django.setup()
    namespace: dict[str, Any] = {"__name__": "__console__"}
    with connection, connection.makefile("rw") as lines, asyncio.Runner() as runner:
        for line in lines:
            block = json.loads(line)
            error = None
            try:
                code = compile(block["code"], block["where"], "exec", flags=_TOP_LEVEL_AWAIT)
                if code.co_flags & inspect.CO_COROUTINE:
                    runner.run(_execute(code, namespace))
                else:
                    eval(code, namespace)
            except BaseException:  # noqa: BLE001 (it is the answer)
                error = traceback.format_exc()
            print(json.dumps({"error": error}), file=lines, flush=True)


async def _execute(code: CodeType, namespace: dict[str, Any]) -> None:
    await eval(code, namespace)


if __name__ == "__main__":
    main()
