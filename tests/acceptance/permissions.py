"""Who may do what: the matrix that `test_permissions.py` holds every edge to.

    python -m tests.acceptance.permissions           fails if the page is out of date
    python -m tests.acceptance.permissions --write   writes its tables

A table of docs/permissions.md stands between `<!-- permissions: TARGET -->` and
`<!-- end of permissions -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "permissions.md"

# As the rows of the page say it.
PRINCIPALS: Final = {
    "anonymous": "no credential",
    "owner": "the owner, in the task's tenant",
    "other": "another user of the tenant",
    "other tenant": "the owner, in another tenant",
    "staff without": "staff without a right",
    "viewer": "staff with `view_taskexecution`",
    "staff with": "staff with `view_taskexecution` and `change_taskexecution`",
    "changer": "staff with `change_taskexecution` alone",
    "rights without staff": "both rights, not staff",
    "superuser": "a superuser",
    "former staff": "former staff: both rights, the flag withdrawn",
    "former superuser": "a former superuser",
    "deactivated": "a former user: inactive, with an old session",
}
OPERATIONS: Final = {
    "read": "read",
    "watch": "watch",
    "list": "in the list",
    "cancel": "cancel",
    "retry": "retry",
}

_ALL: Final = frozenset(OPERATIONS)
_SEES_ALL: Final = frozenset({"read", "watch", "list"})
_BY_ID: Final = frozenset({"read", "watch", "cancel", "retry"})
_NOTHING: Final[frozenset[str]] = frozenset()

# By target, what each principal may do. Who is not named may do nothing.
ALLOWED: Final[dict[str, dict[str, frozenset[str]]]] = {
    "owned": {
        "owner": _ALL,
        "viewer": _SEES_ALL,
        "staff with": _ALL,
        "superuser": _ALL,
    },
    "by_id": {
        **dict.fromkeys(PRINCIPALS, _BY_ID),
        "viewer": _ALL,
        "staff with": _ALL,
        "superuser": _ALL,
    },
    "deny": {
        "viewer": _SEES_ALL,
        "staff with": _ALL,
        "superuser": _ALL,
    },
}


def may(principal: str, operation: str, target: str) -> bool:
    """Whether the principal may do that to a task of this kind."""
    return operation in ALLOWED[target].get(principal, _NOTHING)


_TABLE: Final = re.compile(
    r"(?P<begin><!-- permissions: (?P<target>\w+) -->\n).*?(?P<end><!-- end of permissions -->)",
    re.DOTALL,
)


def rendered(page: str) -> str:
    """Returns the page with its tables as this module has them."""
    return _TABLE.sub(lambda it: it["begin"] + _table(it["target"]) + it["end"], page)


def targets(page: str) -> list[str]:
    """Returns the targets whose tables the page has, in its order."""
    return [found["target"] for found in _TABLE.finditer(page)]


def _table(target: str) -> str:
    head = f"| who | {' | '.join(OPERATIONS.values())} |\n|---{'|---' * len(OPERATIONS)}|\n"
    rows = (
        [words, *("yes" if may(who, it, target) else "no" for it in OPERATIONS)]
        for who, words in PRINCIPALS.items()
    )
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(arguments: Sequence[str]) -> None:
    """Writes the page, or ends with exit code 1 where a table is out of date."""
    text = PAGE.read_text()
    new = rendered(text)
    if "--write" in arguments:
        PAGE.write_text(new)
    elif new != text:
        sys.exit(f"{PAGE} is out of date: python -m tests.acceptance.permissions --write")


if __name__ == "__main__":
    main(sys.argv[1:])
