"""Settings: defaults, types, every kind of mistake, and all mistakes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, asdict, fields
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.test import override_settings

from rail_async_tasks import conf
from rail_async_tasks.conf import (
    LimitSettings,
    QueueSettings,
    RateLimit,
    SettingProblem,
    TaskSettings,
    parse,
    parse_schema_settings,
    parse_settings,
)
from rail_async_tasks.conf import parser as conf_parser
from rail_async_tasks.errors import ConfigurationError

FERNET = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
HMAC_KEY = "k" * 32
PEM = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"

DEFAULTS = {
    "enabled": True,
    "backend": "asyncio",
    "default_queue": "default",
    "queues": {
        "high": QueueSettings(10),
        "default": QueueSettings(0),
        "low": QueueSettings(-10),
    },
    "max_concurrency": 100,
    "max_workers": 4,
    "max_pending": 10000,
    "max_pending_per_owner": None,
    "rate_limit": None,
    "result_ttl_seconds": 86400,
    "max_retries": 3,
    "retry_delay": 1,
    "retry_backoff": True,
    "retry_max_delay": 3600,
    "retry_jitter": 0.1,
    "timeout": None,
    "max_crashes": 2,
    "track_in_database": True,
    "emit_subscriptions": True,
    "subscription_channel": "tasks",
    "progress_interval_seconds": 0.1,
    "bus": "memory",
    "redis_url": None,
    "celery_app": None,
    "lease_seconds": 15,
    "cancel_grace_seconds": 10,
    "unknown_task_seconds": 300,
    "drain_seconds": 20,
    "on_failure": "log",
    "failure_callback": None,
    "metrics_enabled": False,
    "otel_enabled": False,
    "log_task_start": False,
    "log_failures": True,
    "carry_language": True,
    "log_task_complete": False,
    "slow_task_threshold_seconds": None,
    "audit_enabled": False,
    "audit_retention_days": 90,
    "statistics_enabled": True,
    "max_args_bytes": 65536,
    "max_result_bytes": 262144,
    "anonymous_access": "by_id",
    "public_errors": "all",
    "tenant_resolver": None,
    "authenticator": None,
    "around_task": None,
    "encryption_keys": None,
    "limits": LimitSettings(),
    "trusted_proxies": (),
    "jwt": None,
    "introspection": None,
    "console": None,
}


# As docs/settings.md has them.
LIMITS = {
    "tokens": 2000,
    "depth": 20,
    "aliases": 50,
    "root_fields": 50,
    "starts_per_request": 20,
    "request_bytes": 1024 * 1024,
    "frame_bytes": 256 * 1024,
    "answer_bytes": 4 * 1024 * 1024,
    "subscriptions_per_socket": 100,
    "sockets_per_user": 100,
    "sockets_per_address": 500,
    "streams_per_user": 100,
    "frames_per_second": 100,
    "anonymous_pending_per_address": 1000,
    "anonymous_pending_percent": 80,
}


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    """No test sees the settings that another one has read."""
    conf._parsed.cache_clear()
    yield
    conf._parsed.cache_clear()


def problems(**raw: Any) -> list[SettingProblem]:
    return parse_settings(raw)[1]


def errors(**raw: Any) -> list[tuple[str, str]]:
    """Number and key of each error."""
    return [
        (found.id.removeprefix("rail_async_tasks."), found.key)
        for found in problems(**raw)
        if found.level == "error"
    ]


def valid(**raw: Any) -> TaskSettings:
    settings, found = parse_settings(raw)
    assert found == []
    assert settings is not None
    return settings


def test_no_settings_give_every_default() -> None:
    """An empty dict is a complete configuration, key by key."""
    settings = valid()

    actual = {field.name: getattr(settings, field.name) for field in fields(settings)}
    assert actual == DEFAULTS


def test_every_key_has_a_rule_and_every_rule_a_key() -> None:
    """No key is read unchecked, and none is checked but unreadable."""
    assert set(conf_parser._RULES) == {field.name for field in fields(TaskSettings)}


def test_the_defaults_written_out_are_valid() -> None:
    """Writing a default changes nothing: what is documented can be pasted."""
    queues = {"high": {"priority": 10}, "default": {}, "low": {}}
    written = {**DEFAULTS, "queues": queues, "limits": LIMITS}

    assert valid(**written) == valid()


def test_settings_are_frozen() -> None:
    """They cannot change for code that has read them."""
    with pytest.raises(FrozenInstanceError):
        valid().enabled = False  # type: ignore[misc]
    with pytest.raises(TypeError):
        valid().queues["x"] = QueueSettings()  # type: ignore[index]


@pytest.mark.parametrize(
    ("key", "value", "parsed"),
    [
        ("timeout", 30, 30.0),
        ("retry_delay", 0, 0.0),
        ("retry_jitter", 1, 1.0),
        ("drain_seconds", 0.5, 0.5),
        ("result_ttl_seconds", None, None),
        ("result_ttl_seconds", 60, 60.0),
        ("max_pending", None, None),
        ("max_retries", 0, 0),
        ("rate_limit", "100/m", RateLimit(100, 60)),
        ("rate_limit", "1/s", RateLimit(1, 1)),
        ("rate_limit", "5/h", RateLimit(5, 3600)),
        ("rate_limit", "2/d", RateLimit(2, 86400)),
        ("backend", "thread", "thread"),
        ("backend", "dramatiq", "dramatiq"),
        ("backend", "shop.backends.Odd", "shop.backends.Odd"),
        ("tenant_resolver", "shop.tenants.resolve", "shop.tenants.resolve"),
        ("limits", {}, LimitSettings(subscriptions_per_socket=100)),
        ("limits", {"subscriptions_per_socket": 3}, LimitSettings(subscriptions_per_socket=3)),
        (
            "limits",
            {"subscriptions_per_socket": None},
            LimitSettings(subscriptions_per_socket=None),
        ),
        ("limits", dict.fromkeys(LIMITS), LimitSettings(**dict.fromkeys(LIMITS))),
        ("trusted_proxies", ["10.0.0.0/8", "::1"], (ip_network("10.0.0.0/8"), ip_network("::1"))),
        ("encryption_keys", [FERNET], (FERNET.encode(),)),
        ("encryption_keys", (FERNET.encode(), FERNET), (FERNET.encode(), FERNET.encode())),
        ("redis_url", "rediss://:pw@redis.example:6380/1", "rediss://:pw@redis.example:6380/1"),
        ("redis_url", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_right_value_is_read(key: str, value: object, parsed: object) -> None:
    """Values come out typed: seconds as float, a rate as count and period."""
    actual = getattr(valid(**{key: value}), key)

    assert (actual, type(actual)) == (parsed, type(parsed))


@pytest.mark.parametrize(
    ("key", "value", "number"),
    [
        ("enabled", 1, "E003"),
        ("enabled", "yes", "E003"),
        ("retry_backoff", None, "E003"),
        ("backend", "asincio", "E005"),
        ("backend", None, "E005"),
        ("backend", "shop..Backend", "E005"),
        ("default_queue", "", "E006"),
        ("default_queue", 3, "E003"),
        ("default_queue", "nightly", "E007"),
        ("queues", ["high"], "E003"),
        ("max_concurrency", 0, "E004"),
        ("max_concurrency", 10.0, "E003"),
        ("max_concurrency", True, "E003"),
        ("max_workers", -1, "E004"),
        ("max_pending", -1, "E004"),
        ("max_pending", "100", "E003"),
        ("max_retries", -1, "E004"),
        ("max_retries", 2**31, "E004"),
        pytest.param("max_retries", 10**5000, "E004", id="more-digits-than-python-writes"),
        ("max_retries", None, "E003"),
        ("trusted_proxies", "10.0.0.1", "E003"),
        ("trusted_proxies", True, "E003"),
        ("rate_limit", "100", "E006"),
        ("rate_limit", "0/m", "E006"),
        ("rate_limit", "100/w", "E006"),
        ("rate_limit", " 100/m", "E006"),
        ("rate_limit", "\u0661/m", "E006"),  # a digit, but not one of ours
        ("rate_limit", 100, "E006"),
        ("result_ttl_seconds", 59.9, "E004"),
        ("result_ttl_seconds", "1d", "E003"),
        ("timeout", 0, "E004"),
        ("timeout", -1, "E004"),
        ("timeout", True, "E003"),
        ("timeout", float("nan"), "E004"),
        ("timeout", float("inf"), "E004"),
        pytest.param("timeout", 10**400, "E004", id="more-than-a-float-holds"),
        ("timeout", timedelta(minutes=5), "E003"),
        ("retry_delay", float("-inf"), "E004"),
        ("retry_delay", None, "E003"),
        ("retry_jitter", 1.1, "E004"),
        ("lease_seconds", 0, "E004"),
        ("progress_interval_seconds", 0, "E004"),
        ("bus", "rabbit", "E005"),
        ("bus", None, "E005"),
        ("redis_url", "localhost:6379", "E006"),
        ("redis_url", "http://localhost", "E006"),
        ("redis_url", "redis://localhost:6379/abc", "E006"),
        ("redis_url", 6379, "E003"),
        ("celery_app", "root.celery:app", "E006"),
        ("failure_callback", "notify", "E006"),
        ("failure_callback", len, "E003"),
        ("authenticator", "shop.class.x", "E006"),
        ("on_failure", "raise", "E005"),
        ("anonymous_access", [], "E005"),
        ("subscription_channel", "", "E006"),
        ("subscription_channel", "my tasks", "E006"),
        ("audit_retention_days", 0, "E004"),
        ("max_args_bytes", 0, "E004"),
        ("encryption_keys", FERNET, "E003"),
        ("jwt", "secret", "E003"),
        ("limits", None, "E003"),
        ("limits", 100, "E003"),
    ],
)
def test_a_wrong_value_is_one_error(key: str, value: object, number: str) -> None:
    """Each mistake is reported once, under a stable id, and never replaced by a default."""
    settings, found = parse_settings({key: value})

    assert settings is None
    assert [(problem.id, problem.key) for problem in found] == [(f"rail_async_tasks.{number}", key)]
    assert f'task_settings["{key}"]' in found[0].message
    assert found[0].hint


@pytest.mark.parametrize(
    ("limits", "number", "key"),
    [
        ({"subscriptions_per_socket": 0}, "E004", "limits.subscriptions_per_socket"),
        ({"subscriptions_per_socket": "9"}, "E003", "limits.subscriptions_per_socket"),
        ({"subscription_per_socket": 9}, "E002", "limits.subscription_per_socket"),
    ],
)
def test_a_wrong_limit_is_an_error(limits: Any, number: str, key: str) -> None:
    """Inside the group as outside: by its full name, a misspelt key with the one that was meant."""
    (problem,) = problems(limits=limits)
    assert (problem.id, problem.key) == (f"rail_async_tasks.{number}", key)
    assert number != "E002" or problem.hint == 'Did you mean "subscriptions_per_socket"?'


def test_all_mistakes_are_reported_together() -> None:
    """One run shows everything: wrong values, unknown keys, inside dicts too."""
    found = errors(
        max_concurency=5,
        max_workers="4",
        timeout=-1,
        queues={"high": {"priority": "top"}, "slow": {"concurrency": 0}},
        jwt={"algorithms": ["HS256"], "leeway": -1},
    )

    assert sorted(found) == [
        ("E002", "max_concurency"),
        ("E003", "max_workers"),
        ("E003", "queues.high.priority"),
        ("E004", "jwt.leeway"),
        ("E004", "queues.slow.concurrency"),
        ("E004", "timeout"),
        ("E010", "jwt"),
    ]


JUNK = [
    None, True, 0, -1, 10**400, 1.5, float("nan"), "", "x", "a.b", b"x", [], [None], {}, {1: 2},
    {"x": {}}, {"key": {}}, object(), len, timedelta(1), [[]], ({},), {"algorithms": [[]]},
    {10**5000: {}}, {"queues": {10**5000: 10**5000}},
]  # fmt: skip


@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_no_value_makes_the_reading_crash(key: str) -> None:
    """Whatever is written, the answer is settings or problems, never an exception."""
    for value in JUNK:
        settings, found = parse_settings({key: value})

        assert (settings is None) == any(problem.level == "error" for problem in found)
        assert all(problem.message and problem.hint for problem in found)


def test_no_section_makes_the_reading_crash() -> None:
    """The same for whole sections and for the setting itself."""
    for value in JUNK:
        for root in (value, {"task_settings": value}, {"schema_settings": value}):
            parsed = parse(root)

            assert all(problem.message and problem.hint for problem in parsed.problems)


@pytest.mark.parametrize("section", ["task_settings", "schema_settings", "RAIL_DJANGO_GRAPHQL"])
@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_what_should_be_a_dict_and_is_none_is_one_error(section: str, value: object) -> None:
    """A section of the wrong shape hides nothing and crashes nothing."""
    parsed = parse(value if section == "RAIL_DJANGO_GRAPHQL" else {section: value})

    assert [problem.id for problem in parsed.problems] == ["rail_async_tasks.E001"]
    assert section in parsed.problems[0].message


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("max_concurency", "max_concurrency"),
        ("maxPending", "max_pending"),
        ("RETRY_DELAY", "retry_delay"),
        ("result-ttl-seconds", "result_ttl_seconds"),
    ],
)
def test_an_unknown_key_gets_did_you_mean(key: str, meant: str) -> None:
    """The nearest known key is named; spelling in capitals or camel case is seen through."""
    (problem,) = problems(**{key: 1})

    assert problem.id == "rail_async_tasks.E002"
    assert key in problem.message
    assert problem.hint == f'Did you mean "{meant}"?'


def test_an_unknown_key_that_is_like_none_gets_the_list() -> None:
    """Without a near key the hint names the known ones."""
    (problem,) = problems(zzz=1)

    assert "max_concurrency" in problem.hint


def test_a_key_of_the_other_section_is_sent_there() -> None:
    """Extensions belong in schema_settings."""
    (problem,) = problems(query_extensions=["shop.schema.Query"])

    assert "schema_settings" in problem.hint


def test_queues_are_merged_over_the_three_defaults_option_by_option() -> None:
    """A limit on `high` keeps its priority; a new queue stands beside the three."""
    settings = valid(queues={"high": {"concurrency": 2}, "reports": {"priority": 5}})

    assert settings.queues == {
        "high": QueueSettings(10, 2),
        "default": QueueSettings(0),
        "low": QueueSettings(-10),
        "reports": QueueSettings(5),
    }


@pytest.mark.parametrize(
    ("queues", "number", "key"),
    [
        ({"slow": None}, "E003", "queues.slow"),
        ({"slow": {"priority": 1.5}}, "E003", "queues.slow.priority"),
        ({"slow": {"concurrency": 0}}, "E004", "queues.slow.concurrency"),
        ({"slow": {"concurency": 1}}, "E002", "queues.slow.concurency"),
        ({"": {}}, "E006", "queues."),
        ({3: {}}, "E003", "queues.3"),
        ({"q" * 101: {}}, "E006", "queues." + "q" * 101),
    ],
)
def test_a_wrong_queue_is_an_error(queues: Mapping[Any, Any], number: str, key: str) -> None:
    """Options are validated queue by queue, unknown ones too."""
    assert errors(queues=queues) == [(number, key)]


def test_an_unknown_queue_option_gets_did_you_mean() -> None:
    """A misspelt option would otherwise be a limit that does not exist."""
    (problem,) = problems(queues={"slow": {"concurency": 1}})

    assert problem.hint == 'Did you mean "concurrency"?'


def test_the_default_queue_may_be_one_that_settings_add() -> None:
    """It must exist after the merge, not among the three."""
    assert valid(default_queue="web", queues={"web": {}}).default_queue == "web"


@pytest.mark.parametrize(
    ("raw", "bus"),
    [
        ({}, "memory"),
        ({"redis_url": "redis://localhost"}, "redis"),
        ({"redis_url": "redis://localhost", "bus": "memory"}, "memory"),
        ({"redis_url": None}, "memory"),
    ],
)
def test_the_bus_follows_redis_url_unless_written(raw: dict[str, Any], bus: str) -> None:
    """Naming a Redis is enough to use it; the bus can be kept in memory all the same."""
    assert valid(**raw).bus == bus


@pytest.mark.parametrize(
    ("raw", "number", "key"),
    [
        ({"backend": "arq"}, "E008", "backend"),
        ({"backend": "celery"}, "E008", "backend"),
        ({"bus": "redis"}, "E008", "bus"),
        ({"on_failure": "callback"}, "E008", "on_failure"),
        ({"track_in_database": False, "backend": "dramatiq"}, "E009", "track_in_database"),
        ({"track_in_database": False, "backend": "shop.x.Backend"}, "E009", "track_in_database"),
    ],
)
def test_settings_that_do_not_go_together_are_errors(
    raw: dict[str, Any], number: str, key: str
) -> None:
    """A value that needs another one says which."""
    assert errors(**raw) == [(number, key)]


@pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
def test_rows_may_live_in_memory_for_the_in_process_backends(backend: str) -> None:
    """No other code has to read them."""
    assert valid(track_in_database=False, backend=backend).track_in_database is False


@pytest.mark.parametrize(
    "raw",
    [
        {"backend": "arq", "redis_url": 5},
        {"backend": "celery", "celery_app": "nodots"},
        {"track_in_database": False, "backend": "rabbit"},
        {"default_queue": "x", "queues": []},
    ],
)
def test_a_wrong_value_is_not_blamed_on_its_neighbour_too(raw: dict[str, Any]) -> None:
    """Relations are looked at only between values that are right by themselves."""
    assert len(problems(**raw)) == 1


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"failure_callback": "shop.tasks.notify"}, "failure_callback"),
        ({"retry_delay": 10, "retry_max_delay": 5}, "retry_delay"),
        (
            {"authenticator": "shop.who", "jwt": {"key": HMAC_KEY, "algorithms": ["HS256"]}},
            "jwt",
        ),
    ],
)
def test_a_setting_without_effect_is_a_warning(raw: dict[str, Any], key: str) -> None:
    """It works, but not as it reads."""
    settings, found = parse_settings(raw)

    assert settings is not None
    assert [(problem.id, problem.key, problem.level) for problem in found] == [
        ("rail_async_tasks.W002", key, "warning")
    ]


@pytest.mark.parametrize("algorithm", ["HS256", "HS512"])
def test_jwt_with_a_shared_secret(algorithm: str) -> None:
    """The short form: a key and an algorithm, everything else by default."""
    jwt = valid(jwt={"key": HMAC_KEY, "algorithms": [algorithm]}).jwt

    assert jwt is not None
    assert asdict(jwt) == {
        "key": HMAC_KEY, "jwks_url": None, "keys": None, "algorithms": (algorithm,),
        "audience": None, "issuer": None, "user_claim": "sub", "leeway": 30.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "jwt",
    [
        {"key": PEM, "algorithms": ["EdDSA"]},
        {"keys": {"2026": PEM}, "algorithms": ["RS256", "ES256"]},
        {"keys": {"a": HMAC_KEY, "b": HMAC_KEY.encode()}, "algorithms": ["HS256"]},
        {"jwks_url": "https://id.example.com/jwks.json", "algorithms": ["RS256"]},
        {"jwks_url": "http://localhost:8080/jwks", "algorithms": ["RS256"]},
        {"key": HMAC_KEY, "algorithms": ["HS256"], "audience": ["a", "b"], "issuer": "me"},
        {"key": HMAC_KEY, "algorithms": ["HS256"], "user_claim": "user_id", "leeway": 0},
    ],
)
def test_jwt_may_be_configured_in_each_documented_way(jwt: dict[str, Any]) -> None:
    """One key, several by id, or a URL that publishes them."""
    assert valid(jwt=jwt).jwt is not None


SECRET = {"key": HMAC_KEY, "algorithms": ["HS256"]}


@pytest.mark.parametrize(
    ("jwt", "number", "key"),
    [
        ({"algorithms": ["HS256"]}, "E010", "jwt"),
        ({**SECRET, "jwks_url": "https://x.example"}, "E010", "jwt"),
        ({"key": HMAC_KEY}, "E010", "jwt.algorithms"),
        ({"key": HMAC_KEY, "algorithms": []}, "E010", "jwt.algorithms"),
        ({"key": HMAC_KEY, "algorithms": "HS256"}, "E010", "jwt.algorithms"),
        ({"key": HMAC_KEY, "algorithms": ["none"]}, "E010", "jwt.algorithms"),
        ({"key": HMAC_KEY, "algorithms": ["HS265"]}, "E010", "jwt.algorithms"),
        ({"key": PEM, "algorithms": ["RS256", "HS256"]}, "E010", "jwt.algorithms"),
        ({"key": "k" * 31, "algorithms": ["HS256"]}, "E010", "jwt.key"),
        ({"key": PEM, "algorithms": ["HS256"]}, "E010", "jwt.key"),
        ({"key": HMAC_KEY, "algorithms": ["RS256"]}, "E010", "jwt.key"),
        ({"key": 5, "algorithms": ["HS256"]}, "E010", "jwt.key"),
        ({"keys": {}, "algorithms": ["HS256"]}, "E010", "jwt.keys"),
        ({"keys": {"a": "short"}, "algorithms": ["HS256"]}, "E010", "jwt.keys.a"),
        ({"keys": {1: HMAC_KEY}, "algorithms": ["HS256"]}, "E010", "jwt.keys"),
        ({"jwks_url": "id.example.com", "algorithms": ["RS256"]}, "E010", "jwt.jwks_url"),
        ({"jwks_url": "http://[", "algorithms": ["RS256"]}, "E010", "jwt.jwks_url"),
        (
            {"jwks_url": "http://keycloak:8080/jwks", "algorithms": ["RS256"]},
            "E010",
            "jwt.jwks_url",
        ),
        ({"jwks_url": "https://x.example", "algorithms": ["HS256"]}, "E010", "jwt.jwks_url"),
        ({**SECRET, "user_claim": ""}, "E010", "jwt.user_claim"),
        ({**SECRET, "leeway": True}, "E003", "jwt.leeway"),
        ({**SECRET, "audience": 3}, "E010", "jwt.audience"),
        ({**SECRET, "issuer": []}, "E010", "jwt.issuer"),
        ({**SECRET, "algorithm": "HS256"}, "E002", "jwt.algorithm"),
    ],
)
def test_a_wrong_jwt_setting_is_one_error(jwt: dict[str, Any], number: str, key: str) -> None:
    """Nothing that would make verification weaker or impossible is let through."""
    assert errors(jwt=jwt) == [(number, key)]


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ([], "encryption_keys"),
        ([FERNET, "short"], "encryption_keys.1"),
        ([FERNET[:-1]], "encryption_keys.0"),
        ([FERNET.replace("M", "+")], "encryption_keys.0"),
        ([None], "encryption_keys.0"),
    ],
)
def test_what_is_no_fernet_key_is_an_error(keys: list[Any], key: str) -> None:
    """Found by the checks, not when the first sensitive argument is to be kept."""
    assert errors(encryption_keys=keys) == [("E011", key)]


def test_fernet_agrees_on_what_a_key_is() -> None:
    """The syntax that is asked for is the one that the library takes and makes."""
    fernet = pytest.importorskip("cryptography.fernet").Fernet

    valid(encryption_keys=[fernet.generate_key(), fernet.generate_key().decode()])
    assert fernet(FERNET)


def test_secrets_are_neither_in_messages_nor_in_repr() -> None:
    """Check output and logs are read by people who must not have the keys."""
    secret = "s3cr3t-s3cr3t"
    wrong = problems(
        redis_url=f"http://:{secret}@redis",
        encryption_keys=[secret],
        jwt={"key": secret, "algorithms": ["HS256"]},
    ) + problems(encryption_keys=secret, jwt=secret, redis_url=[secret])
    right = valid(
        redis_url=f"redis://:{secret}@redis",
        encryption_keys=[FERNET],
        jwt={"keys": {"a": secret * 4}, "algorithms": ["HS256"]},
    )

    assert len(wrong) == 6
    assert secret not in repr(wrong)
    assert secret not in repr(right)
    assert FERNET not in repr(right)


def test_schema_settings_are_read_as_tuples() -> None:
    """Keys of other packages in the same dict are none of our business."""
    settings, found = parse_schema_settings(
        {"query_extensions": ["shop.schema.Query"], "auto_camelcase": True}
    )

    assert found == []
    assert settings == conf.SchemaSettings(query_extensions=("shop.schema.Query",))


@pytest.mark.parametrize(
    ("value", "number", "key"),
    [
        ("shop.schema.Query", "E003", "query_extensions"),
        (["Query"], "E006", "query_extensions.0"),
        (["shop.schema.Query", int], "E003", "query_extensions.1"),
    ],
)
def test_a_wrong_extension_list_is_an_error(value: object, number: str, key: str) -> None:
    """A list of dotted paths, and nothing that happens to be iterable."""
    settings, found = parse_schema_settings({"query_extensions": value})

    assert settings is None
    assert [(problem.id, problem.key) for problem in found] == [(f"rail_async_tasks.{number}", key)]


@pytest.mark.parametrize(
    ("root", "meant"),
    [
        ({"task_setting": {}}, "task_settings"),
        ({"TASK_SETTINGS": {}}, "task_settings"),
        ({"schema_setting": {}}, "schema_settings"),
    ],
)
def test_a_near_miss_of_our_names_is_a_warning(root: dict[str, Any], meant: str) -> None:
    """The dict is shared with other packages, so it is no error."""
    parsed = parse(root)

    assert [(problem.id, problem.hint) for problem in parsed.problems] == [
        ("rail_async_tasks.W001", f'Did you mean "{meant}"?')
    ]
    assert parsed.tasks == valid()


@pytest.mark.parametrize("key", ["query_extension", "queryExtensions"])
def test_a_near_miss_of_an_extension_is_an_error(key: str) -> None:
    """Its fields are missing from the schema, and no other package has a use for it."""
    [problem] = parse({"schema_settings": {key: []}}).problems
    assert (problem.id, problem.hint) == (
        "rail_async_tasks.E022", 'Did you mean "query_extensions"?',
    )  # fmt: skip


@pytest.mark.parametrize(
    ("root", "id", "where", "to"),
    [
        ({"mutation_extensions": ["a.B"]}, "E022", 'GRAPHQL["mut', '["schema_settings"]'),
        ({"query_extensions": 3}, "E022", 'GRAPHQL["query', '["schema_settings"]'),
        ({"mutation_extension": []}, "E022", 'GRAPHQL["mut', '["schema_settings"]'),
        ({"max_retries": 5}, "W001", 'GRAPHQL["max_retries', '["task_settings"]'),
        ({"subscriptions_per_socket": 5}, "W001", "GRAPHQL", '["task_settings"]["limits"]'),
        ({"schema_settings": {"max_retries": 5}}, "W001", "schema_settings", '["task_settings"]'),
        ({"schema_settings": {"task_settings": {}}}, "W001", "schema_settings", "GRAPHQL."),
        ({"task_settings": {"schema_settings": {}}}, "E002", "task_settings", "GRAPHQL."),
        ({"task_settings": {"query_extensions": []}}, "E002", "task_s", '["schema_settings"]'),
        ({"task_settings": {"subscriptions_per_socket": 5}}, "E002", "task_s", '["limits"]'),
        ({"task_settings": {"priority": 5}}, "E002", "task_settings", '["queues"][<name>]'),
        ({"task_settings": {"algorithms": ["HS256"]}}, "E002", "task_settings", '["jwt"]'),
    ],
)
def test_a_key_at_the_wrong_level_is_sent_where_it_belongs(
    root: Any, id: str, where: str, to: str
) -> None:
    """An error where no other package can mean it; the hint says what to write where."""
    (problem,) = parse(root).problems
    assert problem.id == f"rail_async_tasks.{id}"
    assert where in problem.message
    assert "Move it into RAIL_DJANGO_GRAPHQL" in problem.hint
    assert f"{to}." in problem.hint or problem.hint.endswith(to)


def test_sections_and_keys_of_other_packages_are_left_alone() -> None:
    """Neither a section nor a key of theirs is commented on."""
    parsed = parse(
        {
            "test_settings": {},
            "mutation_settings": {},
            "security_settings": 3,
            "schema_settings": {"enable_introspection": True, "excluded_apps": []},
        }
    )

    assert parsed.problems == ()


def test_the_right_values_are_known_beside_wrong_ones() -> None:
    """So that the checks can look at them too."""
    parsed = parse({"task_settings": {"timeout": -1, "failure_callback": "shop.x"}})

    assert parsed.tasks is None
    assert parsed.task_values == {"failure_callback": "shop.x"}


def test_settings_are_read_once_and_again_when_django_settings_change() -> None:
    """The same object until `override_settings` (or its like) says that they have changed."""
    before = conf.get_settings()
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"max_workers": 9}}):
        inside = conf.get_settings()
        assert inside is conf.get_settings()
        assert inside.max_workers == 9

    after = conf.get_settings()
    assert after == before
    assert after is not inside


def test_use_refuses_wrong_settings_and_lists_every_error() -> None:
    """One exception lists every problem, as the checks do."""
    raw = {
        "task_settings": {"max_workers": 0, "bakend": "sync"},
        "schema_settings": {"query_extensions": "shop.Query"},
    }
    with (
        override_settings(RAIL_DJANGO_GRAPHQL=raw),
        pytest.raises(ConfigurationError) as caught,
    ):
        conf.get_settings()

    for word in ("max_workers", "bakend", "backend", "query_extensions", "E002", "E003", "E004"):
        assert word in str(caught.value)


def test_a_warning_refuses_nothing() -> None:
    """Only errors make settings unusable."""
    raw = {"task_settings": {"failure_callback": "shop.tasks.notify"}}
    with override_settings(RAIL_DJANGO_GRAPHQL=raw):
        assert conf.get_settings().failure_callback == "shop.tasks.notify"
        assert [problem.level for problem in conf.validate()] == ["warning"]


def test_a_wrong_task_setting_leaves_the_schema_usable() -> None:
    """The schema is still built and its fields answer with an error, instead of no schema."""
    raw = {
        "task_settings": {"max_workers": 0},
        "schema_settings": {"query_extensions": ["shop.schema.Query"]},
    }
    with override_settings(RAIL_DJANGO_GRAPHQL=raw):
        assert conf.get_schema_settings().query_extensions == ("shop.schema.Query",)


def test_a_wrong_schema_setting_refuses_the_schema() -> None:
    """Its own mistakes are not replaced by an empty list."""
    raw = {"schema_settings": {"query_extensions": "shop.schema.Query"}}
    with override_settings(RAIL_DJANGO_GRAPHQL=raw):
        with pytest.raises(ConfigurationError, match="query_extensions"):
            conf.get_schema_settings()
        assert conf.get_settings() == valid()


@pytest.mark.parametrize("path", ["no_such_module.x", "math.no_such_name"])
def test_a_path_that_does_not_import_says_where_it_stands(path: str) -> None:
    """The original error is kept as the cause."""
    with pytest.raises(ConfigurationError, match="celery_app") as caught:
        conf.import_from_setting(path, 'task_settings["celery_app"]')

    assert isinstance(caught.value.__cause__, ImportError)
