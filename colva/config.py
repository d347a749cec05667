"""Configuration files: small YAML files checked against dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from mmvm_data.core.errors import InputError, UsageError

FINAL = "final"
"""Folder of a run's trained weights, below its `out`."""

T = TypeVar("T")
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """AdamW and its schedule; the defaults are the published ones of both stages (DESIGN section 5).

    Attributes:
        lr: highest learning rate.
        betas, eps, weight_decay: AdamW's.
        warmup: share of all steps over which the rate rises linearly from 0.
        schedule: how it goes on: cosine to 0, linear to 0, or constant.
        clip: largest norm of the gradient; 0 for no clipping.
    """

    lr: Annotated[float, Field(gt=0)] = 2e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: Share = 0.03
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip: Annotated[float, Field(ge=0)] = 1.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a stage is run.

    Attributes:
        batch: items of one optimiser step, over all processes and micro-batches.
        micro_batch: items that one process takes through the model at once; by default its whole share of the batch.
        epochs: passes over the data; may be a fraction.
        steps: optimiser steps in place of epochs.
        workers: data processes for each training process; 0 loads in the training process.
        precision: bf16 (automatic mixed precision; trained weights stay in float32) or float32.
        checkpointing: recompute activations in the backward pass.
        log_every, eval_every, save_every: optimiser steps; 0 evaluates and saves at the end only.
        keep: checkpoints that stay; the oldest go.
        report: further logs beside `log.jsonl`.
        most_rejects: share of unusable items at which the run stops, once 200 were seen.
        peak_tflops: of one device at this precision, for the share of the peak (MFU); known GPUs need none.
        timeout: minutes that processes wait for each other before the run is given up.
    """

    batch: Count = 64
    micro_batch: Count | None = None
    epochs: Annotated[float, Field(gt=0)] = 1.0
    steps: Count | None = None
    workers: Annotated[int, Field(ge=0)] = 2
    precision: Literal["bf16", "float32"] = "bf16"
    checkpointing: bool = False
    log_every: Count = 10
    eval_every: Annotated[int, Field(ge=0)] = 0
    save_every: Annotated[int, Field(ge=0)] = 1000
    keep: Count = 2
    report: tuple[Literal["tensorboard", "wandb"], ...] = ()
    most_rejects: Share = 0.2
    peak_tflops: Annotated[float, Field(gt=0)] | None = None
    timeout: Annotated[float, Field(gt=0)] = 30.0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What every stage is told; a stage adds its own.

    Attributes:
        stage: a key of `colva.training.engine.STAGES`.
        model: folder of the model that is trained.
        out: folder of the run: checkpoints, logs, and at the end the trained weights.
        seed: of data order, augmentation and new weights.
        optimiser, run: see there.
    """

    stage: str
    model: Path
    out: Path
    seed: int = 0
    optimiser: Optimiser = field(default_factory=Optimiser)
    run: Run = field(default_factory=Run)


def read_raw(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a YAML file with changes put in.

    Args:
        path: the file; a mapping at its top.
        changes: `a.b=value`, the value as YAML; numbers in the path count into lists.

    Raises:
        InputError: unreadable, or not a mapping.
        UsageError: a change that cannot be made.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(path, f"not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(path, f"a mapping of names to values is expected, found {type(content).__name__}")
    for change in changes:
        _change(content, change)
    return content


def parse(content: dict[str, Any], kind: type[T], where: str | Path) -> T:
    """A dataclass from plain values.

    Args:
        content: as `read_raw` gives it.
        kind: a dataclass; nested ones are read likewise.
        where: the file, for messages.

    Raises:
        InputError: an unknown key (the message names the nearest), a missing one, or a value that does not fit.
    """
    _check_keys(content, kind, where, "")
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or None
        if first["type"] == "missing":
            raise InputError(where, "is missing", place) from error
        said = re.sub("^(Value error, |Input )", "", first["msg"])
        raise InputError(where, f"{said[0].lower()}{said[1:]}, found {first['input']!r:.60}", place) from error


def dump(config: Any) -> str:
    """A configuration as YAML that `parse` reads back."""
    text: str = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
    return text


def plain(config: Any) -> Any:
    """A dataclass as plain dicts, lists, texts and numbers."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, (tuple, list)):
        return [plain(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _change(content: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    parts = path.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {change}: expected key=value, such as run.batch=32")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {change}: the value is not YAML") from error
    here: Any = content
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(here, list):
            if not part.isdigit() or int(part) >= len(here):
                at = ".".join(parts[:depth])
                raise UsageError(f"--set {change}: {at} is a list of {len(here)}; expected a number below that")
            key: Any = int(part)
        elif isinstance(here, dict):
            key = part
            if not last and here.get(key) is None:
                here[key] = {}
        else:
            raise UsageError(f"--set {change}: {'.'.join(parts[:depth])} is {here!r:.40}, which has nothing below it")
        if last:
            here[key] = value
        else:
            here = here[key]


def _check_keys(content: Any, hint: Any, where: str | Path, place: str) -> None:
    """Refuse keys that no dataclass has; what else is wrong is left to the check of values."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _check_keys(content, arguments[0], where, place)
    if origin in (typing.Union, types.UnionType):
        for arm in arguments:
            if dataclasses.is_dataclass(arm):
                _check_keys(content, arm, where, place)
    elif origin in (tuple, list) and isinstance(content, list):
        for number, item in enumerate(content):
            _check_keys(item, arguments[0], where, f"{place}{number}.")
    elif dataclasses.is_dataclass(hint) and isinstance(content, dict):
        hints = typing.get_type_hints(hint, include_extras=True)
        names = [f.name for f in dataclasses.fields(hint)]
        for key, value in content.items():
            if key not in names:
                said = f"unknown key{nearest(str(key), names)} (known: {', '.join(names)})"
                raise InputError(where, said, f"{place}{key}")
            _check_keys(value, hints[key], where, f"{place}{key}.")
    return None
