"""A page in the browser, as the tests of our element see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.server import Server

T = TypeVar("T")

# Notes what the elements report, and every socket; before the first element is made.
_NOTE = """
window.seen = [];
for (const name of ["update", "end", "error"]) {
  addEventListener(`rail-task-${name}`, ({ target, detail: { status, code, progress } }) => {
    seen.push({ name, bar: target.dataset.bar, status, code, progress });
  });
}
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...args) { super(...args); sockets.push(this); }
};
"""

_ADD = """
const bar = document.createElement("rail-task");
for (const [name, value] of Object.entries(arguments[0])) bar.setAttribute(name, value);
document.querySelector("main").append(bar);
"""

# What a reader sees of one bar, and what a screen reader is given.
_LOOK = """
const bar = document.querySelector(`[data-bar="${arguments[0]}"]`);
const root = bar.shadowRoot;
if (!root) return null;
const part = (name) => root.querySelector(`[part=${name}]`);
return {
  state: bar.getAttribute("status"), label: part("label").textContent,
  status: part("status").textContent, percent: part("percent").textContent,
  now: part("bar").getAttribute("aria-valuenow"), text: part("bar").getAttribute("aria-valuetext"),
  role: part("bar").getAttribute("role"), name: part("bar").getAttribute("aria-label"),
  hidden: part("bar").hidden, announced: root.querySelector("[role=status]").textContent,
};
"""

_REQUEST = """
const [document_, variables, done] = arguments;
import("/static/rail_async_tasks/task.js")
  .then(({ request }) => request(document_, variables)).then(done, (error) => done(String(error)));
"""

CLIMB = (
    "mutation($steps: Int!, $pause: Float!) { it: climb(steps: $steps, pause: $pause) { taskId } }"
)
FALL = "mutation { it: fall { taskId } }"
SURVIVE = "mutation { it: survive { taskId } }"
CANCEL = "mutation($id: ID!) { it: cancelTask(id: $id) { id } }"


# A computed property of a part of the first bar.
_STYLE = """
const { shadowRoot } = document.querySelector("rail-task");
return getComputedStyle(shadowRoot.querySelector(`[part=${arguments[0]}]`))[arguments[1]];
"""


class Tab:
    """The page `/shell/` with elements that a test adds, as a user who is logged in."""

    def __init__(self, browser: Chrome, server: Server, user: str = "ada") -> None:
        self.browser = browser
        self.base = f"http://127.0.0.1:{server.port}"
        browser.get(f"{self.base}/as/{user}/")
        browser.get_log("browser")
        self.open("/shell/")
        self.run(_NOTE)

    def open(self, path: str) -> None:
        self.browser.get(f"{self.base}{path}")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def wait(self, what: str, condition: Callable[[], T], seconds: float = 60) -> T:
        """Returns the condition's value once it is true."""
        waiting = WebDriverWait(self.browser, seconds, poll_frequency=0.03)
        return waiting.until(lambda _: condition(), f"waited {seconds} s for {what}")

    def request(self, document: str, **variables: Any) -> str:
        """Sends a mutation from the page; returns the id in its field `it`."""
        data = self.browser.execute_async_script(_REQUEST, document, variables)
        assert isinstance(data, dict), data
        return str(data["it"].get("taskId") or data["it"]["id"])

    def configure(self, options: str) -> None:
        """Calls `configure` of our module with this JavaScript."""
        self.browser.execute_async_script(
            "const done = arguments[0]; import('/static/rail_async_tasks/task.js')"
            f".then((it) => {{ it.configure({options}); done(); }})"
        )

    def climb(self, steps: int = 20, pause: float = 0.3) -> str:
        """Starts a task that reports progress step by step, for 6 s; returns its id."""
        return self.request(CLIMB, steps=steps, pause=pause)

    def add(self, bar: str, **attributes: str) -> None:
        """Adds an element; `_` in names is `-`."""
        named = {name.replace("_", "-"): value for name, value in attributes.items()}
        self.run(_ADD, {"data-bar": bar, **named})

    def look(self, bar: str) -> dict[str, Any]:
        found: dict[str, Any] = self.run(_LOOK, bar) or {}
        return found

    def seen(self, bar: str, name: str | None = None) -> list[dict[str, Any]]:
        """Returns the events of a bar, or those of one name."""
        events = self.run("return seen")
        return [it for it in events if it["bar"] == bar and name in (None, it["name"])]

    def until(self, bar: str, state: str, seconds: float = 60) -> dict[str, Any]:
        """Returns the bar once it is in that state."""

        def there() -> dict[str, Any] | None:
            look = self.look(bar)
            return look if look.get("state") == state else None

        return self.wait(f"{bar} to be {state}", there, seconds)

    def style(self, part: str, name: str) -> str:
        """Returns a computed property of a part of the first bar."""
        return str(self.run(_STYLE, part, name))

    def sockets(self) -> list[int]:
        """Returns the `readyState` of every socket."""
        states: list[int] = self.run("return sockets.map((it) => it.readyState)")
        return states

    def complaints(self) -> list[str]:
        """Returns the lines of the browser's console, which then forgets them."""
        return [entry["message"] for entry in self.browser.get_log("browser")]
