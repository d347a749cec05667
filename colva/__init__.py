"""CoLVA: a contrastive multimodal LLM for visual correspondence, its training and its evaluation.

The public names are imported when they are first used, so that ``import colva`` loads neither PyTorch nor transformers.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmvm_data.core.version import __version__

if TYPE_CHECKING:
    from colva.checkpoints.load import load
    from colva.evaluation.api import EvaluationReport, evaluate
    from colva.training.run import train

_MODULES = {
    "EvaluationReport": "colva.evaluation.api",
    "evaluate": "colva.evaluation.api",
    "load": "colva.checkpoints.load",
    "train": "colva.training.run",
}
"""Public name -> the module that defines it."""

__all__ = ["EvaluationReport", "__version__", "evaluate", "load", "train"]

# DeepSpeed is imported by other libraries where it is installed, and then prints this on the standard output of every
# command on a machine without a GPU.
logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
