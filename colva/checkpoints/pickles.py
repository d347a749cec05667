"""PyTorch's pickled files, read without running anything that they name.

`torch.load(weights_only=True)` builds tensors and plain containers and refuses the rest. Trainers put a little more in
their files: mmengine its `HistoryBuffer` with numpy arrays, DeepSpeed its enum of stages and loss scaler, RADIO the
`Namespace` of its training options. Those few names are given stand-ins that keep nothing and do nothing; any other
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

from mmvm_data.core.errors import InputError


class Opaque:
    """Something that was in the file and is not needed: takes any arguments and any state, and keeps none."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        pass

    def __new__(cls, *args: Any, **fields: Any) -> Opaque:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def _value(value: Any = None, *rest: Any) -> Any:
    """An enum's member as its plain value."""
    return value


_NUMPY_TYPES: Final = ("Float64", "Float32", "Float16", "Int64", "Int32", "UInt8", "Bool")
_OPAQUE: Final = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    # the buffer names its statistics as `getattr(HistoryBuffer, "mean")`; the stand-in looks nothing up
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
_VALUES: Final = ("deepspeed.runtime.zero.config.ZeroStageEnum",)


def read_pickle(path: Path) -> Any:
    """What a file of `torch.save` holds: tensors (on the CPU, mapped from the file where it allows) and plain values.

    Raises:
        InputError: not such a file, a damaged one, or one that names anything but the few harmless things above; the
            message gives that name. Nothing of the file is run.
    """
    allowed: list[Any] = [argparse.Namespace]
    allowed += [(Opaque, name) for name in _OPAQUE]
    allowed += [(_value, name) for name in _VALUES]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise InputError(path, _refusal(str(error))) from error
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
        # a damaged file shows itself in any of these ways inside the unpickler
        raise InputError(path, f"not a PyTorch file, or a damaged one: {_first_line(error)}") from error


def _refusal(message: str) -> str:
    wanted = re.search(r"(?:GLOBAL |function |class )['\"<]*([\w.]+)", message)
    if wanted:
        return (
            f"wants {wanted[1]!r}, which is neither a tensor nor a plain value; it was not run, and the file is not "
            "read. Expected a checkpoint of mmengine, DeepSpeed or plain PyTorch"
        )
    return f"not a file of weights alone: {message.splitlines()[0]}"


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
