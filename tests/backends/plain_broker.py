"""The same, with a Dramatiq broker that the settings set themselves."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.backends.settings import *  # noqa: F403
from tests.backends.settings import REDIS_URL

dramatiq.set_broker(RedisBroker(url=REDIS_URL))
