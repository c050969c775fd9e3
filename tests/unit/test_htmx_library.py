"""The script that fetches htmx: one version with one hash, and nothing where there is no npm."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from devservers.process import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, with an empty folder in the place of the package's."""
    spec = importlib.util.spec_from_file_location("htmx_library", ROOT / "scripts/htmx_library.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TARGET", tmp_path / "htmx.min.js")
    return module


def npm_that(folder: Path, commands: str) -> str:
    """Returns a PATH with an `npm` that runs these commands."""
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{commands}\n")
    npm.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_without_npm(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The build goes on, and says what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert script.fetch() == "npm is not installed"
    assert not script.TARGET.exists()


def test_npm_that_fails(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own words are passed on."""
    monkeypatch.setenv("PATH", npm_that(tmp_path, "echo no network >&2; exit 1"))
    assert script.fetch() == "npm failed: no network"


def test_a_package_with_another_hash_is_not_used(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The build fails: neither a wheel with it nor one without is what was asked for."""
    archive = tmp_path / "other.tgz"
    with tarfile.open(archive, "w:gz") as files:
        content = b"alert(1)"
        member = tarfile.TarInfo(script.MEMBER)
        member.size = len(content)
        files.addfile(member, io.BytesIO(content))
    monkeypatch.setenv("PATH", npm_that(tmp_path, f"cp {archive} ."))
    with pytest.raises(SystemExit, match="another hash"):
        script.fetch()
    assert not script.TARGET.exists()


def test_a_file_that_is_there_is_not_fetched_again(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Builds do not need the network then; a file with another hash does not count."""
    monkeypatch.setenv("PATH", str(tmp_path))
    script.TARGET.write_bytes(b"old")
    assert script.fetch() is not None
    monkeypatch.setattr(script, "_is_there", lambda: True)
    assert script.fetch() is None
