"""Encodes and decodes the arguments of a task, by the signature of its function.

An enqueue stores `codec.encode(values)` in the row; the process that runs the task calls the
function with `codec.decode(raw)`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from strawberry import UNSET

from rail_async_tasks.codec.annotations import Builder
from rail_async_tasks.codec.converters import Field
from rail_async_tasks.codec.json_values import Mismatch, dumps, require_shallow
from rail_async_tasks.codec.references import Pending, Unsupported
from rail_async_tasks.errors import InvalidArguments, TaskDeclarationError

MISSING: Final = dataclasses.MISSING

_loads: Final = msgspec.json.Decoder().decode
_ROOTS: Final = ("root", "self")
_RESERVED: Final = frozenset({*_ROOTS, "info"})


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a task. `annotation` is as written, a string where it was one; `default` is
    the function's own, or `MISSING`."""

    name: str
    annotation: Any
    default: Any
    required: bool


class ArgumentsCodec:
    """Codec of a function's arguments, without a leading `(root, info)` or `(info)`.

    `task` is the name for error messages. Raises `TaskDeclarationError` for a signature or an
    annotation that has no JSON form. `resolve()`, or the first use, reads the annotations again
    whose names were not defined yet.
    """

    def __init__(self, function: Callable[..., Any], *, task: str) -> None:
        self._task = task
        # Messages have no keys of these arguments; `define` sets it.
        self.sensitive: frozenset[str] = frozenset()
        self._function = function
        self._fields: tuple[Field, ...] | None = None
        self._recursive = False
        leading, arguments = self._split(inspect.signature(function))
        self.takes_root = any(parameter.name in _ROOTS for parameter in leading)
        self.takes_info = any(parameter.name == "info" for parameter in leading)
        self.parameters = tuple(self._parameter(argument) for argument in arguments)
        self._by_position = tuple(
            it.name for it in arguments if it.kind is it.POSITIONAL_OR_KEYWORD
        )
        self._build(final=False)

    def resolve(self) -> None:
        """Reads annotations that were not defined before. Raises `TaskDeclarationError`."""
        if self._fields is None:
            self._build(final=True)

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arguments of a call by name, as the function would take them.

        Raises `InvalidArguments` for one that is given twice, and for too many.
        """
        names = self._by_position
        if len(args) > len(names):
            shown = f" ({', '.join(names)})" if names else ""
            raise InvalidArguments(
                f"Task {self._task!r} takes {len(names)} arguments by position{shown}, not"
                f" {len(args)}; leave root and info out."
            )
        given = dict(zip(names, args, strict=False))
        for name in kwargs:
            if name in given:
                raise InvalidArguments(
                    f"Argument {name!r} of task {self._task!r} is given twice: by position and by"
                    " name."
                )
        return {**given, **kwargs}

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """Returns canonical JSON: compact, keys sorted, without omitted or `UNSET` arguments.

        Raises `InvalidArguments` that names the argument, or the place inside it.
        """
        done: dict[str, Any] = {}
        fields = self._fields
        if fields is None:
            fields = self._ready()
        try:
            for name, to_json, _, absent, required, _ in fields:
                value = values.get(name, UNSET)
                if value is UNSET or value is absent:
                    if required:
                        self._refuse_unknown(values)  # which is what a misspelt name looks like
                        raise self._required(name)
                    continue
                try:
                    done[name] = to_json(value)
                except Mismatch as mismatch:
                    self._place(mismatch, name)
                    raise
            if len(done) != len(values):
                self._refuse_unknown(values)
            if self._recursive:
                require_shallow(done)
            return dumps(done)
        except Mismatch as mismatch:
            raise _invalid(mismatch) from mismatch.__cause__
        except RecursionError:
            raise InvalidArguments("The arguments are nested too deeply.") from None

    def decode(self, raw: bytes | str) -> dict[str, Any]:
        """Returns the Python values of what `encode` wrote; omitted arguments are absent.

        Raises `InvalidArguments` if it does not fit the signature, which may have changed since.
        """
        done: dict[str, Any] = {}
        fields = self._fields
        if fields is None:
            fields = self._ready()
        try:
            found = _loads(raw)
            if type(found) is not dict:
                raise InvalidArguments("The stored arguments are not a JSON object.")
            for name, _, from_json, _, required, none_when_absent in fields:
                if name in found:
                    try:
                        done[name] = from_json(found[name])
                    except Mismatch as mismatch:
                        self._place(mismatch, name)
                        raise
                elif required:
                    raise self._required(name)
                elif none_when_absent:
                    done[name] = None
        except Mismatch as mismatch:
            raise _invalid(mismatch) from mismatch.__cause__
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise InvalidArguments("The stored arguments are not JSON.") from None
        except RecursionError:
            raise InvalidArguments("The stored arguments are nested too deeply.") from None
        if len(done) != len(found):
            self._refuse_unknown(found)
        return done

    def decode_each(self, found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Returns the Python values of JSON values, and the mistakes, both by argument.

        For a form, which shows each mistake beside its field: `"[2].price: expected an int, got
        str"`. Values without a mistake can be encoded again.
        """
        done: dict[str, Any] = {}
        mistakes: dict[str, str] = {}
        fields = self._fields or self._ready()
        for name, to_json, from_json, _, required, none_when_absent in fields:
            if name not in found:
                if required:
                    mistakes[name] = "is required"
                elif none_when_absent:
                    done[name] = None
                continue
            try:
                require_shallow(found[name])
                value = from_json(found[name])
                dumps(to_json(value))
            except Mismatch as mismatch:
                place = mismatch.path.lstrip(".")
                mistakes[name] = f"{place}: {mismatch.reason}" if place else mismatch.reason
            else:
                done[name] = value
        for name in found:
            if name not in done and name not in mistakes:
                mistakes[name] = f"task {self._task!r} has no such argument"
        return done, mistakes

    def _ready(self) -> tuple[Field, ...]:
        self.resolve()
        return self._fields or ()

    def _build(self, *, final: bool) -> None:
        builder = Builder(may_import=final)
        namespace = inspect.unwrap(self._function).__globals__
        fields: list[Field] = []
        for p in self.parameters:
            has_default = p.default is not MISSING
            try:
                field = builder.field(p.name, p.annotation, namespace, has_default=has_default)
            except Unsupported as unsupported:
                raise self._wrong(p.name, str(unsupported)) from None
            except Pending as pending:
                if final:
                    raise self._wrong(p.name, f"unknown type: {pending}") from pending.__cause__
                continue
            fields.append(field)
        # A Maybe shows only now: a parameter that is required by its looks may be left out.
        required = {field.name: field.required for field in fields}
        self.parameters = tuple(
            dataclasses.replace(p, required=required.get(p.name, p.required))
            for p in self.parameters
        )
        if len(fields) == len(self.parameters):
            self._recursive = builder.recursive
            self._fields = tuple(fields)

    def _split(
        self, signature: inspect.Signature
    ) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
        """Splits the parameters into leading root and info, and the arguments."""
        parameters = list(signature.parameters.values())
        names = [parameter.name for parameter in parameters]
        if names[:1] == ["info"]:
            leading = 1
        elif names and names[0] in _ROOTS:
            if names[1:2] != ["info"]:
                remedy = "write (root, info, ...), or give it another name"
                if names[0] == "self":
                    remedy = "write (info, ...): a body has its task in info.context.task"
                raise self._wrong(names[0], remedy)
            leading = 2
        else:
            leading = 0
        for parameter in parameters[:leading]:
            if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
                raise self._wrong(parameter.name, "write it as a plain leading parameter")
        return parameters[:leading], parameters[leading:]

    def _parameter(self, parameter: inspect.Parameter) -> Parameter:
        name, kind = parameter.name, parameter.kind
        if kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if kind is parameter.VAR_POSITIONAL else "**"
            raise self._wrong(f"{stars}{name}", "name each argument, with its type")
        if kind is parameter.POSITIONAL_ONLY:
            raise self._wrong(name, "is positional-only; arguments are passed by name, drop the /")
        if name in _RESERVED:
            raise self._wrong(name, "the name is reserved; put root and info first, or rename it")
        if parameter.annotation is inspect.Parameter.empty:
            raise self._wrong(name, f'has no type; write one, such as "{name}: str"')
        default = MISSING if parameter.default is parameter.empty else parameter.default
        return Parameter(name, parameter.annotation, default, default is MISSING)

    def _wrong(self, parameter: str, what: str) -> TaskDeclarationError:
        function = self._function
        return TaskDeclarationError(
            f"Task {self._task!r} ({function.__module__}.{function.__qualname__}), "
            f"parameter {parameter!r}: {what}."
        )

    def _place(self, mismatch: Mismatch, name: str) -> None:
        """Adds the argument to the path; that of a sensitive one may have had a key of it."""
        if name in self.sensitive:
            mismatch.path = ""
        mismatch.prefix(f".{name}")

    def _required(self, name: str) -> InvalidArguments:
        return InvalidArguments(f"Argument {name!r} of task {self._task!r} is required.")

    def _refuse_unknown(self, names: Iterable[str]) -> None:
        known = [parameter.name for parameter in self.parameters]
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                hint = f"; did you mean {close[0]!r}" if close else ""
                raise InvalidArguments(f"Task {self._task!r} has no argument {name!r}{hint}.")


def _invalid(mismatch: Mismatch) -> InvalidArguments:
    return InvalidArguments(f"Argument {mismatch.path.lstrip('.')}: {mismatch.reason}.")
