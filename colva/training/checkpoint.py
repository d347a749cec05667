"""Atomic checkpoints: a checkpoint is either complete or not there.

A checkpoint is written to a hidden staging folder, synced, given a list of its files with their sizes, and renamed. So
a run that is killed at any moment leaves complete checkpoints and at most one staging folder, which the next run
removes. A folder whose list does not match its files (an interrupted copy) is ignored.
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

from colva.config import FINAL_DIR, to_plain
from colva.training.fsdp import assign_parameter
from mmvm_data.core.errors import InputError, OutputError, UsageError, first_line
from mmvm_data.io.files import atomic_write, fsync_path
from mmvm_data.io.json_files import read_json_object

FILES: Final = "files.json"
CONFIG: Final = "config.json"
STRATEGY: Final = "strategy.json"
NATIVE_ENGINE: Final = "native engine"
RUN_FORMAT: Final = 2
"""Number of the options and files of a run; raised when those of earlier versions mean something else."""
_NAME = re.compile(r"checkpoint-(\d+)")
CHANGEABLE_OPTIONS: Final = (
    "output_dir",
    "max_loss_bound",
    "data.cache_dir",
    "trainer.num_workers",
    "trainer.micro_batch_size",
    "trainer.attention",
    "trainer.compile",
    "trainer.gradient_checkpointing",
    "trainer.logging_steps",
    "trainer.eval_steps",
    "trainer.save_steps",
    "trainer.save_total_limit",
    "trainer.report_to",
    "trainer.max_reject_share",
    "trainer.peak_tflops",
    "trainer.timeout_minutes",
)
"""Options that may differ when a run is resumed: they change neither data, nor order, nor weights."""


class TrainingError(UsageError):
    """A run that cannot continue, for example because its loss is not finite."""


def checkpoint_dir(run: Path, step: int) -> Path:
    """The folder of the checkpoint of a step."""
    return run / f"checkpoint-{step}"


def staging_dir(run: Path, step: int) -> Path:
    """The hidden folder that the checkpoint of a step is written to."""
    return run / f".checkpoint-{step}.tmp"


def create_staging_dir(run: Path, step: int) -> Path:
    """Create an empty staging folder for the checkpoint of a step; called in one process.

    Raises:
        OutputError: a full or read-only disk.
    """
    staging = staging_dir(run, step)
    try:
        for leftover in run.glob(".checkpoint-*.tmp"):
            shutil.rmtree(leftover)
        staging.mkdir(parents=True)
    except OSError as error:
        raise OutputError(staging, error) from error
    return staging


def publish(run: Path, step: int) -> Path:
    """Sync a staging folder, list its files, and rename it; called in one process when all have written.

    Raises:
        OutputError: a full or read-only disk; the staging folder is removed.
    """
    staging, final = staging_dir(run, step), checkpoint_dir(run, step)
    try:
        files = sorted(path for path in staging.rglob("*") if path.is_file())
        for path in files:
            fsync_path(path)
        with atomic_write(staging / FILES) as handle:
            sizes = {path.relative_to(staging).as_posix(): path.stat().st_size for path in files}
            json.dump(sizes, handle, indent=1)
        for folder in sorted({path.parent for path in files}):
            fsync_path(folder)
        if final.exists():  # of an earlier attempt that was resumed from before this step
            shutil.rmtree(final)
        os.replace(staging, final)
        fsync_path(run)
    except OSError as error:
        remove_staging_dir(run, step)
        raise OutputError(final, error) from error
    return final


def save_checkpoint(
    run: Path, step: int, limit: int, is_main: bool, barrier: Callable[[], None], write: Callable[[Path], None]
) -> None:
    """Write the checkpoint of a step and remove all but the newest `limit`; called in each process.

    Args:
        run: folder of the run.
        step: of the checkpoint.
        limit: number of checkpoints to keep.
        is_main: this is the main process, which creates, renames and removes folders.
        barrier: waits for all processes.
        write: writes a process's files into a folder.

    Raises:
        OutputError: a full or read-only disk; what was written is removed.
        TrainingError: the same, where a library reports it in its own words.
    """
    try:
        if is_main:
            create_staging_dir(run, step)
        barrier()
        write(staging_dir(run, step))
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap a full disk
        remove_staging_dir(run, step)
        if isinstance(error, OSError):
            raise OutputError(checkpoint_dir(run, step), error) from error
        reason = first_line(error)
        raise TrainingError(f"{checkpoint_dir(run, step)}: cannot write: {reason}") from error
    barrier()
    if is_main:
        publish(run, step)
        remove_old(run, limit)
    barrier()


def load_weights(folder: Path, model: nn.Module, load: Callable[[Path], Mapping[str, Tensor]]) -> None:
    """Copy a checkpoint's weights into the trained parameters of a model.

    Raises:
        InputError: the checkpoint holds other weights.
    """
    weights = load(folder)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if weights.keys() != trained.keys():
        different = sorted(weights.keys() ^ trained.keys())
        raise InputError(folder, f"its weights are not those that this run trains, such as {different[0]}")
    with torch.no_grad():
        for name, parameter in trained.items():
            assign_parameter(parameter, weights[name])


def write_result(run: Path, best: Path | None, write: Callable[[Path], None]) -> None:
    """Write the folder of a run's trained weights: a copy of the best ones, or the last ones.

    Args:
        run: folder of the run.
        best: folder of the best weights, or None.
        write: writes the last weights into a folder.

    Raises:
        OutputError: a full or read-only disk.
    """

    def copy(folder: Path) -> None:
        assert best is not None
        shutil.copytree(best, folder, dirs_exist_ok=True)

    write_final(run / FINAL_DIR, write if best is None else copy)


def write_final(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder atomically; an existing folder of the same name is replaced.

    Raises:
        OutputError: a full or read-only disk.
    """
    staging = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        write(staging)
        for path in (path for path in sorted(staging.rglob("*")) if path.is_file()):
            fsync_path(path)
        former = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(former, ignore_errors=True)
        if folder.exists():
            os.replace(folder, former)
        os.replace(staging, folder)
        fsync_path(folder.parent)
        shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise OutputError(folder, error) from error


