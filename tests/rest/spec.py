"""Holds real responses to the OpenAPI document."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from rail_async_tasks.rest.openapi import MEDIA_TYPE, document
from rail_async_tasks.rest.render import FIELDS

DOCUMENT = document()
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def conform(method: str, path: str, response: Any) -> None:
    """Assert that the document foresees this response: its status, media type, headers and body.

    `response` is Django's or httpx's. What no operation is for (405, an unknown URL) is an Error.
    """
    foreseen = _foreseen(method.lower(), path.partition("?")[0], response.status_code)
    media_type = response.headers["Content-Type"].partition(";")[0]
    assert media_type in foreseen["content"], response.content
    assert set(foreseen.get("headers", ())) <= set(_title_case(response.headers))
    if media_type != MEDIA_TYPE and method != "HEAD":
        check(foreseen["content"][media_type]["schema"], response.json())


def check(schema: dict[str, Any], body: Any) -> None:
    """Assert that a body is as the schema has it, and that its tasks have every field, no other."""
    _validator(json.dumps(schema)).validate(body)
    for task in body.get("results", [body] if "id" in body else []):
        check_task(task)
    if not body.keys() & {"results", "id"}:
        assert list(body) == ["error"]
        assert list(body["error"]) == ["code", "message"]


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": DOCUMENT["components"]})


def check_task(task: dict[str, Any]) -> None:
    """Every field, no other, in order; times in UTC."""
    assert list(task) == list(FIELDS)
    times = [task[name] for name in FIELDS if name.endswith("_at") or name == "run_after"]
    assert [it for it in times if it is not None and not TIME.fullmatch(it)] == []


def _foreseen(method: str, path: str, status: int) -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    for template, operations in DOCUMENT["paths"].items():
        pattern = re.escape(template.rstrip("/")).replace(r"\{id\}", "[^/]+") + "/?"
        if not re.fullmatch(pattern, path):
            continue
        operation = operations.get("get" if method == "head" else method)
        if operation is None:
            assert status in (405, 401)
            return error
        found: dict[str, Any] = operation["responses"][str(status)]
        return found
    assert status in (404, 401, 400)
    return error


def _title_case(headers: Any) -> set[str]:
    return {
        "WWW-Authenticate" if it.lower() == "www-authenticate" else it.title() for it in headers
    }
