"""The process that takes one sample: a spec as JSON on its input, the metrics as its last line."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def main() -> None:
    spec = json.load(sys.stdin)
    module, _, name = spec["function"].partition(":")
    function = getattr(import_module(module), name)
    parameters = spec["parameters"]
    if spec["own_warm_up"]:
        with asyncio.Runner(loop_factory=_loop_factory(spec["loop"])) as runner:
            print(json.dumps(runner.run(function(**parameters))))
        return
    warm_up = {**parameters, "count": max(parameters["count"] // 10, 2)}
    if inspect.iscoroutinefunction(function):
        metrics = _on_a_loop(spec["loop"], function, warm_up, parameters)
    else:
        function(**warm_up)
        gc.collect()
        metrics = function(**parameters)
    print(json.dumps(metrics))


def _on_a_loop(
    kind: str, function: Callable[..., Any], warm_up: dict[str, Any], parameters: dict[str, Any]
) -> dict[str, float]:
    import django

    django.setup()
    from rail_async_tasks.hosting import process as host

    async def both() -> dict[str, float]:
        try:
            await function(**warm_up)
            gc.collect()
            metrics: dict[str, float] = await function(**parameters)
        finally:
            await host.astop()
        return metrics

    with asyncio.Runner(loop_factory=_loop_factory(kind)) as runner:
        return runner.run(both())


def _loop_factory(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if kind == "uvloop":
        try:
            import uvloop
        except ModuleNotFoundError:  # in a peer's environment, where that peer has no use for it
            return asyncio.new_event_loop
        return uvloop.new_event_loop
    return asyncio.new_event_loop


if __name__ == "__main__":
    main()
