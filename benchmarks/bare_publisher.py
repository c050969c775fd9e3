"""Publishes as a task would: `bare_publisher COUNT PAUSE CHANNEL...`, seconds apart."""

from __future__ import annotations

import os
import sys
import time

from redis import Redis

MESSAGE = (
    '{"v":1,"id":"01900000-0000-7000-8000-000000000000","seq":2,"step":7,"progress":50,'
    '"message":"%r"}'
)


def main() -> None:
    count, pause, *channels = sys.argv[1:]
    with Redis.from_url(os.environ["BENCHMARK_REDIS"]) as client:
        for _ in range(int(count)):
            time.sleep(float(pause))
            with client.pipeline(transaction=False) as calls:
                for channel in channels:
                    calls.publish(channel, MESSAGE % time.monotonic())
                calls.execute()


if __name__ == "__main__":
    main()
