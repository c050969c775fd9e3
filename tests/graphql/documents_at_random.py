"""GraphQL documents and frames at random, made from a schema: mostly valid, and never twice alike.

A document is made by a `random.Random`: its seed makes it again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
)

TEXTS: Final = (
    "", " ", "x" * 300, "a\0b", "\ud83d", "\U0001f600", "null", "pending", "PENDING", "{", '"',
    "\\",
    "' OR 1=1 --", "%s%n", "$id", "01890a5d-ac96-774b-bcce-b302099a8057", "\u2028", "é", "../..",
)  # fmt: skip
NUMBERS: Final = (0, 1, -1, 2, 50, 500, 501, 2**31 - 1, 2**31, -(2**31), 2**53, 10**30, 1.5, 1e308)
ENDLESS: Final = 5  # levels, past which only leaves are asked for


class Documents:
    """Makes documents for a schema.

    Args:
        ids: ids of tasks that exist.
        left_out: fields that are never asked for: they break, or run for long.
    """

    def __init__(
        self, schema: GraphQLSchema, random_: random.Random, ids: list[str], left_out: set[str]
    ) -> None:
        self._schema, self._random = schema, random_
        self._ids, self._left_out = ids, left_out
        self._variables: dict[str, tuple[str, Any]] = {}
        self._fragments: dict[str, str] = {}

    def operation(self) -> dict[str, Any]:
        """The body of a request."""
        self._variables, self._fragments = {}, {}
        kind, root = self._root()
        selection = self._selection(root, 0, self._random.randint(1, 4))
        declared = ", ".join(f"${name}: {type_}" for name, (type_, _) in self._variables.items())
        head = f"{kind} Q{f'({declared})' if declared else ''}"
        text = " ".join([f"{head} {selection}", *self._fragments.values()])
        body: dict[str, Any] = {"query": self._spoilt(text)}
        if self._variables or self._chance(0.1):
            body["variables"] = {name: value for name, (_, value) in self._variables.items()}
        for name in ("operationName", "extensions", "variables"):
            if self._chance(0.02):
                body[name] = self._json()
        return body

    def _root(self) -> tuple[str, GraphQLObjectType]:
        schema = self._schema
        assert schema.query_type is not None
        assert schema.mutation_type is not None
        assert schema.subscription_type is not None
        return self._random.choice(
            [
                ("query", schema.query_type),
                ("query", schema.query_type),
                ("mutation", schema.mutation_type),
                ("subscription", schema.subscription_type),
            ]
        )

    def _selection(self, type_: GraphQLObjectType, level: int, count: int) -> str:
        parts = []
        for _ in range(count):
            if self._chance(0.08):
                parts.append(self._fragment(type_, level))
            elif self._chance(0.05):
                parts.append(self._random.choice(["__typename", "nowhere", "__schema { types }"]))
            else:
                parts.append(self._field(type_, level))
        return "{ " + (" ".join(it for it in parts if it) or "__typename") + " }"

    def _fragment(self, type_: GraphQLObjectType, level: int) -> str:
        if level > ENDLESS or self._chance(0.5):
            return f"... on {type_.name} {{ __typename }}"
        name = f"F{self._random.randint(0, 3)}"
        if name not in self._fragments:
            self._fragments[name] = ""  # a fragment may spread itself
            inner = self._selection(type_, level + 1, 2)
            self._fragments[name] = f"fragment {name} on {type_.name} {inner}"
        return f"...{name}"

    def _field(self, type_: GraphQLObjectType, level: int) -> str:
        leaves = level >= ENDLESS
        fields = [
            (name, field)
            for name, field in type_.fields.items()
            if name not in self._left_out and not (leaves and not is_leaf_type(named(field)))
        ]
        if not fields:
            return "__typename"
        name, field = self._random.choice(fields)
        alias = f"a{self._random.randint(0, 5)}: " if self._chance(0.3) else ""
        inner = named(field)
        deeper = ""
        if isinstance(inner, GraphQLObjectType) != self._chance(0.03):
            of = inner if isinstance(inner, GraphQLObjectType) else type_
            deeper = " " + self._selection(of, level + 1, self._random.randint(1, 4))
        return f"{alias}{name}{self._arguments(field)}{self._directive()}{deeper}"

    def _directive(self) -> str:
        if not self._chance(0.05):
            return ""
        name = self._random.choice(["skip", "include", "deprecated", "nowhere"])
        return f" @{name}(if: {self._random.choice(['true', 'false', '1', 'null'])})"

    def _arguments(self, field: GraphQLField) -> str:
        given = [
            f"{name}: {self._argument(argument)}"
            for name, argument in field.args.items()
            if self._chance(0.95 if isinstance(argument.type, GraphQLNonNull) else 0.4)
        ]
        if self._chance(0.03):
            given.append(f"more: {self._literal(self._json())}")
        return f"({', '.join(given)})" if given else ""

    def _argument(self, argument: GraphQLArgument) -> str:
        value = self._json() if self._chance(0.2) else self._value(argument.type)
        if self._chance(0.3):
            name = f"v{len(self._variables)}"
            self._variables[name] = (str(argument.type), value)
            return f"${name}"
        return self._literal(value, enum=isinstance(get_named_type(argument.type), GraphQLEnumType))

    def _value(self, type_: Any) -> Any:
        if isinstance(type_, GraphQLNonNull):
            return self._value(type_.of_type)
        if isinstance(type_, GraphQLList):
            return [self._value(type_.of_type) for _ in range(self._random.randint(0, 3))]
        if isinstance(type_, GraphQLInputObjectType):
            return {name: self._value(it.type) for name, it in type_.fields.items()}
        if isinstance(type_, GraphQLEnumType):
            return self._random.choice(list(type_.values))
        by_name: dict[str, Callable[[], Any]] = {
            "ID": lambda: self._random.choice([*self._ids, *TEXTS]),
            "Int": lambda: self._random.choice(NUMBERS[:9]),
            "Float": lambda: self._random.choice(NUMBERS),
            "Boolean": lambda: self._chance(0.5),
            "String": lambda: self._random.choice(TEXTS),
        }
        return by_name.get(type_.name, self._json)()

    def _json(self, level: int = 0) -> Any:
        kind = self._random.randrange(7 if level < 3 else 5)
        if kind < 5:
            some = (None, True, *NUMBERS, *TEXTS)
            return self._random.choice(some)
        count = range(self._random.randint(0, 3))
        if kind == 5:
            return [self._json(level + 1) for _ in count]
        return {f"k{number}": self._json(level + 1) for number in count}

    def _literal(self, value: Any, *, enum: bool = False) -> str:
        if isinstance(value, dict):
            return (
                "{" + ", ".join(f"{name}: {self._literal(it)}" for name, it in value.items()) + "}"
            )
        if isinstance(value, list):
            return "[" + ", ".join(map(self._literal, value)) + "]"
        if isinstance(value, str) and enum and value.isidentifier():
            return value
        return json.dumps(value, ensure_ascii=self._chance(0.5))

    def _spoilt(self, text: str) -> str:
        """The text, now and then with a mistake of a keyboard."""
        if not self._chance(0.08):
            return text
        place = self._random.randrange(len(text))
        more = self._random.choice(["", "{", "}", '"', "$", "#", "...", "\0", "\ufeff", "😀"])
        return text[:place] + more + text[place + self._random.randint(0, 3) :]

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    # --- WebSocket frames ------------------------------------------------------------------------

    def frame(self) -> str | bytes:
        """What a client of the protocol could send, or could not."""
        kind = self._random.randrange(25)
        if kind == 0:
            return self._random.randbytes(self._random.randint(0, 50))
        if kind == 1:
            return json.dumps(self._json())
        types = (
            "subscribe",
            "complete",
            "ping",
            "pong",
            "connection_init",
            "next",
            "start",
            7,
            None,
        )
        message = {
            "type": self._random.choice(types) if self._chance(0.6) else "subscribe",
            "id": self._random.choice(["1", "2", "3", "", 1, [], None])
            if self._chance(0.2)
            else "1",
            "payload": self.operation() if self._chance(0.95) else self._json(),
        }
        for name in list(message):
            if self._chance(0.02):
                del message[name]
        return self._spoilt(json.dumps(message))


def named(field: GraphQLField) -> Any:
    return get_named_type(field.type)
