"""Options from plain values, as read from YAML or JSON; the message of an error names the file and the key."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from mmvm_data.core.errors import InputError
from mmvm_data.core.options import option_error

T = TypeVar("T")
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


def parse_config(content: dict[str, Any], kind: type[T], file: str | Path) -> T:
    """Build a configuration from plain values, as read from YAML or JSON.

    Args:
        content: plain values.
        kind: a class decorated with `options`; nested ones are built likewise.
        file: named in messages.

    Raises:
        InputError: an unknown or missing key or a value that is not valid; the message names file and key.
    """
    try:
        # as JSON, so that strict validation still takes lists for tuples and strings for paths
        return TypeAdapter(kind).validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        # a misspelled required key is both unknown and missing: the first says more
        first = min(error.errors(include_url=False), key=lambda one: one["type"] not in _UNKNOWN)
        raise InputError(file, _describe_error(first, kind)) from error


def suggest_name(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or "" when no known name is similar."""
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _describe_error(error: ErrorDetails, kind: type) -> str:
    """What is wrong with which key, such as `optimizer.learning_rate must be above 0, got -1`."""
    location = error["loc"]
    *parents, name = _cut_after_union(location, kind) or ("",)
    fields = getattr(_type_at(kind, parents), "__pydantic_fields__", {})
    # without its parents, so that the bounds of that field are found
    leaf: ErrorDetails = {**error, "loc": location[len(parents) :]}
    if leaf["type"] == "tuple_type":
        leaf["type"] = "list_type"  # files have lists
    failure = option_error(leaf, fields)
    key = ".".join(map(str, (*parents, failure.argument))) if failure.argument else ""
    reason = f"{failure.reason:.200}"
    if error["type"] in _UNKNOWN:
        reason = f"{reason}{suggest_name(str(name), list(fields))} (known: {', '.join(fields)})"
    # a rule over several fields of a nested value begins with the name of one
    nested = getattr(_type_at(kind, location), "__pydantic_fields__", {})
    return f"{key}{'.' if reason.partition(' ')[0] in nested else ' '}{reason}" if key else reason


def _cut_after_union(location: tuple[int | str, ...], kind: type) -> tuple[int | str, ...]:
    """The location up to the first field that takes values of several kinds, which messages describe as a whole."""
    for length, name in enumerate(location, 1):
        field = getattr(_type_at(kind, location[: length - 1]), "__pydantic_fields__", {}).get(name)
        if field is not None and field.description:
            return location[:length]
    return location


def _type_at(kind: Any, location: Sequence[int | str]) -> Any:
    """The type that is declared for a nested value; None when the location is not declared."""
    kind = _strip_optional(kind)
    for part in location:
        if isinstance(part, int):
            arguments = typing.get_args(kind)
            kind = arguments[0] if arguments else None
        else:
            fields = getattr(kind, "__pydantic_fields__", {})
            kind = fields[part].annotation if part in fields else None
        kind = _strip_optional(kind)
    return kind


def _strip_optional(kind: Any) -> Any:
    """`X` of `X | None` and of `Annotated[X, ...]`."""
    if typing.get_origin(kind) is Annotated:
        return _strip_optional(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        arms = [arm for arm in typing.get_args(kind) if arm is not type(None)]
        return _strip_optional(next((arm for arm in arms if dataclasses.is_dataclass(arm)), arms[0]))
    return kind
