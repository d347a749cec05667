"""Checkpoints that are complete or absent.

A checkpoint is written to a hidden neighbour, synced, given a list of its files with their sizes, and renamed. So a
run that is killed at any moment leaves whole checkpoints and at most one hidden folder, which the next one removes. A
folder whose list does not fit (a copy that was cut short) is passed over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from colva.config import plain
from colva.training.fsdp import put
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.io.files import atomic_write, fsync_path

FILES: Final = "files.json"
CONFIG: Final = "config.json"
MANNER: Final = "manner.json"
_NAME = re.compile(r"checkpoint-(\d+)")
PLAIN: Final = "our engine"
# a run may go on with other values of these: they change neither data, nor order, nor weights
FREE: Final = (
    "out",
    "data.cache",
    "run.workers",
    "run.micro_batch",
    "run.checkpointing",
    "run.log_every",
    "run.eval_every",
    "run.save_every",
    "run.keep",
    "run.report",
    "run.most_rejects",
    "run.peak_tflops",
    "run.timeout",
)


class TrainingFailed(UsageError):
    """A run that cannot go on, such as one whose loss is no number."""


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / f"checkpoint-{step}"


def begin(run: Path, step: int) -> Path:
    """An empty hidden folder to write the checkpoint of a step into; called in one process.

    Raises:
        OutputError: a full or read-only disk.
    """
    hidden = hidden_folder(run, step)
    try:
        for left in run.glob(".checkpoint-*.tmp"):
            shutil.rmtree(left)
        hidden.mkdir(parents=True)
    except OSError as error:
        raise OutputError(hidden, error) from error
    return hidden


def hidden_folder(run: Path, step: int) -> Path:
    """Where `begin` has made its folder, for the other processes."""
    return run / f".checkpoint-{step}.tmp"


def finish(run: Path, step: int) -> Path:
    """Sync what was written, list it, and give it its name; called in one process when all have written.

    Raises:
        OutputError: a full or read-only disk; the hidden folder is removed.
    """
    hidden, final = hidden_folder(run, step), folder_of(run, step)
    try:
        files = sorted(path for path in hidden.rglob("*") if path.is_file())
        for path in files:
            fsync_path(path)
        with atomic_write(hidden / FILES) as handle:
            json.dump({path.relative_to(hidden).as_posix(): path.stat().st_size for path in files}, handle, indent=1)
        for folder in sorted({path.parent for path in files}):
            fsync_path(folder)
        if final.exists():  # of an earlier attempt that went on from before this step
            shutil.rmtree(final)
        os.replace(hidden, final)
        fsync_path(run)
    except OSError as error:
        discard(run, step)
        raise OutputError(final, error) from error
    return final


def save(run: Path, step: int, keep: int, main: bool, wait: Callable[[], None], write: Callable[[Path], None]) -> None:
    """Write the checkpoint of a step and remove those that are older than the newest `keep`; called in each process.

    Args:
        run, step, keep: of the checkpoint.
        main: this is the process that makes, names and removes folders.
        wait: for all processes.
        write: puts a process's part into the folder that it is given.

    Raises:
        OutputError: a full or read-only disk; what was written is removed.
        TrainingFailed: the same, where a library said so in words of its own.
    """
    try:
        if main:
            begin(run, step)
        wait()
        write(hidden_folder(run, step))
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap a full disk
        discard(run, step)
        if isinstance(error, OSError):
            raise OutputError(folder_of(run, step), error) from error
        said = str(error).splitlines()[0]
        raise TrainingFailed(f"{folder_of(run, step)}: cannot write: {said}") from error
    wait()
    if main:
        finish(run, step)
        rotate(run, keep)
    wait()


def load_weights(folder: Path, model: nn.Module, load: Callable[[Path], Mapping[str, Tensor]]) -> None:
    """Put a checkpoint's weights into the trained parameters of a model.

    Raises:
        InputError: it holds others.
    """
    given = load(folder)
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if given.keys() != wanted.keys():
        odd = sorted(given.keys() ^ wanted.keys())
        raise InputError(folder, f"other weights than are trained here, such as {odd[0]}")
    with torch.no_grad():
        for name, parameter in wanted.items():
            put(parameter, given[name])


def write_final(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder that is whole or absent; one of the same name is replaced.

    Raises:
        OutputError: a full or read-only disk.
    """
    hidden = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True)
        write(hidden)
        for path in (path for path in sorted(hidden.rglob("*")) if path.is_file()):
            fsync_path(path)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(hidden, folder)
        fsync_path(folder.parent)
    except OSError as error:
        shutil.rmtree(hidden, ignore_errors=True)
        raise OutputError(folder, error) from error


