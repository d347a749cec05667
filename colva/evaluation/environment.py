"""The environment of a run: versions, machine, times."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from colva.evaluation.ask import Progress
from mmvm_data.core.version import __version__
from mmvm_data.io.files import atomic_write

_PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "pillow",
    "openai",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
)


@dataclass
class RunEnvironment:
    """Facts of the process that runs an evaluation, and when it started (seconds since the epoch)."""

    facts: dict[str, Any]
    started: float = field(default_factory=time.time)

    def write(self, path: Path, progress: Progress) -> None:
        """Write the facts with the time taken and the counts of this process (not of earlier ones of the same run).

        Raises:
            OSError: the disk is full or read-only.
        """
        counts = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "seconds": round(time.time() - self.started, 3),
            "questions": progress.questions,
            "kept": progress.kept,
            "replies": progress.replies,
            "without_reply": len(progress.failed),
            "tokens_in": progress.tokens_in,
            "tokens_out": progress.tokens_out,
        }
        with atomic_write(path) as handle:
            handle.write(json.dumps(self.facts | {"this_process": counts}, indent=1) + "\n")


def describe_environment(spec: str) -> RunEnvironment:
    """Return what is known before the run; ``spec`` is the model as it was named."""
    versions = {"mmvm_data": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return RunEnvironment(
        {
            "model": spec,
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "versions": versions,
        }
    )
