"""Options refuse what is not valid, and say which argument it was."""

from __future__ import annotations

import pickle
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from typing_extensions import Self

from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError, option_error, options


def _check_even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


@options
class Inner:
    """Options as a room would declare them."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    area: Annotated[int, Field(ge=1)] = 400
    mode: Literal["left", "any"] = "left"
    limit: Annotated[int, Field(ge=1, le=37)] | None = None
    folder: Path | None = None
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    size: Annotated[int, Field(gt=0)] = 1
    depth: Annotated[int, Field(le=8)] = 1
    width: Annotated[int, Field(lt=8)] = 1

    @model_validator(mode="after")
    def _check_limit(self) -> Self:
        if self.limit is not None and self.share > 0.5:
            raise ValueError("limit does not go with share above 0.5")
        return self


@options
class Outer:
    """Options that hold others."""

    inner: Inner = field(default_factory=Inner)
    workers: Annotated[int, Field(ge=1, le=1024)] = 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 3}, "share must be in [0, 1], got 3"),
        ({"share": float("nan")}, "share must be a finite number, got nan"),
        ({"share": "0.5"}, "share must be a number, got '0.5'"),
        ({"area": "400"}, "area must be an integer, got '400'"),
        ({"area": True}, "area must be an integer, got True"),
        ({"area": 1.5}, "area must be an integer, got 1.5"),
        ({"area": 0}, "area must be at least 1, got 0"),
        ({"mode": "lefft"}, "mode must be 'left' or 'any', got 'lefft'"),
        ({"limit": 38}, "limit must be at most 37, got 38"),
        ({"folder": "here"}, "folder must be an instance of Path, got 'here'"),
        ({"arae": 1}, "arae is an unknown option"),
        ({"rate": 1}, "rate must be in (0, 1), got 1"),
        ({"size": 0}, "size must be above 0, got 0"),
        ({"depth": 9}, "depth must be at most 8, got 9"),
        ({"width": 8}, "width must be below 8, got 8"),
        ({"share": 0.9, "limit": 4}, "limit does not go with share above 0.5"),
    ],
)
def test_invalid_value_raises_an_error_with_the_argument(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Inner(**given)
    assert str(caught.value) == message
    assert isinstance(caught.value, (UsageError, ValueError))
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_positional_nested_and_replaced_values_are_checked() -> None:
    with pytest.raises(OptionError, match=r"^share must be in \[0, 1\], got 2$"):
        Inner(2)
    with pytest.raises(OptionError, match=r"^area must be at least 1, got -1$"):
        replace(Inner(), area=-1)
    with pytest.raises(OptionError, match=r"^inner must be"):
        Outer({"share": 0.5})  # type: ignore[arg-type]


def test_valid_values_behave_as_a_frozen_dataclass() -> None:
    outer = Outer(Inner(share=1, area=9), workers=2)
    assert outer == Outer(Inner(1.0, 9), 2)
    assert asdict(outer)["inner"] == {
        "share": 1.0,
        "area": 9,
        "mode": "left",
        "limit": None,
        "folder": None,
        "rate": 0.5,
        "size": 1,
        "depth": 1,
        "width": 1,
    }
    assert pickle.loads(pickle.dumps(outer)) == outer
    with pytest.raises(AttributeError):
        outer.workers = 3  # type: ignore[misc]


@options
class Lists:
    """Options of the kinds that hold others, a required one and a secret one."""

    required: Annotated[int, Field(ge=1, le=4)]
    one: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    two: Annotated[tuple[Annotated[int, Field(gt=0, le=9)], ...], Field(min_length=2)] = (1, 2)
    text: str = ""
    flag: bool = False
    names: dict[str, int] = field(default_factory=dict)
    key: Annotated[str, Field(min_length=3)] = field(default="abc", repr=False)
    small: Annotated[float, Field(gt=-1, le=1)] | None = None
    shares: Annotated[float, Field(ge=0, lt=1)] = 0.0
    even: Annotated[int, AfterValidator(_check_even)] = 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"required": None}, "required must be an integer, got None"),
        ({"required": 1, "one": ()}, "one must have at least 1 item, got ()"),
        ({"required": 1, "two": (3,)}, "two must have at least 2 items, got (3,)"),
        ({"required": 1, "two": (3, 0)}, "two.1 must be above 0, got 0"),
        ({"required": 1, "two": (10, 3)}, "two.0 must be at most 9, got 10"),
        ({"required": 1, "two": [3, 4]}, "two must be a tuple, got [3, 4]"),
        ({"required": 1, "text": 5}, "text must be a string, got 5"),
        ({"required": 1, "flag": 1}, "flag must be True or False, got 1"),
        ({"required": 1, "names": 5}, "names must be a mapping, got 5"),
        ({"required": 1, "names": {"a": "b"}}, "names.a must be an integer, got 'b'"),
        ({"required": 1, "key": 12}, "key must be a string, got a secret"),
        ({"required": 1, "small": -1}, "small must be above -1, got -1"),
        ({"required": 1, "shares": 1}, "shares must be in [0, 1), got 1"),
        ({"required": 1, "even": 3}, "even 3 is odd"),
        ({}, "required is missing"),
    ],
)
def test_messages_about_nested_required_and_secret_values(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Lists(**given)
    assert str(caught.value) == message
    name, _, reason = message.partition(" ")
    assert (caught.value.argument, caught.value.reason) == (name, reason)


def test_a_rule_over_several_options_names_them_itself() -> None:
    with pytest.raises(OptionError) as caught:
        Inner(share=0.9, limit=4)
    assert (caught.value.argument, caught.value.reason) == ("", "limit does not go with share above 0.5")


def test_too_many_positional_values() -> None:
    with pytest.raises(OptionError, match=r"^2 "):
        Outer(Inner(), 1, 5)  # type: ignore[call-arg]


def test_errors_of_a_model_and_of_unknown_fields() -> None:
    class Model(BaseModel, extra="forbid"):
        rate: Annotated[float, Field(gt=0)] = 0.5
        inner: dict[str, Annotated[int, Field(lt=3)]] = {}

    for values, message in (
        ({"rate": 0}, "rate must be above 0, got 0"),
        ({"inner": {"a": 3}}, "inner.a must be below 3, got 3"),
        ({"other": 3}, "other is an unknown option"),
    ):
        with pytest.raises(ValidationError) as caught:
            Model(**values)  # type: ignore[arg-type]
        error = option_error(caught.value.errors()[0], Model.model_fields)
        assert str(error) == message
        bare = option_error(caught.value.errors()[0], {})  # no bounds are known but the one that failed
        assert str(bare) == message
