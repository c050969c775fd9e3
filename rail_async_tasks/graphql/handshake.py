"""Refuses WebSocket handshakes of foreign pages, which would use our cookies.

Browsers do not apply their same-origin rule to WebSockets, so the server has to.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.request import validate_host
from django.utils.http import is_same_domain
from strawberry.http.websocket_origin import is_same_origin

# What Django allows where DEBUG is on and ALLOWED_HOSTS is empty.
_LOCAL: Final = [".localhost", "127.0.0.1", "[::1]"]


def handshake_problem(request: HttpRequest) -> str | None:
    """Returns the reason to refuse a handshake, or None.

    Without a Host or an Origin header it was not sent by a browser's page.
    """
    host = None
    if "host" in request.headers:
        try:
            host = request.get_host()
        except DisallowedHost as error:
            return str(error)
    origin = request.headers.get("origin")
    if origin is None or is_same_origin(origin, host) or origin_is_trusted(origin, host):
        return None
    return (
        f"A page of {origin!r:.200} may not open a WebSocket here. "
        "If it should, add it to CSRF_TRUSTED_ORIGINS."
    )


def origin_is_trusted(origin: str, host: str | None) -> bool:
    """Returns whether the origin is one of ALLOWED_HOSTS or of CSRF_TRUSTED_ORIGINS.

    ALLOWED_HOSTS has names without ports. They stand for the ports of http and https, and for the
    port of this request: another port may be another service, with other authors.
    """
    try:
        parts = urlsplit(origin)
        hostname, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not hostname:
        return False
    # A lone "*" says that the proxy in front checks the Host header; it names no origin.
    hosts = [name for name in settings.ALLOWED_HOSTS if name != "*"]
    ours = port is None or port == _port_of(host)
    if settings.DEBUG and not settings.ALLOWED_HOSTS:
        hosts, ours = _LOCAL, True  # a front end's development server has a port of its own
    name = f"[{hostname}]" if ":" in hostname else hostname
    return (ours and validate_host(name, hosts)) or any(
        _matches(parts.scheme, parts.netloc, trusted) for trusted in settings.CSRF_TRUSTED_ORIGINS
    )


def _port_of(host: str | None) -> int | None:
    """Returns the port in a Host header that Django has accepted."""
    return urlsplit(f"//{host or ''}").port


def _matches(scheme: str, netloc: str, trusted: str) -> bool:
    pattern = urlsplit(trusted)
    return scheme == pattern.scheme and is_same_domain(netloc, pattern.netloc.lstrip("*"))
