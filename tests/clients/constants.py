"""Settings of the server that the tests know too."""

from __future__ import annotations

from typing import Final

SECRET: Final = "a secret of the tests, of 32 bytes"
LIMIT: Final = 8  # subscriptions of one socket
