"""The arq backend: executions travel over Redis or Valkey, in arq's own key format.

`backend.py` sends ids; `workers/arq/` takes them. Both use `keys.py` (what is stored under which
key) and `scripts.py` (what the server does in one call). `library.py` alone imports arq.
"""

from __future__ import annotations

from rail_async_tasks.backends.arq.backend import ArqBackend
from rail_async_tasks.backends.arq.keys import deserialize, serialize

__all__ = ["ArqBackend", "deserialize", "serialize"]
