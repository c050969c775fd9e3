"""Keys, and tokens that are signed with them: good ones and all kinds of bad ones."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth.models import User
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

SECRET = "a secret of the tests, of 32 bytes"
OTHER_SECRET = "quite another one, 32 bytes as well"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(private: Any) -> str:
    """The public key of it, as settings have it."""
    form = PublicFormat.SubjectPublicKeyInfo
    return str(private.public_key().public_bytes(Encoding.PEM, form).decode())


def jwk(private: Any, kid: str, **members: str) -> dict[str, Any]:
    """The public key of it, as a provider publishes it."""
    algorithm = RSAAlgorithm if isinstance(private, rsa.RSAPrivateKey) else ECAlgorithm
    return {**algorithm.to_jwk(private.public_key(), as_dict=True), "kid": kid, **members}


HS = {
    "keys": {"new": SECRET, "old": OTHER_SECRET},
    "algorithms": ["HS256"],
    "audience": "tasks",
    "issuer": "https://id.example",
}
RS = {"key": pem(RSA), "algorithms": ["RS256"]}


def claims(sub: Any, **changes: Any) -> dict[str, Any]:
    """Good ones for `HS` with changes; what is changed to Ellipsis is left out."""
    good = {
        "sub": sub,
        "exp": int(time.time()) + 86_400,
        "aud": "tasks",
        "iss": "https://id.example",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def good(sub: Any, kid: str = "new", key: str = SECRET, **changes: Any) -> str:
    """A token for `HS`."""
    return jwt.encode(claims(sub, **changes), key, "HS256", {"kid": kid})


def by_hand(header: dict[str, Any], payload: Any, key: str) -> str:
    """Signed by HMAC with a key that no library would take for it."""
    parts = [_segment(json.dumps(part).encode()) for part in (header, payload)]
    signature = hmac.new(key.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _segment(signature)])


def _segment(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


class Bad(NamedTuple):
    """A setting, and what makes a token that it refuses."""

    jwt: dict[str, Any]
    make: Callable[[User], str]


def _hs(**changes: Any) -> Bad:
    return Bad(HS, lambda user: good(changes.get("sub", str(user.pk)), **_without_sub(changes)))


def _without_sub(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if name != "sub"}


def _header(**header: Any) -> Bad:
    """Rightly signed, and with a header that is not."""
    full = {"alg": "HS256", "typ": "JWT", "kid": "new", **header}
    kept = {name: value for name, value in full.items() if value is not ...}
    return Bad(HS, lambda user: by_hand(kept, claims(str(user.pk)), SECRET))


def _payload(payload: Any) -> Bad:
    return Bad(HS, lambda user: by_hand({"alg": "HS256", "kid": "new"}, payload, SECRET))


def _deactivated(user: User) -> str:
    User.objects.filter(pk=user.pk).update(is_active=False)
    return good(str(user.pk))


def _deleted(user: User) -> str:
    token = good(str(user.pk))
    user.delete()
    return token


def _rs_claims(user: User) -> dict[str, Any]:
    return claims(str(user.pk), aud=..., iss=...)


NOW = int(time.time())
BAD: dict[str, Bad] = {
    "alg none": Bad(
        HS, lambda user: jwt.encode(claims(str(user.pk)), None, "none", {"kid": "new"})
    ),
    "alg none for RSA": Bad(RS, lambda user: jwt.encode(_rs_claims(user), None, "none")),
    "alg None": _header(alg="None"),
    "alg missing": _header(alg=...),
    "alg null": _header(alg=None),
    "alg a list": _header(alg=["HS256"]),
    "alg of the family, not listed": Bad(
        HS, lambda user: jwt.encode(claims(str(user.pk)), SECRET * 2, "HS512", {"kid": "new"})
    ),
    "HMAC with the RSA public key": Bad(
        RS, lambda user: by_hand({"alg": "HS256"}, _rs_claims(user), pem(RSA))
    ),
    "HMAC under the name of RS256": Bad(
        RS, lambda user: by_hand({"alg": "RS256"}, _rs_claims(user), pem(RSA))
    ),
    "another RSA key": Bad(RS, lambda user: jwt.encode(_rs_claims(user), OTHER_RSA, "RS256")),
    "its own key in the header": Bad(
        RS,
        lambda user: jwt.encode(
            _rs_claims(user), OTHER_RSA, "RS256", {"jwk": jwk(OTHER_RSA, "mine")}
        ),
    ),
    "another secret": Bad(HS, lambda user: good(str(user.pk), key=OTHER_SECRET)),
    "expired": _hs(exp=NOW - 60),
    "not yet valid": _hs(nbf=NOW + 3600),
    "issued in the future": _hs(iat=NOW + 3600),
    "no exp": _hs(exp=...),
    "exp null": _hs(exp=None),
    "exp text": _hs(exp="tomorrow"),
    "exp NaN": _hs(exp=float("nan")),
    "exp infinite": _hs(exp=float("inf")),
    "exp a list": _hs(exp=[NOW + 60]),
    "wrong aud": _hs(aud="others"),
    "no aud": _hs(aud=...),
    "aud an object": _hs(aud={"tasks": 1}),
    "an aud where none is configured": Bad(
        RS, lambda user: jwt.encode({**_rs_claims(user), "aud": "tasks"}, RSA, "RS256")
    ),
    "wrong iss": _hs(iss="https://evil.example"),
    "no iss": _hs(iss=...),
    "iss a list": Bad(
        HS,
        lambda user: by_hand(
            {"alg": "HS256", "kid": "new"}, claims(str(user.pk), iss=["https://id.example"]), SECRET
        ),
    ),
    "unknown kid": _header(kid="never heard of"),
    "missing kid": _header(kid=...),
    "kid null": _header(kid=None),
    "kid a list": _header(kid=["new"]),
    "kid of another key": _header(kid="old"),
    "critical extension": _header(crit=["exp2"], exp2=1),
    "detached payload": _header(crit=["b64"], b64=False),
    "huge": Bad(HS, lambda user: good(str(user.pk), filler="x" * 150_000)),
    "truncated": Bad(HS, lambda user: good(str(user.pk))[:-6]),
    "no signature": Bad(HS, lambda user: good(str(user.pk)).rpartition(".")[0]),
    "empty signature": Bad(HS, lambda user: good(str(user.pk)).rpartition(".")[0] + "."),
    "garbage": Bad(HS, lambda user: "no-token-at-all-but-some-garbage"),
    "three pieces of garbage": Bad(HS, lambda user: "garbageOne.garbageTwo.garbageThree"),
    "other characters": Bad(HS, lambda user: good(str(user.pk)) + "\u00e9"),
    "two tokens": Bad(HS, lambda user: f"{good(str(user.pk))} {good(str(user.pk))}"),
    "a list of tokens": Bad(HS, lambda user: f"{good(str(user.pk))},{good(str(user.pk))}"),
    "empty": Bad(HS, lambda user: ""),
    "payload a list": _payload(["sub", "1"]),
    "payload deep": _payload(json.loads("[" * 900 + "]" * 900)),
    "deactivated user": Bad(HS, _deactivated),
    "deleted user": Bad(HS, _deleted),
    "no user claim": _hs(sub=...),
    "user null": _hs(sub=None),
    "user true": _payload(claims(True)),
    "user a float": _payload(claims(1.0)),
    "user a list": _payload(claims(["1"])),
    "user an object": _payload(claims({"pk": 1})),
    "user a name": _hs(sub="ada"),
    "user empty": _hs(sub=""),
    "user huge": _hs(sub="9" * 3_000),
    "user a huge number": _payload(claims(10**40)),
    "user negative": _payload(claims(-1)),
    "user with NUL": _hs(sub="1\x00"),
    "user a surrogate": _hs(sub="\ud800"),
    "user written otherwise": Bad(HS, lambda user: good(f" 0{user.pk}")),
}  # fmt: skip

# What the log says of each.
ALGORITHM = "its algorithm is none of the setting's"
KID = "its key id is missing or unknown"
SIGNATURE = "its signature is wrong"
LACKS = "it lacks exp, or a claim that the setting asks for"
FORM = "it is empty, too long or malformed"
AUDIENCE = "it is for another audience"
ISSUER = "it is by another issuer"
IMMATURE = "it is not valid yet"
MALFORMED = "it is malformed"
NO_PK = "its claim is no primary key"
NO_USER = "its user does not exist"
WHY = {
    "alg none": ALGORITHM, "alg none for RSA": ALGORITHM, "alg None": ALGORITHM,
    "alg missing": ALGORITHM, "alg null": ALGORITHM, "alg a list": ALGORITHM,
    "alg of the family, not listed": ALGORITHM, "HMAC with the RSA public key": ALGORITHM,
    "HMAC under the name of RS256": SIGNATURE, "another RSA key": SIGNATURE,
    "its own key in the header": SIGNATURE, "another secret": SIGNATURE,
    "expired": "it has expired", "not yet valid": IMMATURE, "issued in the future": IMMATURE,
    "no exp": LACKS, "exp null": LACKS, "exp text": MALFORMED, "exp NaN": MALFORMED,
    "exp infinite": MALFORMED, "exp a list": MALFORMED,
    "wrong aud": AUDIENCE, "no aud": LACKS, "aud an object": AUDIENCE,
    "an aud where none is configured": AUDIENCE,
    "wrong iss": ISSUER, "no iss": LACKS, "iss a list": ISSUER,
    "unknown kid": KID, "missing kid": KID, "kid null": MALFORMED, "kid a list": MALFORMED,
    "kid of another key": SIGNATURE,
    "critical extension": MALFORMED, "detached payload": MALFORMED,
    "huge": FORM, "truncated": MALFORMED, "no signature": MALFORMED, "empty signature": SIGNATURE,
    "garbage": MALFORMED, "three pieces of garbage": MALFORMED, "other characters": FORM,
    "two tokens": FORM, "a list of tokens": FORM, "empty": FORM,
    "payload a list": MALFORMED, "payload deep": MALFORMED,
    "deactivated user": "its user is not active", "deleted user": NO_USER,
    "no user claim": "it lacks the claim that names the user",
    "user null": NO_PK, "user true": NO_PK, "user a float": NO_PK, "user a list": NO_PK,
    "user an object": NO_PK, "user a name": NO_PK, "user empty": NO_PK,
    "user huge": NO_USER, "user a huge number": NO_USER, "user negative": NO_USER,
    "user with NUL": NO_PK, "user a surrogate": NO_PK, "user written otherwise": NO_PK,
}  # fmt: skip
