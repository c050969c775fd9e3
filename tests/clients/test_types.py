"""The types of task.js: what a strict TypeScript accepts and refuses, and that they are whole."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.clients.page_blocks import STATIC
from tests.services.node import CLIENTS

FOLDER = STATIC / "rail_async_tasks"


def test_the_types_hold(node: None) -> None:
    """`tsc` under `strict`: each line of types.ts is accepted, or refused where it says so."""
    ran = subprocess.run(
        [CLIENTS / "node_modules/.bin/tsc", "--project", CLIENTS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == ""
    assert ran.returncode == 0


def test_the_types_name_what_the_module_exports(node: None, module: Path) -> None:
    """Nothing is exported untyped, and nothing typed is missing."""
    code = f"import('{module}').then((it) => console.log(JSON.stringify(Object.keys(it))))"
    ran = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    typed = re.findall(
        r"^export (?:function|class) (\w+)", (FOLDER / "task.d.ts").read_text(), re.MULTILINE
    )
    assert sorted(json.loads(ran.stdout)) == sorted(typed)
