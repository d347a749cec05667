"""Read PyTorch's pickled files without running code in them.

`torch.load(weights_only=True)` builds tensors and plain containers and refuses everything else. Trainers store a few
other objects: mmengine its `HistoryBuffer` with numpy arrays, DeepSpeed its enum of stages and loss scaler, RADIO the
`Namespace` of its training options. These few names are replaced by placeholders that store and do nothing; any other
name is refused. Neither mmengine nor DeepSpeed is imported.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, Final

import torch

from mmvm_data.core.errors import InputError, first_line


class Opaque:
    """Placeholder for an object that is not needed: accepts any arguments and any state, and stores none."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        pass

    def __new__(cls, *args: Any, **fields: Any) -> Opaque:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def _enum_value(value: Any = None, *rest: Any) -> Any:
    """Return an enum member as its plain value."""
    return value


_NUMPY_TYPES: Final = ("Float64", "Float32", "Float16", "Int64", "Int32", "UInt8", "Bool")
_OPAQUE: Final = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    # the buffer stores its statistics as `getattr(HistoryBuffer, "mean")`; the placeholder looks up nothing
    "__builtin__.getattr",
    "builtins.getattr",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.dtypes.{name}DType" for name in _NUMPY_TYPES),
    "_codecs.encode",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.bf16_optimizer.BF16_Optimizer",
    "deepspeed.utils.tensor_fragment.fragment_address",
)
_ENUMS: Final = ("deepspeed.runtime.zero.config.ZeroStageEnum",)


def read_pickle(path: Path) -> Any:
    """Return the content of a `torch.save` file: tensors (on the CPU, memory-mapped where possible) and plain values.

    Raises:
        InputError: not such a file, a damaged one, or one that names an object other than the few above; the message
            gives the name. No code in the file is run.
    """
    allowed: list[Any] = [argparse.Namespace]
    allowed += [(Opaque, name) for name in _OPAQUE]
    allowed += [(_enum_value, name) for name in _ENUMS]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise InputError(path, _format_refusal(str(error))) from error
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from error
    except (
        RuntimeError,
        struct.error,
        AssertionError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:
        # what the unpickler raises for damaged files
        raise InputError(path, f"not a PyTorch file, or a damaged one: {first_line(error)}") from error


def _format_refusal(message: str) -> str:
    match = re.search(r"(?:GLOBAL |function |class )['\"<]*([\w.]+)", message)
    if match:
        return (
            f"wants {match[1]!r}, which is neither a tensor nor a plain value; it was not run, and the file is not "
            "read. Expected a checkpoint of mmengine, DeepSpeed or plain PyTorch"
        )
    return f"not a file of weights alone: {message.splitlines()[0]}"
