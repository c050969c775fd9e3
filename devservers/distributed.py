"""`python -m devservers.distributed`: the example project in several processes.

On one machine: PostgreSQL and Redis (or Valkey) of its own, a web server and two workers. All of
them end with it. In the environment: what `devservers.demo` reads, but for the database.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "example_project" / ".demo" / "distributed"


def main() -> None:
    """Run until SIGINT, SIGTERM or SIGHUP."""
    if os.name != "posix":
        raise SystemExit("This demo needs Linux, macOS or WSL. `make demo` runs everywhere.")
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        run(signals)


def run(signals: tuple[signal.Signals, ...]) -> None:
    """Start everything, until a signal raises KeyboardInterrupt."""
    folder = Path(os.environ.get("DEMO_DIR", FOLDER)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["DEMO_DIR"] = str(folder)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.root.settings")
    from devservers.process import ServerFailed
    from devservers.supervisor import Supervisor

    try:
        supervisor = Supervisor(folder)
        try:
            supervisor.start()
            supervisor.watch()
        finally:
            for number in signals:  # it is under way, and takes seconds at most
                signal.signal(number, signal.SIG_IGN)
            supervisor.end()
    except ServerFailed as error:
        raise SystemExit(f"\n{error}") from None


if __name__ == "__main__":
    main()
