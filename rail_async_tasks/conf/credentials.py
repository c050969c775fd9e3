"""The rules for `jwt` and `encryption_keys`. No message shows what a user wrote as a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from rail_async_tasks.conf import problems as ids
from rail_async_tasks.conf.model import JwtSettings
from rail_async_tasks.conf.problems import Place, Report, did_you_mean, shown
from rail_async_tasks.conf.rules import known_keys, number
from rail_async_tasks.text import counted

HMAC: Final = ("HS256", "HS384", "HS512")
ASYMMETRIC: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES256K", "ES384", "ES512",
    "EdDSA",
)  # fmt: skip
MIN_HMAC_BYTES: Final = 32  # the output of SHA-256: RFC 7518, section 3.2

_SOURCES: Final = ("key", "jwks_url", "keys")
_OPTIONS: Final = (*_SOURCES, "algorithms", "audience", "issuer", "user_claim", "leeway")
_GENERATE: Final = "python -c 'import secrets; print(secrets.token_urlsafe(48))'"
_FERNET: Final = re.compile(r"[A-Za-z0-9_-]{43}=", re.ASCII)
_NEW_FERNET: Final = (
    "Make one with: python -c 'from cryptography.fernet import Fernet; "
    "print(Fernet.generate_key().decode())'"
)


def encryption_keys(value: Any, place: Place, report: Report) -> Any:
    """Parses Fernet keys, newest first: URL-safe base64 of 32 bytes each."""
    if not isinstance(value, list | tuple):
        report.error(
            ids.WRONG_TYPE,
            place,
            f"must be a list, not {type(value).__name__}",
            "Write a list of Fernet keys, newest first, or None for no encryption.",
        )
        return value
    if not value:
        report.error(
            ids.BAD_ENCRYPTION_KEY,
            place,
            "is empty",
            f"Write None for no encryption. {_NEW_FERNET}",
        )
    keys = []
    for index, key in enumerate(value):
        text = key.decode("ascii", "replace") if isinstance(key, bytes) else key
        if not isinstance(text, str) or not _FERNET.fullmatch(text):
            report.error(
                ids.BAD_ENCRYPTION_KEY,
                place / index,
                "is not a Fernet key (44 characters, URL-safe base64 of 32 bytes)",
                _NEW_FERNET,
            )
        else:
            keys.append(text.encode("ascii"))
    return tuple(keys)


def jwt(value: Any, place: Place, report: Report) -> Any:
    """Parses `jwt`, and reports every mistake in it."""
    if not isinstance(value, Mapping):
        report.error(
            ids.WRONG_TYPE,
            place,
            f"must be a dict, not {type(value).__name__}",
            'Write {"key": ..., "algorithms": ["HS256"]}, or None for no bearer tokens.',
        )
        return value
    before = len(report.problems)
    known_keys(value, _OPTIONS, place, report)
    algorithms = _algorithms(value, place, report)
    source = _source(value, place, report)
    if source is not None and algorithms:
        _check_keys(source, value[source], algorithms[0] in HMAC, place, report)
    user_claim = value.get("user_claim", "sub")
    if not isinstance(user_claim, str) or not user_claim:
        report.error(
            ids.BAD_JWT,
            place / "user_claim",
            f"must be text, not {shown(user_claim)}",
            'Name the claim that holds the user\'s primary key, for example "sub".',
        )
    leeway = number(0, 86_400)(value.get("leeway", 30), place / "leeway", report)
    audience = _names(value.get("audience"), place / "audience", report)
    issuer = _names(value.get("issuer"), place / "issuer", report)
    if any(problem.level == "error" for problem in report.problems[before:]):
        return None
    keys = value.get("keys")
    return JwtSettings(
        key=value.get("key"), jwks_url=value.get("jwks_url"),
        keys=MappingProxyType(dict(keys)) if keys is not None else None, algorithms=algorithms,
        audience=audience, issuer=issuer, user_claim=user_claim, leeway=leeway,
    )  # fmt: skip


def _algorithms(raw: Mapping[Any, Any], place: Place, report: Report) -> tuple[str, ...]:
    """Returns the algorithms that tokens may be signed with: known, and of one family.

    With both families, a client could sign with the public key as HMAC secret.
    """
    where = place / "algorithms"
    value = raw.get("algorithms")
    if not isinstance(value, list | tuple) or not value:
        report.error(
            ids.BAD_JWT,
            where,
            "must be a list with at least one algorithm",
            'Name the algorithms that your tokens are signed with, e.g. ["RS256"].',
        )
        return ()
    bad = [name for name in value if name not in (*HMAC, *ASYMMETRIC)]
    for name in bad:
        hint = did_you_mean(name, (*HMAC, *ASYMMETRIC), "Known are")
        if str(name).lower() == "none":
            hint = "Remove it: an unsigned token proves nothing."
        report.error(ids.BAD_JWT, where, f"names an unknown algorithm: {shown(name)}", hint)
    if bad:
        return ()
    if len({name in HMAC for name in value}) > 1:
        report.error(
            ids.BAD_JWT,
            where,
            "mixes HMAC (HS...) and public-key algorithms",
            "Keep one family: with both, a public key could be used to forge tokens.",
        )
        return ()
    return tuple(value)


def _source(raw: Mapping[Any, Any], place: Place, report: Report) -> str | None:
    """Returns the one of `key`, `keys` and `jwks_url` that is set."""
    given = [name for name in _SOURCES if raw.get(name) is not None]
    if len(given) == 1:
        return given[0]
    found = f"has {' and '.join(given)}" if given else "has none of key, jwks_url and keys"
    report.error(
        ids.BAD_JWT,
        place,
        found,
        "Write exactly one of key (one key), keys ({kid: key}) and jwks_url (a URL).",
    )
    return None


def _check_keys(source: str, value: Any, hmac: bool, place: Place, report: Report) -> None:
    where = place / source
    if source == "key":
        _key(value, hmac, where, report)
    elif source == "jwks_url":
        _jwks_url(value, hmac, where, report)
    elif not isinstance(value, Mapping) or not value:
        report.error(
            ids.BAD_JWT,
            where,
            "must be a dict of key ids and keys",
            'Write {"<kid>": "<key>", ...}.',
        )
    else:
        for kid, key in value.items():
            if not isinstance(kid, str) or not kid:
                report.error(
                    ids.BAD_JWT,
                    where,
                    f"has a key id that is not text: {shown(kid)}",
                    "Write the kid as it stands in the tokens' headers.",
                )
            _key(key, hmac, where / kid, report)


def _key(value: Any, hmac: bool, place: Place, report: Report) -> None:
    if not isinstance(value, str | bytes):
        report.error(
            ids.BAD_JWT,
            place,
            f"must be text or bytes, not {type(value).__name__}",
            "Write the key itself.",
        )
        return
    raw = value.encode() if isinstance(value, str) else value
    public = raw.lstrip().startswith((b"-----BEGIN ", b"ssh-", b"ecdsa-"))
    if hmac and public:
        report.error(
            ids.BAD_JWT,
            place,
            "is a public or private key, but algorithms are HMAC",
            'Name the public-key algorithms that your tokens use, e.g. ["RS256"].',
        )
    elif hmac and len(raw) < MIN_HMAC_BYTES:
        report.error(
            ids.BAD_JWT,
            place,
            f"is too short: {counted(len(raw), 'byte')}",
            f"Use {MIN_HMAC_BYTES} random bytes or more: {_GENERATE}",
        )
    elif not hmac and not public:
        report.error(
            ids.BAD_JWT,
            place,
            "is not a public key",
            'Write the PEM text that begins "-----BEGIN PUBLIC KEY-----".',
        )


def _jwks_url(value: Any, hmac: bool, place: Place, report: Report) -> None:
    if hmac:
        report.error(
            ids.BAD_JWT,
            place,
            "publishes keys, but algorithms are HMAC",
            'Name the public-key algorithms that your tokens use, e.g. ["RS256"].',
        )
    try:
        url = urlsplit(value) if isinstance(value, str) else None
        host = url.hostname if url else None
    except ValueError:  # for example an unclosed "[" of an IPv6 address
        url = host = None
    if url is None or not host or url.scheme not in ("http", "https"):
        report.error(
            ids.BAD_JWT,
            place,
            "is not an http(s) URL",
            'Write it in full: "https://login.example.com/.well-known/jwks.json".',
        )
    elif url.scheme == "http" and host not in ("localhost", "127.0.0.1", "::1"):
        report.error(
            ids.BAD_JWT,
            place,
            "would fetch keys without TLS",
            "Use https: an attacker who changes that answer can sign tokens.",
        )


def _names(value: Any, place: Place, report: Report) -> str | tuple[str, ...] | None:
    """Returns one audience or issuer, several, or None for no check."""
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) and v for v in value):
        return tuple(value)
    report.error(
        ids.BAD_JWT,
        place,
        f"must be text or a list of text, not {shown(value)}",
        "Write what the tokens say, or leave it out.",
    )
    return None
