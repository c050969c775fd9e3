"""Verifies bearer tokens: JSON Web Tokens (RFC 7519), by PyJWT and the `jwt` setting.

An algorithm is one of the setting's list, and each key is prepared for its algorithms alone: a
token's header selects among them and adds none (RFC 8725).
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from rail_async_tasks.auth.bearer import Bearer
from rail_async_tasks.auth.jwks import Jwk, KeySet
from rail_async_tasks.conf import JwtSettings
from rail_async_tasks.errors import ConfigurationError

try:
    import jwt
    from jwt.algorithms import HMACAlgorithm, has_crypto
except ImportError as error:
    raise ConfigurationError(
        'task_settings["jwt"] needs PyJWT, which cannot be imported. Install it:'
        ' pip install "rail_async_tasks[jwt]".'
    ) from error

_PLACE: Final = 'task_settings["jwt"]'


_WORDS: Final = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is by another issuer",
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.MissingRequiredClaimError: "it lacks exp, or a claim that the setting asks for",
}


class BadToken(Exception):
    """A refused token. The message is for the log and quotes nothing of the token."""


class Head(NamedTuple):
    """The header of an unverified token; `algorithm` is one of the settings'."""

    kid: str | None
    algorithm: str


class _Hmac(HMACAlgorithm):
    """HMAC with a key of at least 32 bytes for every hash, which the settings have checked."""

    def check_key_length(self, key: Any) -> str | None:
        return None


_HMAC: Final = {
    "HS256": _Hmac(HMACAlgorithm.SHA256),
    "HS384": _Hmac(HMACAlgorithm.SHA384),
    "HS512": _Hmac(HMACAlgorithm.SHA512),
}


class _Secret(jwt.PyJWK):
    """A key for one HMAC algorithm. Raises `jwt.InvalidKeyError` for what is no secret."""

    def __init__(self, key: bytes, algorithm: str) -> None:
        super().__init__({"kty": "oct", "k": urlsafe_b64encode(key).decode()}, algorithm)
        self.Algorithm = _HMAC[algorithm]
        self.Algorithm.prepare_key(key)


class Verifier:
    """Verifies tokens by one `jwt` setting.

    Raises `ConfigurationError` where a key cannot be read or is of none of the algorithms.
    """

    def __init__(self, settings: JwtSettings) -> None:
        if not has_crypto and settings.algorithms[0] not in _HMAC:
            raise ConfigurationError(
                f"{_PLACE} has algorithms that need cryptography, which cannot be imported."
                ' Install it: pip install "rail_async_tasks[jwt]".'
            )
        self._settings = settings
        self._published = None if settings.jwks_url is None else KeySet(settings.jwks_url)
        self._keys = {
            kid: _prepared(key, settings.algorithms, f'["keys"]["{kid}"]')
            for kid, key in (settings.keys or {}).items()
        }
        self._one_key: Mapping[str, Any] | None = None
        if settings.key is not None:
            self._one_key = _prepared(settings.key, settings.algorithms, '["key"]')

    def claim(self, bearer: Bearer) -> object:
        """Returns the `user_claim` of a good token. Raises `BadToken`."""
        head = self._head(bearer)
        published = None
        if self._published is not None and head.kid is not None:
            published = self._published.find(head.kid)
        return self._verified(bearer, head, published)

    async def aclaim(self, bearer: Bearer) -> object:
        """`claim()` for event loops: they go on while keys are fetched."""
        head = self._head(bearer)
        published = None
        if self._published is not None and head.kid is not None:
            published = await self._published.afind(head.kid)
        return self._verified(bearer, head, published)

    def _head(self, bearer: Bearer) -> Head:
        if bearer.token is None:
            raise BadToken("it is empty, too long or malformed")
        header = _guarded(jwt.get_unverified_header, bearer.token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms:
            raise BadToken("its algorithm is none of the setting's")
        return Head(kid, algorithm)

    def _verified(self, bearer: Bearer, head: Head, published: Jwk | None) -> object:
        settings = self._settings
        claims = _guarded(
            jwt.decode,
            bearer.token,
            key=self._key(head, published),
            algorithms=[head.algorithm],
            audience=settings.audience,
            issuer=settings.issuer,
            leeway=settings.leeway,
            options={
                "require": ["exp"],
                # `load_user` checks the claim and its type.
                "verify_sub": False,
                "enforce_minimum_key_length": True,
            },
        )
        if settings.user_claim not in claims:
            raise BadToken("it lacks the claim that names the user")
        return claims[settings.user_claim]

    def _key(self, head: Head, published: Jwk | None) -> Any:
        """Returns the key that a token with this header must be signed by."""
        if self._published is not None:
            if published is None:
                raise BadToken("its key id is missing or unknown, or the keys cannot be fetched")
            # A published key that names its algorithm is for that one alone.
            return _guarded(jwt.PyJWK, published, published.get("alg") or head.algorithm)
        by_algorithm = self._one_key
        if by_algorithm is None:
            by_algorithm = self._keys.get(head.kid or "")
        if by_algorithm is None:
            raise BadToken("its key id is missing or unknown")
        if head.algorithm not in by_algorithm:
            raise BadToken("its algorithm does not go with its key")
        return by_algorithm[head.algorithm]


def expiry_of(bearer: Bearer) -> float:
    """Returns the end of a token that `claim()` has accepted, in seconds since 1970."""
    return float(jwt.decode(bearer.token or "", options={"verify_signature": False})["exp"])


def _guarded(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns the function's result; turns any error over a stranger's token into `BadToken`.

    Only the kind of the exception is kept: its text may quote the token.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - a parser of anything at all
        kind = type(error)
    raise BadToken(_WORDS.get(kind, f"it is malformed ({kind.__name__})"))


def _prepared(key: str | bytes, algorithms: tuple[str, ...], place: str) -> Mapping[str, Any]:
    """Returns the prepared key for each of the algorithms that it fits."""
    prepared: dict[str, Any] = {}
    raw = key.encode() if isinstance(key, str) else key
    for name in algorithms:
        try:
            if name in _HMAC:
                prepared[name] = _Secret(raw, name)
            else:
                prepared[name] = jwt.get_algorithm_by_name(name).prepare_key(raw)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue  # a key of another kind, or none at all
    if not prepared:
        raise ConfigurationError(
            f"{_PLACE}{place} cannot be read as a key for {' or '.join(algorithms)}."
        )
    return prepared


_current: tuple[JwtSettings, Verifier] | None = None


def verifier_of(settings: JwtSettings) -> Verifier:
    """Returns the verifier of the current settings, with its cached keys."""
    global _current
    if _current is None or _current[0] is not settings:
        _current = (settings, Verifier(settings))
    return _current[1]
