"""The suite that every backend passes, for authors of backends: see `contracts`.

Put `"rail_async_tasks.testing.backends"` into the INSTALLED_APPS of the settings that the suite and
its workers run under; never into a project's own.
"""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import pytest

    # Then a failure shows what was compared, as in a test module.
    pytest.register_assert_rewrite(
        "rail_async_tasks.testing.backends.contracts",
        "rail_async_tasks.testing.backends.deliveries",
    )
