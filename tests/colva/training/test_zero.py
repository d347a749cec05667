from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from colva.training.zero import ZERO_NAMES, builtin_deepspeed_config, load_deepspeed_config, remove_stale_build_locks
from mmvm_data.core.errors import InputError, UsageError

FILES = Path(__file__).resolve().parents[3] / "configs" / "deepspeed"


@pytest.mark.parametrize("name", ZERO_NAMES)
def test_the_files_are_what_the_names_stand_for(name: str) -> None:
    pytest.importorskip("deepspeed")
    assert json.loads((FILES / f"{name}.json").read_text()) == builtin_deepspeed_config(int(name[-1]))
    assert load_deepspeed_config(name) == load_deepspeed_config(str(FILES / f"{name}.json"))


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    with pytest.raises(UsageError, match="expected zero1"):
        load_deepspeed_config("zero4")
    with pytest.raises(InputError, match="cannot be read"):
        load_deepspeed_config(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("[1")
    with pytest.raises(InputError, match="not JSON"):
        load_deepspeed_config(str(tmp_path / "bad.json"))
    (tmp_path / "own.json").write_text('{"optimizer": {}}')
    with pytest.raises(InputError, match="optimizer: belongs in"):
        load_deepspeed_config(str(tmp_path / "own.json"))


@pytest.mark.parametrize(
    ("zero", "message"),
    [
        ([], r"zero_optimization: expected an object, found \[\]"),
        ({"stage": [2]}, r"zero_optimization.stage: expected 0, 1, 2 or 3, found \[2\]"),
        ({"stage": None}, "zero_optimization.stage: expected 0, 1, 2 or 3, found None"),
        ({"stage": True}, "zero_optimization.stage: expected 0, 1, 2 or 3, found True"),
        ({"stage": 4}, "zero_optimization.stage: expected 0, 1, 2 or 3, found 4"),
    ],
)
def test_a_stage_that_does_not_exist_is_refused(tmp_path: Path, zero: object, message: str) -> None:
    pytest.importorskip("deepspeed")
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"zero_optimization": zero}))
    with pytest.raises(InputError, match=message):
        load_deepspeed_config(str(file))


def test_the_lock_of_a_killed_compilation_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    left, held, young = (tmp_path / "py3" / name / "lock" for name in ("left", "held", "young"))
    for lock in (left, held, young):
        lock.parent.mkdir(parents=True)
        lock.touch()
    for lock in (left, held):
        os.utime(lock, (0, 0))
    with held.open():
        assert remove_stale_build_locks() == [left]
    assert not left.exists() and held.exists() and young.exists()
