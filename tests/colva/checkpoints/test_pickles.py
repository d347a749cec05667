"""Files of `torch.save` are read; nothing that they name is run."""

from __future__ import annotations

import argparse
import builtins
import collections
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from colva.checkpoints.pickles import Opaque, read_pickle
from mmvm_data.core.errors import InputError


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call

    def __call__(self) -> None:
        """So that it can be pickled as what is called."""


def test_parity_file(parity: Path) -> None:
    content = read_pickle(parity / "internvl2_phi3_radio_tiny" / "iter_18252.pth")
    assert isinstance(content["message_hub"]["log_scalars"]["train/loss"], Opaque)
    assert content["state_dict"]["ot_mlp1.1.weight"].shape == (96, 64)
    assert content["meta"]["mmengine_version"] == "0.10.4"


def test_what_a_trainer_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffer with numpy arrays and its methods, as mmengine pickles it, without mmengine."""
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        pass

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    buffer = HistoryBuffer()
    buffer.history = np.arange(3.0)  # type: ignore[attr-defined]
    buffer.last = np.float32(1)  # type: ignore[attr-defined]
    torch.save({"w": torch.ones(2), "buffer": buffer, "args": argparse.Namespace(a=1)}, tmp_path / "x.pth")
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    content = read_pickle(tmp_path / "x.pth")
    assert content["w"].tolist() == [1, 1] and content["args"].a == 1
    assert type(content["buffer"]) is Opaque and vars(content["buffer"]) == {}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (eval, "eval"),
        (exec, "exec"),
        (builtins.__import__, "__import__"),
        (__import__("os").system, "system"),
        (__import__("subprocess").check_output, "check_output"),
    ],
)
def test_code_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Any, named: str, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    command = "open('ran', 'w')" if function in (eval, exec) else "touch ran"
    hostile = {"state_dict": {"w": torch.ones(1), "x": Calls(function, command)}}
    torch.save(hostile, "x.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=rf"x\.pth: wants .*{named}.*not run"):
        read_pickle(tmp_path / "x.pth")
    assert not Path("ran").exists()


def test_getattr_looks_nothing_up(tmp_path: Path) -> None:
    """The stand-in that mmengine's buffer needs gives no way to a method, and what it gives cannot be called."""
    torch.save({"x": Calls(getattr, collections.OrderedDict, "fromkeys")}, tmp_path / "x.pth")
    assert type(read_pickle(tmp_path / "x.pth")["x"]) is Opaque

    class Chain:
        def __reduce__(self) -> Any:
            return Calls(getattr, torch.Tensor, "numpy"), (1,)

    torch.save({"x": Chain()}, tmp_path / "y.pth")
    with pytest.raises(InputError):
        read_pickle(tmp_path / "y.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"hello", pickle.dumps({"a": 1})[:-3]])
def test_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.pth: "):
        read_pickle(tmp_path / "x.pth")


def test_allowed_names_are_gone_afterwards(tmp_path: Path) -> None:
    torch.save({"x": argparse.Namespace()}, tmp_path / "x.pth")
    read_pickle(tmp_path / "x.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "x.pth", weights_only=True)
