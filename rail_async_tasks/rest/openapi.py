"""Builds the OpenAPI 3.1 document from the tables that the views use."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any, Final

import msgspec
from django.http import HttpRequest, HttpResponse
from django.utils.encoding import escape_uri_path
from django.views.decorators.http import condition

from rail_async_tasks.own_views import own_view
from rail_async_tasks.rest.endpoint import READ, ROOT, public_path
from rail_async_tasks.rest.events import MEDIA_TYPE
from rail_async_tasks.rest.refusals import ANSWERS, MethodNotAllowed, refused
from rail_async_tasks.rest.render import FIELDS
from rail_async_tasks.rest.routes import ROUTES, Route

# Of the API, not of the package: it changes with incompatible changes.
VERSION: Final = "1"
PATH: Final = "api/v1/openapi.json"
MAX_AGE: Final = 3600  # seconds

Json = dict[str, Any]

_SECONDS: Final = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds."}
_HEADERS: Final[dict[int, Json]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: {"Retry-After": _SECONDS},
    503: {"Retry-After": _SECONDS},
}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def document(prefix: str = "") -> Json:
    """Returns the document of an API at `prefix`, a path without its last slash."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tasks", "version": VERSION},
        "servers": [{"url": prefix or "/"}],
        "security": [{"bearer": []}, {"session": []}, {}],
        "paths": _paths(),
        "components": {"schemas": _schemas(), "securitySchemes": _security_schemes()},
    }


def _paths() -> Json:
    paths: Json = defaultdict(dict)
    for route in ROUTES:
        url = "/" + (ROOT + route.path).replace("<str:task_id>", "{id}")
        paths[url][route.method] = _operation(route)
    return dict(paths)


def _operation(route: Route) -> Json:
    operation: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": {str(route.status): _success(route), **_refusals(route)},
    }
    if route.method == "post":
        operation["description"] = (
            "The body is empty, or an empty JSON object. With the session as credential, the "
            "header X-CSRFToken carries the CSRF token."
        )
    return operation


def _parameters(route: Route) -> list[Json]:
    found: list[Json] = [
        {"name": name, "in": "query", "schema": schema} for name, schema in route.parameters.items()
    ]
    if "task_id" in route.path:
        # Without the format UUID: any other text is answered like a missing task.
        found.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    if route.answer == "events":
        last = {"type": "string", "pattern": r"^\d+\.\d+$"}
        text = "The id of the last event seen; only what is newer is sent, and the final event."
        found.append({"name": "Last-Event-ID", "in": "header", "schema": last, "description": text})
    return found


def _success(route: Route) -> Json:
    if route.answer == "events":
        text = (
            "Events named `task`, whose `id` is `<seq>.<step>` and whose `data` is a Task as JSON "
            "on one line. The stream ends after the final one; one that ends sooner is to be "
            "opened again."
        )
        return {"description": text, "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
    answer: Json = {
        "description": "The new task." if route.status == 201 else "As it stands now.",
        "content": {"application/json": {"schema": _ref(route.answer)}},
    }
    if route.status == 201:
        answer["headers"] = {"Location": {"schema": {"type": "string", "format": "uri-reference"}}}
    return answer


def _refusals(route: Route) -> Json:
    codes: dict[int, list[str]] = defaultdict(list)
    for code in route.all_codes:
        codes[ANSWERS[code].status].append(code)
    return {str(status): _refused_with(status, codes[status]) for status in sorted(codes)}


def _refused_with(status: int, codes: list[str]) -> Json:
    these = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    answer: Json = {
        "description": " ".join(f"`{code}`: {ANSWERS[code].when}" for code in codes),
        "content": {"application/json": {"schema": {"allOf": [_ref("Error"), these]}}},
    }
    if status in _HEADERS:
        answer["headers"] = _HEADERS[status]
    return answer


def _schemas() -> Json:
    error = _object({"code": {"type": "string", "enum": list(ANSWERS)},
                     "message": {"type": "string"}})  # fmt: skip
    page = _object(
        {
            "results": {"type": "array", "items": _ref("Task")},
            "next": {
                "type": ["string", "null"],
                "format": "uuid",
                "description": "What `after` takes for the next page; null on the last one.",
            },
        }
    )
    return {"Task": _object(FIELDS), "TaskPage": page, "Error": _object({"error": error})}


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _security_schemes() -> Json:
    return {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "Django's session, under the name of the project's SESSION_COOKIE_NAME.",
        },
    }


@lru_cache(maxsize=16)  # prefixes may be a project's tenants
def _encoded(prefix: str) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document(prefix)), indent=1)


def _prefix(request: HttpRequest) -> str:
    return escape_uri_path(public_path(request).removesuffix(PATH).rstrip("/"))


def _etag(request: HttpRequest, **_: Any) -> str:
    return f'"{sha256(_encoded(_prefix(request))).hexdigest()[:16]}"'


@partial(own_view, same_for_all=True)
@condition(etag_func=_etag)
async def openapi(request: HttpRequest, **_: Any) -> HttpResponse:
    """Serves the document without authentication: it has no data of tasks."""
    if request.method not in READ:
        return refused(MethodNotAllowed(READ))
    response = HttpResponse(_encoded(_prefix(request)), content_type="application/json")
    response["Cache-Control"] = f"public, max-age={MAX_AGE}"
    return response
