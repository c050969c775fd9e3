"""The declared order of the package's modules, from the ground up.

A string is one floor: its rooms (modules, or folders with all that is in them) may import the rooms
of floors before theirs, and nothing else of the same folder. So rooms of one floor know nothing of
each other. A room may be named more finely than its folder: `upkeep.upkeep` stands above `upkeep`.

A new module gets its place here before anything imports it.
"""

from __future__ import annotations

from typing import Final

# By layer, as CONTRIBUTING.md shows them.
PACKAGE: Final[dict[str, tuple[str, ...]]] = {
    "ground": (
        "durations errors forks hooks own_views programs retry roles",
        "per_loop signs_of_life states text vital",
        "codec conf foreign_names ids language redis_address rollups",
        "safe_logging snapshot together",
        "backoff db_connections logs",
    ),
    "what a task is": (
        "access migrations token_bucket",
        "models",
        "declaration",
        "auth registry",
        "public_errors queue_limits redaction",
    ),
    "ports, and what is behind them": ("ledger", "bus"),
    "running": ("runtime",),
    "how ids leave, how they arrive": ("backends", "hosting"),
    "doing what was asked": ("observability service workers",),
    "edges": (
        "handle health queues rest servers using",
        "contrib declare",
        "graphql",
        "dashboard",
        "__init__ asgi urls",
        "checks testing",
        "cli",
        "admin apps management",
    ),
}

LEDGER: Final = (
    "edges errors locks notices options queue_states records rollups tables waiters writer_port",
    "dispatch_records gathering rows",
    "audit counts postponed rates snapshots updates upkeep",
    "optional writer",
    "port",
    "memory operations",
    "batch",
    "portable session sql",
    "vendors",
    "orm",
)

RUNTIME: Final = (
    "activity anonymous_starts at_end made",
    "event_counts limits",
    "admission failure_log failures names observers outstanding rollups state tracing unique",
    "announce due",
    "claims notices",
    "attempts",
    "creations failure_callbacks inline_body",
    "inline",
    "ending upkeep",
    "timings",
    "upkeep.upkeep",
    "leasing",
    "services",
    "runtime",
)

ATTEMPTS: Final = (
    "calling leftovers own_frames plain_sql progress timings",
    "call_watch outcomes span threads track",
    "context options orm_threads",
    "managers",
    "around",
    "body",
    "attempt",
    "body_tasks held_slots progress_saver running waits",
    "settlements waiters",
    "attempts",
    "deadlocks",
)

CLAIMS: Final = (
    "broker no_claim overdue pauses plan",
    "inventory slots",
    "deliveries rates sends_due surveys",
    "broker_dispatcher local_dispatcher",
)

UPKEEP: Final = (
    "cleanup clock corrections cron lease_term persistence recovery rollup_writer steps",
    "supervision unknown watchdog",
    "cancels lease ledger_clock watched",
    "lease_thread reconciler scheduler",
    "upkeep",
)

DECLARATION: Final = (
    "keywords options origin signatures",
    "definition",
    "resolvers",
)

ROLLUPS: Final = (
    "error_places histogram",
    "columns",
    "models",
)

CLI: Final = (
    "exchange exits fields words",
    "filters tables",
    "ids screen",
    "errors list processes queues rich_screen",
    "change show terminal watch",
    "doctor pauses",
    "main",
)

OBSERVABILITY: Final = (
    "instruments logs otel_library prometheus_library",
    "counting",
    "readings",
    "otel_metrics processes spans",
    "metrics",
    "__init__ endpoint",
)

TESTING: Final = (
    "backends clock connections handles rows subscriptions",
    "apps attempts bodies contracts",
    "tools",
    "isolation",
    "mixin plugin",
    "__init__",
)

DASHBOARD: Final = (
    "assets json_tree links literals nav notices query shapes svg timeline words",
    "argument_form counters render snippets",
    "tables tags",
    "gate task_details",
    "completions search",
    "base bulk_choice changes",
    "bulk_tasks",
    "actions live outcome",
    "bulk charts errors list processes queues schedules task",
)

# Each folder whose modules have an order of their own.
FOLDERS: Final[dict[str, tuple[str, ...]]] = {
    "": tuple(floor for floors in PACKAGE.values() for floor in floors),
    "declaration": DECLARATION,
    "rollups": ROLLUPS,
    "ledger": LEDGER,
    "runtime": RUNTIME,
    "runtime.attempts": ATTEMPTS,
    "runtime.claims": CLAIMS,
    "runtime.upkeep": UPKEEP,
    "cli": CLI,
    "observability": OBSERVABILITY,
    "dashboard": DASHBOARD,
    "testing": TESTING,
}


def floors(order: tuple[str, ...]) -> dict[str, int]:
    """Returns the number of the floor of each room."""
    return {room: number for number, floor in enumerate(order) for room in floor.split()}