def remove_staging_dir(run: Path, step: int) -> None:
    """Remove what `create_staging_dir` created, with its content."""
    shutil.rmtree(staging_dir(run, step), ignore_errors=True)


def remove_old(run: Path, limit: int) -> None:
    """Remove all checkpoints but the newest `limit`."""
    for _, folder in _list_checkpoints(run)[:-limit]:
        # renamed first, so that a kill in between leaves no incomplete folder under a checkpoint's name
        hidden = folder.with_name(f".{folder.name}.tmp")
        os.replace(folder, hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def find_latest(run: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    for _, folder in reversed(_list_checkpoints(run)):
        if is_complete(folder):
            return folder
    return None


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which a checkpoint was written.

    Raises:
        ValueError: the folder does not have a checkpoint's name.
    """
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint}: not the name of a checkpoint")
    return int(match.group(1))


def is_complete(folder: Path) -> bool:
    """Whether every file of a checkpoint exists and has the listed size."""
    try:
        sizes = read_json_object(folder / FILES)
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, InputError):
        return False


def check_same_config(checkpoint: Path, config: Any) -> None:
    """Refuse to resume with a configuration under which the earlier steps would have been different.

    Raises:
        InputError: a value differs, in a message that names the option and both values; or the run was started by a
            version with other options.
    """
    file = checkpoint / CONFIG
    if read_json_object(checkpoint / STRATEGY).get("format") != RUN_FORMAT:
        reason = (
            "the run was started by another version of colva, whose options differ; start a new run in another folder"
        )
        raise InputError(checkpoint / STRATEGY, reason, "format")
    before = _flatten(read_json_object(file))
    now = _flatten(to_plain(config))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) == now.get(name):
            continue
        if not any(name == option or name.startswith(f"{option}.") for option in CHANGEABLE_OPTIONS):
            reason = (
                f"the run was started with {before.get(name)!r}, now it is {now.get(name)!r}; "
                "resume with the old value, or start a new run in another folder"
            )
            raise InputError(file, reason, name)


def check_same_strategy(checkpoint: Path, strategy: str) -> None:
    """Refuse to resume with another engine or another way of sharding, as the saved state has another form.

    Raises:
        InputError: the checkpoint was written with another strategy, or its strategy cannot be read.
    """
    file = checkpoint / STRATEGY
    before = read_json_object(file).get("strategy")
    if before != strategy:
        reason = f"the run was started with {before}, now it is {strategy}, which saves its state in another form"
        raise InputError(file, reason, "strategy")


def write_run_info(folder: Path, config: Any, strategy: str = NATIVE_ENGINE) -> None:
    """Write the configuration and the strategy of a run into its checkpoint."""
    (folder / CONFIG).write_text(json.dumps(to_plain(config), indent=1) + "\n", encoding="utf-8")
    (folder / STRATEGY).write_text(json.dumps({"format": RUN_FORMAT, "strategy": strategy}) + "\n", encoding="utf-8")


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys."""
    if isinstance(values, Mapping):
        items: list[tuple[str, Any]] = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(str(number), value) for number, value in enumerate(values)]
    else:
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat


def _list_checkpoints(run: Path) -> list[tuple[int, Path]]:
    """Folders with a checkpoint's name, by step."""
    if not run.is_dir():
        return []
    matches = [(_NAME.fullmatch(path.name), path) for path in run.iterdir() if path.is_dir()]
    return sorted((int(match.group(1)), path) for match, path in matches if match)
