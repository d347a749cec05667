"""Validated options: dataclasses that check their values when they are constructed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import ErrorDetails
from typing_extensions import dataclass_transform

from mmvm_data.core.errors import UsageError
from mmvm_data.core.redact import redact_urls

T = TypeVar("T")

_WORDS = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "True or False",
    "string_type": "a string",
    "tuple_type": "a tuple",
    "list_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping of options",
}


class OptionError(UsageError, ValueError):
    """An option has a value that is not valid.

    Attributes:
        argument: name of the Python argument, dotted for a nested one (``sampling.none_share``).
        reason: what was expected and which value was passed, without the name.
    """

    def __init__(self, argument: str, reason: str) -> None:
        self.argument = argument
        self.reason = redact_urls(reason)
        super().__init__(f"{argument} {reason}" if argument else reason)

    def __reduce__(self) -> tuple[type[OptionError], tuple[str, str]]:
        return type(self), (self.argument, self.reason)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def options(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are validated by pydantic in strict mode.

    Strict: ``"400"`` is no integer and ``True`` is no number; an integer is accepted where a float is expected.
    Bounds are declared with ``Annotated[int, Field(ge=1)]``, sets of words with ``Literal``. A field that takes values
    of several kinds has a ``Field(description="a number or 'all'")``, which messages about it say. Rules over several
    fields belong in a ``pydantic.model_validator(mode="after")`` that raises ValueError.

    Raises:
        OptionError: by the constructor (and so by ``dataclasses.replace``): an unknown argument, a wrong type, an
            unknown word, a number out of range. The message names the argument.
    """
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    validated: Any = pydantic_dataclass(frozen=True, config=config)(cls)
    validate: Callable[..., None] = validated.__init__
    names = [field.name for field in dataclasses.fields(validated) if field.init]

    @functools.wraps(validate)
    def construct(self: T, *args: Any, **kwargs: Any) -> None:
        try:
            validate(self, *args, **kwargs)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise option_error(first, validated.__pydantic_fields__, names) from None

    validated.__init__ = construct
    return cast("type[T]", validated)


def option_error(error: ErrorDetails, fields: Mapping[str, Any], names: list[str] | None = None) -> OptionError:
    """Convert an error of pydantic.

    Args:
        error: an entry of ``ValidationError.errors()``.
        fields: pydantic's ``FieldInfo`` by name, for the bounds of a range.
        names: the arguments in order, for values that were passed by position.
    """
    location = [
        names[part] if position == 0 and isinstance(part, int) and names and part < len(names) else str(part)
        for position, part in enumerate(error["loc"])
    ]
    field = fields.get(location[0]) if location else None
    if len(location) > 1 and field is not None and field.description:
        # the location goes on with the kind that did not fit; what all kinds are says more
        return OptionError(location[0], f"must be {field.description}, got {error['input']!r}")
    argument = ".".join(location)
    value = "a secret" if _is_secret(field) else repr(error["input"])
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return OptionError(argument, "is an unknown option")
    if kind in ("missing", "missing_argument"):
        return OptionError(argument, "is missing")
    if kind == "value_error":
        # a rule over several fields names its arguments itself
        return OptionError("", str(context["error"])) if not argument else OptionError(argument, str(context["error"]))
    if kind == "literal_error":
        return OptionError(argument, f"must be {context['expected']}, got {value}")
    if kind == "too_short":
        count = context["min_length"]
        return OptionError(argument, f"must have at least {count} item{'s' * (count != 1)}, got {value}")
    if kind == "string_too_short":
        count = context["min_length"]
        return OptionError(argument, "must not be empty" if count == 1 else f"must have at least {count} characters")
    if kind == "string_too_long":
        return OptionError(argument, f"must have at most {context['max_length']} characters, got {len(error['input'])}")
    if kind.startswith(("greater_than", "less_than")):
        bounds = _bounds(fields.get(location[0])) if len(location) == 1 else ""
        return OptionError(argument, f"must be {bounds or _bound(context)}, got {value}")
    reason = _WORDS.get(kind) or error["msg"].removeprefix("Input should be ")
    return OptionError(argument, f"must be {reason}, got {value}")


def _is_secret(field: Any) -> bool:
    """Return whether a field is kept out of ``repr`` and messages (``dataclasses.field(repr=False)``)."""
    return field is not None and field.repr is False


def _bound(context: Mapping[str, Any]) -> str:
    """Return the bound that an error names; pydantic turns the bounds of a float into floats."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds = [(words[name], str(value).removesuffix(".0")) for name, value in context.items() if name in words]
    return " ".join(f"{word} {bound}" for word, bound in bounds)


def _bounds(field: Any) -> str:
    """Return the range that a field declares, as in ``in [0, 1]`` or ``at least 1``; "" when it declares none."""
    if field is None:
        return ""
    low = high = None
    opening, closing = "[", "]"
    for rule in field.metadata:
        for holder in (rule, *getattr(rule, "metadata", ())):
            if getattr(holder, "ge", None) is not None:
                low = holder.ge
            if getattr(holder, "gt", None) is not None:
                low, opening = holder.gt, "("
            if getattr(holder, "le", None) is not None:
                high = holder.le
            if getattr(holder, "lt", None) is not None:
                high, closing = holder.lt, ")"
    if low is not None and high is not None:
        return f"in {opening}{low}, {high}{closing}"
    if low is not None:
        return f"at least {low}" if opening == "[" else f"above {low}"
    if high is not None:
        return f"at most {high}" if closing == "]" else f"below {high}"
    return ""
