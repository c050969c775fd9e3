"""The tenant of a request, by a cookie: the same over every transport."""

from __future__ import annotations

from django.http import HttpRequest


def tenant_of_cookie(request: HttpRequest) -> str | None:
    """Return the tenant in the cookie `tenant`; None without one."""
    return request.COOKIES.get("tenant")
