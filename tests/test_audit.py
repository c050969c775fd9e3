"""The audit of the lock files: what it refuses, without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devservers.process import ROOT

HASH = " --hash=sha256:" + "0" * 64


def audit(*locks: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "audit"), *map(str, locks)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_lock_files_pass() -> None:
    """Both of them, and the audit says what it can't know."""
    done = audit()
    assert (done.returncode, done.stderr) == (0, "")
    assert "dev.lock: " in done.stdout
    assert "celery57.lock: " in done.stdout
    assert "Offline" in done.stdout


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("django==5.2.1" + HASH, "CVE-2025-64459"),
        ("django==5.2.1 ; python_full_version < '3.12'" + HASH, "CVE-2025-64459"),
        ("pyjwt==2.10.0" + HASH, "CVE-2024-53861"),
        ("django==5.2.19", "has no hash"),
        ("django>=5.2.19" + HASH, "is no single version"),
        ("django==5.*" + HASH, "is no single version"),
        ("django==6.1b1" + HASH, "is a pre-release"),
        ("django @ git+https://example.com/django" + HASH, "is no single version"),
        ("-e ." + HASH, "is no package of an index"),
    ],
)
def test_what_is_refused(tmp_path: Path, entry: str, words: str) -> None:
    """A known weakness, and whatever is not one version with its hash."""
    lock = tmp_path / "one.lock"
    lock.write_text(f"# made by hand\nanyio==4.16.0 \\\n   {HASH}\n{entry}\n    # via tests\n")
    done = audit(lock)
    assert done.returncode == 1
    assert words in done.stdout
    assert "anyio 4.16.0" not in done.stdout
