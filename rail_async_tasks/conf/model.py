"""The settings as the rest of the package sees them: frozen, typed, complete.

The fields of `TaskSettings` are the keys that users write, with their defaults. Fields that hold
secrets stay out of `repr`, and so out of logs and error pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Final

IN_PROCESS_BACKENDS: Final = ("asyncio", "thread", "sync")
OUT_OF_PROCESS_BACKENDS: Final = ("arq", "celery", "dramatiq", "django_q")
BACKENDS: Final = IN_PROCESS_BACKENDS + OUT_OF_PROCESS_BACKENDS
BUSES: Final = ("memory", "redis")
# The letters of a rate, "10/s", and what they are in seconds.
PERIODS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` starts in `period` seconds."""

    count: int
    period: float

    def __str__(self) -> str:
        """Returns it as settings write it: "10/s"."""
        letters = {seconds: letter for letter, seconds in PERIODS.items()}
        return f"{self.count}/{letters[self.period]}"


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """A queue's options. A queue that only a declaration names has the defaults.

    `priority`: higher first. `concurrency`: at most so many at once per process, `None`: no limit
    but `max_concurrency`. `rate`: at most so many starts in a time, of all processes together.
    """

    priority: int = 0
    concurrency: int | None = None
    rate: RateLimit | None = None


DEFAULT_QUEUES: Final[Mapping[str, QueueSettings]] = MappingProxyType(
    {
        "high": QueueSettings(priority=10),
        "default": QueueSettings(),
        "low": QueueSettings(priority=-10),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSettings:
    """Options of bearer tokens. Exactly one of `key`, `jwks_url` and `keys` is set."""

    key: str | bytes | None = field(default=None, repr=False)
    jwks_url: str | None = None
    keys: Mapping[str, str | bytes] | None = field(default=None, repr=False)
    algorithms: tuple[str, ...]
    audience: str | tuple[str, ...] | None = None
    issuer: str | tuple[str, ...] | None = None
    user_claim: str = "sub"
    leeway: float = 30.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Limits on one operation, and on what one client has open. `None`: no limit.

    `docs/settings.md` says how each default was found.
    """

    tokens: int | None = 2_000
    depth: int | None = 20
    aliases: int | None = 50
    root_fields: int | None = 50
    starts_per_request: int | None = 20
    request_bytes: int | None = 1024 * 1024
    frame_bytes: int | None = 256 * 1024
    answer_bytes: int | None = 4 * 1024 * 1024
    subscriptions_per_socket: int | None = 100
    sockets_per_user: int | None = 100
    sockets_per_address: int | None = 500
    streams_per_user: int | None = 100
    frames_per_second: int | None = 100
    anonymous_pending_per_address: int | None = 1_000
    anonymous_pending_percent: int | None = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """`RAIL_DJANGO_GRAPHQL["task_settings"]`, valid and complete. Durations are seconds."""

    enabled: bool = True
    backend: str = "asyncio"
    default_queue: str = "default"
    queues: Mapping[str, QueueSettings] = field(default_factory=lambda: DEFAULT_QUEUES)
    max_concurrency: int = 100
    max_workers: int = 4
    max_pending: int | None = 10_000
    max_pending_per_owner: int | None = None
    rate_limit: RateLimit | None = None
    result_ttl_seconds: float | None = 86_400.0
    max_retries: int = 3
    retry_delay: float = 1.0
    retry_backoff: bool = True
    retry_max_delay: float = 3_600.0
    retry_jitter: float = 0.1  # a share of the delay
    timeout: float | None = None
    max_crashes: int = 2
    track_in_database: bool = True
    emit_subscriptions: bool = True
    subscription_channel: str = "tasks"
    progress_interval_seconds: float = 0.1
    bus: str = "memory"  # "redis" where `redis_url` is set and `bus` is not
    redis_url: str | None = field(default=None, repr=False)
    celery_app: str | None = None
    lease_seconds: float = 15.0
    cancel_grace_seconds: float = 10.0
    unknown_task_seconds: float = 300.0
    drain_seconds: float = 20.0
    on_failure: str = "log"
    failure_callback: str | None = None
    metrics_enabled: bool = False
    otel_enabled: bool = False
    log_task_start: bool = False
    log_task_complete: bool = False
    log_failures: bool = True
    carry_language: bool = True
    slow_task_threshold_seconds: float | None = None
    audit_enabled: bool = False
    audit_retention_days: int = 90
    statistics_enabled: bool = True
    max_args_bytes: int = 65_536
    max_result_bytes: int = 262_144
    anonymous_access: str = "by_id"
    public_errors: str = "all"
    tenant_resolver: str | None = None
    authenticator: str | None = None
    around_task: str | None = None
    encryption_keys: tuple[bytes, ...] | None = field(default=None, repr=False)
    limits: LimitSettings = LimitSettings()
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    jwt: JwtSettings | None = None
    introspection: bool | None = None  # None: as DEBUG
    console: bool | None = None  # None: as DEBUG


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaSettings:
    """`RAIL_DJANGO_GRAPHQL["schema_settings"]`, as far as this package reads it."""

    query_extensions: tuple[str, ...] = ()
    mutation_extensions: tuple[str, ...] = ()
    subscription_extensions: tuple[str, ...] = ()
    schema: str | None = None
    extensions: tuple[str, ...] = ()
    config: str | None = None
    rename: Mapping[str, str | None] = field(default_factory=dict)
