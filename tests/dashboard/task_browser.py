"""A server on a test's database, a signed-in browser, and what tests of the pages ask it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By

from devservers.process import ROOT
from tests.support.server import Server, running_server
from tests.support.waiting import wait_for

APPS = {"ACCEPTANCE_APPS": "tests.projects.forms"}


@contextmanager
def serving(env: Mapping[str, str], **task_settings: Any) -> Iterator[Server]:
    """A server on that database, with the tasks of the forms, and the audit."""
    settings = {"audit_enabled": True, **task_settings}
    with running_server({**env, **APPS}, **settings) as server:
        yield server


def sign_in(browser: Any, server: Server, user: User) -> str:
    """Signs the user in; returns the URL of the list of tasks."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    root = f"http://127.0.0.1:{server.port}"
    browser.get(f"{root}/tasks/assets/icon.svg")
    browser.delete_all_cookies()
    browser.add_cookie({"name": "sessionid", "value": session.session_key, "path": "/"})
    return f"{root}/tasks/"


def shown(browser: Any, selector: str) -> Any:
    """Returns the first element of the selector, once it is shown."""

    def found() -> Any:
        with suppress(StaleElementReferenceException):  # the page has put another in its place
            for it in browser.find_elements(By.CSS_SELECTOR, selector):
                if it.is_displayed():
                    return it
        return None

    return wait_for(found, selector)


def click(browser: Any, selector: str) -> None:
    """Clicks the first element of the selector, once it is shown."""

    def clicked() -> bool:
        with suppress(StaleElementReferenceException):
            shown(browser, selector).click()
            return True
        return False

    wait_for(clicked, selector)


def text_of(browser: Any, selector: str) -> str:
    """Returns the text of the first such element; empty where there is none now."""
    script = "return document.querySelector(arguments[0])?.textContent ?? ''"
    return str(browser.execute_script(script, selector)).strip()


_RUN_AXE: Final = """
    const done = arguments[0];
    const shown = (it) => it.nodes.map((node) => `${it.id}: ${node.target} ${node.failureSummary}`);
    axe.run(document).then((found) => done(found.violations.flatMap(shown)));
"""


@cache
def _axe() -> str:
    return (ROOT / "tests/clients/node_modules/axe-core/axe.min.js").read_text()


def violations(browser: Any) -> list[str]:
    """Returns what axe-core finds wrong on the page, as `rule: selector`."""
    # By the debugger's protocol: the pages' own policy allows no such script.
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": _axe()})
    found = browser.execute_async_script(_RUN_AXE)
    return [str(it) for it in found]


def colours(browser: Any, scheme: str) -> None:
    """Sets the reader's colour scheme, `light` or `dark`."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def width(browser: Any, pixels: int | None) -> None:
    """Sets the width of the page in CSS pixels; None: the browser's own."""
    if pixels is None:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        return
    metrics = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def complaints(browser: Any) -> list[str]:
    """Returns what the browser logged since the last call: errors of scripts and of the policy.

    Not that an answer had the status of a refusal, nor the icon that it asks for by itself.
    """
    logged = [it["message"] for it in browser.get_log("browser") if it["level"] != "INFO"]
    return [it for it in logged if "responded with a status of" not in it]
