"""A Python console for the blocks of a page: JSON lines in, JSON lines out.

    python console.py   with DJANGO_SETTINGS_MODULE set, in the project's folder

Each line is `{"code": ..., "where": ...}`; the answer is `{"error": null or a traceback}`. All
share one namespace and one event loop. `await` may stand at the top level.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import sys
import traceback
from typing import Any


def main() -> None:
    import django

    sys.path.insert(0, "")
    django.setup()
    answers, sys.stdout = sys.stdout, sys.stderr
    namespace: dict[str, Any] = {"__name__": "__console__"}
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            block = json.loads(line)
            error = None
            try:
                runner.run(_execute(block["code"], block["where"], namespace))
            except BaseException:  # noqa: BLE001 (it is the answer)
                error = traceback.format_exc()
            print(json.dumps({"error": error}), file=answers, flush=True)


async def _execute(code: str, where: str, namespace: dict[str, Any]) -> None:
    compiled = compile(code, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    # In a frame of its own: `eval` returns a coroutine where the code awaits.
    result = eval(compiled, namespace)
    if inspect.iscoroutine(result):
        await result


if __name__ == "__main__":
    main()
