"""``scores.json`` of a run: the structure that its readers rely on, checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from colva.evaluation.scoring.extract import MODES
from mmvm_data.core.errors import InputError
from mmvm_data.io.json_files import read_json_object

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Share(_Checked):
    hits: _Count
    n: _Count
    value: _Number | None
    low: _Number | None
    high: _Number | None
    wilson_low: _Number | None
    wilson_high: _Number | None


class _Cases(_Checked):
    asked: _Count
    unread: _Count
    refused: _Count
    no_reply: _Count
    by_judge: _Count
    truncated: _Count


class _Benchmark(_Checked):
    cases: _Count = 0
    left_out: _Count = 0


class _Groups(_Checked):
    type: dict[str, _Share]
    candidates: dict[str, _Share]
    source: dict[str, _Share]
    difficulty: dict[str, _Share]


class _LabelCounts(_Checked):
    right: _Count
    chosen: _Count
    hits: _Count


class _Letters(_Checked):
    bias: _Number | None
    by: dict[str, _LabelCounts]


class _Circular(_Checked):
    variants: _Count
    all_right: _Share
    same: _Share
    mean: _Number


class _Reasons(_Checked):
    asked: _Count
    empty: _Count
    agree: _Share


class _Scores(_Checked):
    model: str
    bench: str
    extraction: str = MODES[0]
    benchmark: _Benchmark = _Benchmark()
    cases: _Cases
    overall: _Share
    chance: _Number | None
    by: _Groups
    letters: _Letters
    confusion: dict[str, dict[str, _Count]]
    circular: _Circular | None
    reasons: _Reasons | None
    unread: list[str]
    refused: list[str]
    truncated: list[str] = []
    judged: dict[str, str] = {}
    judged_reasons: dict[str, bool] = {}


_MAX_REASON: Final = 200


def read_scores(path: Path) -> dict[str, Any]:
    """Return the content of a ``scores.json``, as ``score_run`` writes it.

    Raises:
        InputError: it cannot be read, or a value is missing or of another type; the message names its key.
    """
    content = read_json_object(path)
    try:
        _Scores.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(path, f"{first['msg']:.{_MAX_REASON}}", ".".join(map(str, first["loc"]))) from error
    if content.get("extraction", MODES[0]) not in MODES:
        raise InputError(path, f"expected one of {', '.join(MODES)}", "extraction")
    return content
