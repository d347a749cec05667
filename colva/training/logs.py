"""The files that a run writes about itself, `log.jsonl` and `rejects.jsonl`, and the line on the screen."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from mmvm_data.core.errors import InputError, OutputError, Reject
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import parse_json, read_file

LOG: Final = "log.jsonl"
REJECTS: Final = "rejects.jsonl"
# dense peak of one device in bf16 without sparsity, TFLOP/s (the vendors' data sheets)
PEAK_TFLOPS: Final = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 4090": 165.0,
}


class MetricsLog:
    """Writes `log.jsonl`.

    Args:
        folder: of the run.
        start_step: the run resumes after this step; later lines, of a killed attempt, are removed. -1: a new run.

    Raises:
        OutputError: a full or read-only disk.
    """

    def __init__(self, folder: Path, start_step: int) -> None:
        self.path = folder / LOG
        kept = [line for line in read_lines(self.path) if start_step >= 0 and _step(line) <= start_step]
        try:
            with atomic_write(self.path) as handle:
                handle.writelines(json.dumps(line) + "\n" for line in kept)
        except OSError as error:
            raise OutputError(self.path, error) from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line; numbers that JSON cannot represent become strings."""
        plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(plain) + "\n")
        except OSError as error:
            raise OutputError(self.path, error) from error


class RejectsLog:
    """Writes `rejects.jsonl`: items that were left out, each listed once."""

    def __init__(self, folder: Path, is_resumed: bool) -> None:
        self.path = folder / REJECTS
        if not is_resumed:
            self.path.unlink(missing_ok=True)
        self._known = {json.dumps(line, sort_keys=True) for line in read_lines(self.path)}

    def __len__(self) -> int:
        return len(self._known)

    def add(self, rejects: Iterable[Reject]) -> None:
        """Append those that are not listed yet."""
        new = {}
        for reject in rejects:
            line = reject.to_json()
            key = json.dumps(line, sort_keys=True)
            if key not in self._known:
                new[key] = line
        if not new:
            return
        self._known |= new.keys()
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.writelines(json.dumps(line) + "\n" for line in new.values())
        except OSError as error:
            raise OutputError(self.path, error) from error


def format_record(record: Mapping[str, Any], num_steps: int) -> str:
    """A line of the log for the screen; an accuracy's interval and number of cases are left to the file."""
    parts = [f"step {record['step']}/{num_steps}"]
    for name, value in record.items():
        is_detail = name.startswith("eval_accuracy") and name.endswith(("_low", "_high", "_cases"))
        if name in ("step", "kind") or is_detail:
            continue
        parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return "  ".join(parts)


def device_peak_flops(peak_tflops: float | None) -> float | None:
    """Peak FLOP/s of one device: the configured value, or that of a known GPU; otherwise None."""
    if peak_tflops is not None:
        return peak_tflops * 1e12
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak * 1e12 for known, peak in PEAK_TFLOPS.items() if known in name), None)


def memory_in_use_mb() -> float:
    """Memory in MiB: the peak so far on a GPU, otherwise the resident memory of this process."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def _step(line: Mapping[str, Any]) -> float:
    """The step of a line; 0 for one that has none, which nothing of this package wrote."""
    step = line.get("step")
    return step if isinstance(step, (int, float)) else 0


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; a last line that was cut off by a kill is dropped."""
    if not path.exists():
        return []
    records = []
    for line in read_file(path).splitlines():
        try:
            value = parse_json(line, path)
        except InputError:
            continue
        if isinstance(value, dict):
            records.append(value)
    return records
