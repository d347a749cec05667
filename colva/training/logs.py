"""What a run writes about itself: `log.jsonl`, a line on the screen, `rejects.jsonl`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from mmvm_data.core.errors import OutputError, Reject
from mmvm_data.io.files import atomic_write

LOG: Final = "log.jsonl"
REJECTS: Final = "rejects.jsonl"
# dense peak of one device in bf16 without sparsity, TFLOP/s (the makers' data sheets)
PEAK_TFLOPS: Final = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 4090": 165.0,
}


class Log:
    """The lines of `log.jsonl`.

    Args:
        folder: of the run.
        step: the run goes on from here; later lines, of an attempt that was killed, are dropped. -1: a new run.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / LOG
        kept = [line for line in _lines(self.path) if step >= 0 and line.get("step", 0) <= step]
        try:
            with atomic_write(self.path) as handle:
                handle.writelines(json.dumps(line) + "\n" for line in kept)
        except OSError as error:
            raise OutputError(self.path, error) from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a line; numbers that JSON does not have become text."""
        plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(plain) + "\n")
        except OSError as error:
            raise OutputError(self.path, error) from error


class Rejects:
    """Items that were left out, each listed once in `rejects.jsonl`."""

    def __init__(self, folder: Path, goes_on: bool) -> None:
        self.path = folder / REJECTS
        if not goes_on:
            self.path.unlink(missing_ok=True)
        self._known = {json.dumps(line, sort_keys=True) for line in _lines(self.path)}

    def __len__(self) -> int:
        return len(self._known)

    def add(self, rejects: Iterable[Reject]) -> None:
        """List those that are new."""
        fresh = {}
        for reject in rejects:
            line = reject.to_json()
            key = json.dumps(line, sort_keys=True)
            if key not in self._known:
                fresh[key] = line
        if not fresh:
            return
        self._known |= fresh.keys()
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.writelines(json.dumps(line) + "\n" for line in fresh.values())
        except OSError as error:
            raise OutputError(self.path, error) from error


def shown(record: Mapping[str, Any], steps: int) -> str:
    """One line for the screen."""
    parts = [f"step {record['step']}/{steps}"]
    for name, value in record.items():
        if name in ("step", "kind"):
            continue
        parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return "  ".join(parts)


def peak_flops(given: float | None) -> float | None:
    """FLOP/s of one device: what the user says, or what is known of the GPU; None otherwise."""
    if given is not None:
        return given * 1e12
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak * 1e12 for known, peak in PEAK_TFLOPS.items() if known in name), None)


def memory_mb() -> float:
    """Memory in use: of the GPU its highest so far, else what this process holds now; in MiB."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; a last line that was cut by a kill is dropped."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
