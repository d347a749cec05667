"""Makes xtuner importable where torch is a build for the CPU alone; to be imported before anything of xtuner.

xtuner imports torchvision, of which the packages are built for CUDA. Its Python part then looks for two operators that
are not there, and only their schemas are needed to import it. On a machine with a GPU nothing is done.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

import torch

from mmvm_data.core.errors import UsageError

NEEDED: Final = ("xtuner", "mmengine", "torchvision")
_SCHEMAS: Final = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []


def prepare() -> None:
    """Check what is installed, and fill in what a CPU build lacks; doing it again changes nothing.

    Raises:
        UsageError: a package is missing.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--engine xtuner: {', '.join(missing)} not installed; docs/xtuner.md says how, as its pins are old"
        )
    if torch.version.cuda is None and not _kept:
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _kept.append(library)  # gone with its object
        if not hasattr(torch.cpu, "is_bf16_supported"):
            torch.cpu.is_bf16_supported = lambda: True  # type: ignore[attr-defined]


prepare()
