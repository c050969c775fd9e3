"""The example project's GraphQL schema, as it is committed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEMA = "example_project.root.schema:schema"
ENVIRONMENT = {
    **os.environ,
    "DJANGO_SETTINGS_MODULE": "example_project.root.settings",
    "DEMO_DIR": "/nowhere",  # no database is needed
}
COMMITTED = ROOT / "example_project" / "schema.graphql"


def test_the_committed_schema_is_the_one_that_is_served() -> None:
    """`make schema` writes it anew after a change that is meant."""
    done = subprocess.run(
        [sys.executable, "-m", "example_project.manage", "export_schema", SCHEMA, "--skip-checks"],
        check=False,
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == COMMITTED.read_text().strip()
