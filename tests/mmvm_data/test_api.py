"""The public names: there, documented, and imported only when they are used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mmvm_data
from mmvm_data.core.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def test_every_public_name_resolves_and_is_documented() -> None:
    assert set(mmvm_data.__all__) == {*mmvm_data._MODULES, "__version__"}
    assert set(mmvm_data.__all__) <= set(dir(mmvm_data))
    for name in mmvm_data._MODULES:
        value = getattr(mmvm_data, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
            assert value.__name__ == name


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="'mmvm_data' has no attribute 'bulid'"):
        mmvm_data.bulid  # noqa: B018


def test_import_is_light() -> None:
    heavy = ("cv2", "numpy", "pydantic", "mmvm_data.builders")
    code = f"import sys, mmvm_data; print(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_documented_names_are_the_public_ones() -> None:
    page = (ROOT / "docs/api/mmvm_data.md").read_text(encoding="utf-8")
    for name in ("build", "open_source", "open_benchmark", "write_benchmark", "Case", "Video", "Frame", "Region"):
        assert f"::: mmvm_data.{name}\n" in page


def test_paths_may_be_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.worlds import davis

    monkeypatch.chdir(tmp_path)
    davis(tmp_path / "DAVIS", videos=2)
    sampling = mmvm_data.SamplingOptions(min_area=100)
    result = mmvm_data.build("davis", "DAVIS", "bench", mmvm_data.BuildOptions(sampling=sampling))
    cases = list(mmvm_data.open_benchmark("bench"))
    assert len(cases) == result.cases > 0
    mmvm_data.write_benchmark(cases, "copy")
    assert [case.id for case in mmvm_data.open_benchmark("copy")] == [case.id for case in cases]
    with pytest.raises(UsageError, match="nowhere"):
        mmvm_data.open_source("davis", "nowhere")
