"""Code that runs in a forked child, where threads, locks and connections of the parent are gone."""

from __future__ import annotations

import os
from collections.abc import Callable


def after_fork(callback: Callable[[], object]) -> None:
    """Run the callback in each forked child of this process, before `fork()` returns there.

    Callbacks run in the order of their registration. An error is written to stderr and stops no
    other callback. Does nothing on systems that cannot fork.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)