def discard(run: Path, step: int) -> None:
    """Remove what `begin` has made, and whatever is in it."""
    shutil.rmtree(hidden_folder(run, step), ignore_errors=True)


def rotate(run: Path, keep: int) -> None:
    """Remove all complete checkpoints but the newest `keep`."""
    for _, folder in _steps(run)[:-keep]:
        # first out of sight, so that a kill in between leaves no part under a checkpoint's name
        hidden = folder.with_name(f".{folder.name}.tmp")
        os.replace(folder, hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def latest(run: Path) -> Path | None:
    """The newest checkpoint that is complete, or None."""
    for _, folder in reversed(_steps(run)):
        if is_complete(folder):
            return folder
    return None


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    found = _NAME.fullmatch(checkpoint.name)
    if found is None:
        raise ValueError(f"{checkpoint}: no checkpoint's name")
    return int(found.group(1))


def is_complete(folder: Path) -> bool:
    """Whether every file of a checkpoint is there with the size that its list says."""
    try:
        listed = json.loads((folder / FILES).read_text(encoding="utf-8"))
        return bool(listed) and all((folder / name).stat().st_size == size for name, size in listed.items())
    except (OSError, ValueError, AttributeError):
        return False


def same_run(checkpoint: Path, config: Any) -> None:
    """Refuse to go on with a configuration under which the earlier steps would have been others.

    Raises:
        InputError: a value differs; the message says which, and both values.
    """
    file = checkpoint / CONFIG
    try:
        before = _flat(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(file, f"cannot be read: {error}") from error
    now = _flat(plain(config))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name) and not any(name == free or name.startswith(f"{free}.") for free in FREE):
            reason = (
                f"the run was begun with {before.get(name)!r}, now it is {now.get(name)!r}; "
                "go on with the old value, or begin a new run in another folder"
            )
            raise InputError(file, reason, name)


def same_manner(checkpoint: Path, manner: str) -> None:
    """Refuse to go on with another engine or another way of sharding, as its state has another form.

    Raises:
        InputError: it was written in another manner, or what it says of that cannot be read.
    """
    file = checkpoint / MANNER
    try:
        before = json.loads(file.read_text(encoding="utf-8"))["manner"] if file.exists() else PLAIN
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(file, f"cannot be read: {error}") from error
    if before != manner:
        reason = f"the run was begun with {before}, now it is {manner}; its state has another form: go on as before"
        raise InputError(file, reason, "manner")


def write_config(folder: Path, config: Any, manner: str = PLAIN) -> None:
    """Keep with a checkpoint its configuration, which engine wrote it, and how that sharded."""
    (folder / CONFIG).write_text(json.dumps(plain(config), indent=1) + "\n", encoding="utf-8")
    (folder / MANNER).write_text(json.dumps({"manner": manner}) + "\n", encoding="utf-8")


def _flat(values: Any, place: str = "") -> dict[str, Any]:
    if isinstance(values, Mapping):
        items: list[tuple[str, Any]] = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(str(number), value) for number, value in enumerate(values)]
    else:
        return {place: values}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= _flat(value, f"{place}.{key}" if place else key)
    return found


def _steps(run: Path) -> list[tuple[int, Path]]:
    """Folders with a checkpoint's name, by step."""
    if not run.is_dir():
        return []
    named = [(_NAME.fullmatch(path.name), path) for path in run.iterdir() if path.is_dir()]
    return sorted((int(match.group(1)), path) for match, path in named if match)
