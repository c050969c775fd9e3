#!/usr/bin/env python
"""Django's command line for the example project: `python -m example_project.manage shell`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line


def main() -> None:
    """Run one management command."""
    # Started as a file, Python looks for imports beside it; the project is one directory up.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.root.settings")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
