"""Fetches htmx from npm, at one version with one hash, into the package's folder.

`python scripts/htmx_library.py` does it for a checkout, and hatchling for each wheel and sdist.
Without npm, or without a network, nothing is fetched and that is said: the pages then work by plain
links and forms. A file with another hash is an error.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # as a script, in an environment that builds nothing
    BuildHookInterface = object  # type: ignore[assignment,misc]

VERSION = "4.0.1"
# Of the package as npm has it, and of the one file that is taken out of it.
PACKAGE_SHA512 = (
    "a05ec98178435bd5170b2fe4d59605510833bbfae6d7d39158f48f34bf75bcf9"
    "6e0763c1f7e315e79b7241d1ffc3ba361006d36141b94835b547ad2676476a1a"
)
MEMBER = "package/dist/htmx.min.js"
MEMBER_SHA256 = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"
TARGET = Path(__file__).resolve().parents[1] / "rail_async_tasks/dashboard/assets/htmx.min.js"
FETCH_TIMEOUT_SECONDS = 60


def fetch() -> str | None:
    """Fetches the file, unless it is there. Returns why it could not be fetched; None if it is."""
    if _is_there():
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"htmx.org@{VERSION}", "--silent", "--pack-destination", folder]
        try:
            done = subprocess.run(
                command,
                check=False,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=FETCH_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"npm did not answer within {FETCH_TIMEOUT_SECONDS} s"
        if done.returncode:
            return f"npm failed: {done.stderr.strip()[-300:]}"
        (archive,) = Path(folder).glob("*.tgz")
        content = _member(archive)
    # In one step: two processes may fetch it at once.
    partial = TARGET.with_suffix(".part")
    partial.write_bytes(content)
    partial.replace(TARGET)
    return None


def _is_there() -> bool:
    return TARGET.is_file() and hashlib.sha256(TARGET.read_bytes()).hexdigest() == MEMBER_SHA256


def _member(archive: Path) -> bytes:
    if hashlib.sha512(archive.read_bytes()).hexdigest() != PACKAGE_SHA512:
        raise SystemExit(f"htmx.org {VERSION} from npm has another hash than expected: not used.")
    with tarfile.open(archive) as files:
        member = files.extractfile(MEMBER)
        assert member is not None
        return member.read()


class CustomBuildHook(BuildHookInterface):
    """Has hatchling fetch the file before it packs a wheel or an sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetches, but for an editable installation, which uses the checkout as it is."""
        if version == "editable":
            return
        if (problem := fetch()) is not None:
            self.app.display_warning(f"Built without htmx: {problem}. The dashboard is not live.")


if __name__ == "__main__":
    if (problem := fetch()) is not None:
        print(f"The dashboard will not be live: {problem}.", file=sys.stderr)
