"""The schema: what it says, how extensions get into it, and that wrong ones break nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from strawberry.types.base import StrawberryObjectDefinition

from rail_async_tasks import ConfigurationError
from rail_async_tasks.graphql.schema import build_schema, get_schema
from tests.projects import shop
from tests.support.api import Configure

BASE = """
scalar DateTime

scalar JSON

type Mutation {
  cancelTask(id: ID!): TaskExecution
  retryTask(id: ID!): TaskMutationPayload
}

type Query {
  task(id: ID!): TaskExecution
  tasks(status: String, name: String, queue: String, limit: Int = 50, after: ID): [TaskExecution!]!
}

type Subscription {
  taskProgress(taskId: ID!): TaskExecution!
  taskUpdated(taskId: ID!): TaskExecution!
  myTaskUpdates: TaskExecution!
}

type TaskExecution {
  id: ID!
  name: String!
  status: String!
  progress: Int!
  progressMessage: String
  result: JSON
  error: String
  errorCode: String
  errorType: String
  queue: String!
  priority: Int!
  cancelRequested: Boolean!
  attempts: Int!
  retryCount: Int!
  maxRetries: Int!
  ownerId: ID
  parentId: ID
  seq: Int!
  step: Int!
  createdAt: DateTime!
  runAfter: DateTime
  startedAt: DateTime
  completedAt: DateTime
  expiresAt: DateTime
  updatedAt: DateTime!
  traceback: String
}

type TaskMutationPayload {
  taskId: ID!
  status: String!
  task: TaskExecution!
  error: String
}
"""


def bare(sdl: str) -> str:
    """SDL without descriptions, applied directives and blank lines."""
    sdl = re.sub(r' *"""[^"]*"""\n', "", sdl)
    sdl = re.sub(r" @specifiedBy\([^)]*\)", "", sdl)
    return "\n".join(line for line in sdl.splitlines() if line.strip())


def test_the_base_types(settings: Any) -> None:
    """Without settings the schema is this, to the letter; clients are written against it."""
    settings.RAIL_DJANGO_GRAPHQL = {}
    assert bare(str(get_schema())) == bare(BASE)


def test_every_extension_is_merged(configure: Configure) -> None:
    """Types of all three settings are in, beside the base fields; one task by three names."""
    configure()
    sdl = bare(str(get_schema()))
    for line in (
        "  shelves: Int!",
        "  task(id: ID!): TaskExecution",
        "  add(a: Int!, b: Int! = 2): TaskMutationPayload",
        "  plus(a: Int!, b: Int! = 2): TaskMutationPayload",
        "  addAgain(a: Int!, b: Int! = 2): TaskMutationPayload",
        "  pack(box: Box!, size: Size! = SMALL, order: UUID = null): TaskMutationPayload",
        "  fall: TaskMutationPayload",
        "  cancelTask(id: ID!): TaskExecution",
        "  brokenStream: Int!",
        "  myTaskUpdates: TaskExecution!",
    ):
        assert line in sdl.splitlines()


def test_the_schema_is_built_once_and_follows_the_settings(configure: Configure) -> None:
    """The same object until the settings change."""
    configure()
    first = get_schema()
    assert get_schema() is first
    configure(max_retries=1)
    assert get_schema() is not first


WRONG = [
    ("mutation_extensions", "tests.projects.shop.Missing", "cannot be imported"),
    ("mutation_extensions", "no_such_module.Type", "cannot be imported"),
    (
        "query_extensions",
        "tests.projects.shop.not_a_type",
        "not a type made by @strawberry.type",
    ),
    ("query_extensions", "tests.projects.shop.Size", "not a type made by @strawberry.type"),
    ("query_extensions", "tests.projects.shop.Clash", "the field 'tasks' is declared by"),
    (
        "query_extensions",
        "tests.projects.shop.Renamed",
        "'brokenGlass' is declared by",
    ),
]


@pytest.mark.parametrize(("setting", "path", "message"), WRONG)
def test_a_wrong_extension_is_refused(settings: Any, setting: str, path: str, message: str) -> None:
    """The error names the setting and says what is wrong; it comes with use, not with an import."""
    paths = ["tests.projects.shop.Queries", path] if setting == "query_extensions" else [path]
    settings.RAIL_DJANGO_GRAPHQL = {"schema_settings": {setting: paths}}
    with pytest.raises(ConfigurationError) as caught:
        build_schema()
    assert setting in str(caught.value)
    assert message in str(caught.value)


def test_importing_the_edge_never_raises() -> None:
    """With every setting wrong, URLs, ASGI and schema still import; only use is refused."""
    code = (
        "from rail_async_tasks import asgi\n"
        "asgi.get_asgi_application()\n"
        "import rail_async_tasks.urls\n"
        "from rail_async_tasks import ConfigurationError\n"
        "from rail_async_tasks.graphql.schema import get_schema\n"
        "try: get_schema()\n"
        "except ConfigurationError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.graphql.wrong_settings"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")


def definition(type_: Any) -> StrawberryObjectDefinition:
    found: StrawberryObjectDefinition = type_.__strawberry_definition__
    return found


def test_merging_leaves_the_merged_types_alone(configure: Configure) -> None:
    """Building twice, and using a type elsewhere, gives the same fields each time."""
    before = [field.python_name for field in definition(shop.TaskMutations).fields]
    configure()
    first, second = str(build_schema()), str(build_schema())
    assert first == second
    assert [field.python_name for field in definition(shop.TaskMutations).fields] == before
