"""Makes xtuner importable with a CPU build of torch; must be imported before anything of xtuner.

xtuner imports torchvision, whose packages are built for CUDA. Their Python part looks for two operators that a CPU
build lacks; for the import alone, their schemas are enough. On a machine with a GPU nothing is done.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

import torch

from mmvm_data.core.errors import UsageError

REQUIRED_PACKAGES: Final = ("xtuner", "mmengine", "torchvision")
_SCHEMAS: Final = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []


def prepare_imports() -> None:
    """Check that the packages are installed, and define what a CPU build lacks; repeated calls change nothing.

    Raises:
        UsageError: a package is missing.
    """
    missing = [name for name in REQUIRED_PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--engine xtuner: {', '.join(missing)} not installed; see docs/xtuner.md, as xtuner pins old versions"
        )
    if torch.version.cuda is None and not _libraries:
        create_library: Any = torch.library.Library
        library = create_library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _libraries.append(library)  # the definitions live as long as this object
        if not hasattr(torch.cpu, "is_bf16_supported"):
            torch.cpu.is_bf16_supported = lambda: True  # type: ignore[attr-defined]


prepare_imports()
