"""When compiled loops are used, and that they are compiled once."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mmvm_data import synth
from mmvm_data.core import acceleration
from mmvm_data.core.errors import UsageError
from mmvm_data.io import kernel_cache
from mmvm_data.pipeline.build import build, cases_a_worker
from mmvm_data.pipeline.options import BuildOptions

LOOPS = ModuleType("loops")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MMVM_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(kernel_cache.VARIABLE, raising=False)
    yield tmp_path / "cache"
    acceleration.use_kernels(None)


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that loops were imported with; they are stand-ins, and Numba need not be installed."""
    folders: list[Path] = []

    def import_kernels(folder: Path) -> None:
        folders.append(folder)
        acceleration.use_kernels(LOOPS)

    monkeypatch.setattr(kernel_cache, "_import_kernels", import_kernels)
    monkeypatch.setattr(kernel_cache, "version", lambda name: "1.2.3")
    monkeypatch.setattr(kernel_cache, "is_installed", lambda: True)
    return folders


def test_small_builds_do_without(imports: list[Path], cache: Path) -> None:
    assert not kernel_cache.use_kernels_for(kernel_cache.CASES_TO_LOAD - 1)
    assert not kernel_cache.use_kernels_for(kernel_cache.CASES_TO_COMPILE - 1)
    assert imports == [] and acceleration.loaded_kernels() is None and not cache.exists()


def test_what_is_compiled_once_is_loaded_by_smaller_builds(imports: list[Path], cache: Path) -> None:
    assert kernel_cache.use_kernels_for(kernel_cache.CASES_TO_COMPILE)
    folder = imports[0]
    assert folder.parent == cache / "kernels" and (folder / "complete").is_file()
    acceleration.use_kernels(None)
    assert not kernel_cache.use_kernels_for(kernel_cache.CASES_TO_LOAD - 1)
    assert kernel_cache.use_kernels_for(kernel_cache.CASES_TO_LOAD)
    assert imports == [folder, folder] and acceleration.loaded_kernels() is LOOPS
    assert kernel_cache.use_kernels_for(1) and len(imports) == 2  # this process has them


def test_code_of_another_numba_is_not_used(imports: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_cache.use_kernels_for(kernel_cache.CASES_TO_COMPILE)
    acceleration.use_kernels(None)
    monkeypatch.setattr(kernel_cache, "version", lambda name: "1.2.4")
    assert not kernel_cache.use_kernels_for(kernel_cache.CASES_TO_LOAD)


def test_what_a_killed_process_left_is_removed(imports: list[Path], cache: Path) -> None:
    folder = kernel_cache._machine_code_folder() / "sub"
    folder.mkdir(parents=True)
    for name in ("a.nbi", "a.1.nbc"):
        (folder / name).touch()
    assert kernel_cache.use_kernels_for(kernel_cache.CASES_TO_COMPILE)
    assert list(folder.iterdir()) == []


def test_the_variable_decides(imports: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernel_cache.VARIABLE, "numba")
    assert kernel_cache.use_kernels_for(0)
    monkeypatch.setenv(kernel_cache.VARIABLE, "numpy")
    assert not kernel_cache.use_kernels_for(kernel_cache.CASES_TO_COMPILE) and acceleration.loaded_kernels() is None
    monkeypatch.setenv(kernel_cache.VARIABLE, "fast")
    with pytest.raises(UsageError, match=r"^MMVM_DATA_KERNELS must be numba or numpy, got 'fast'$"):
        kernel_cache.use_kernels_for(0)


def test_without_numba(imports: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "is_installed", lambda: False)
    assert not kernel_cache.use_kernels_for(kernel_cache.CASES_TO_COMPILE)
    monkeypatch.setenv(kernel_cache.VARIABLE, "numba")
    with pytest.raises(
        UsageError, match=r"^MMVM_DATA_KERNELS=numba: Numba is not installed; `pip install 'mmvm-data\[f"
    ):
        kernel_cache.use_kernels_for(0)


def test_numba_that_refuses_this_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Numba does for a NumPy that is newer than itself."""
    monkeypatch.setattr(kernel_cache, "version", lambda name: "1.2.3")
    monkeypatch.setattr(kernel_cache, "is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not kernel_cache.use_kernels_for(kernel_cache.CASES_TO_COMPILE)
    monkeypatch.setenv(kernel_cache.VARIABLE, "numba")
    with pytest.raises(UsageError, match=r"^MMVM_DATA_KERNELS=numba: .*numba"):
        kernel_cache.use_kernels_for(0)


def test_cache_folder_that_cannot_be_written(imports: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file", encoding="utf-8")
    assert not kernel_cache.use_kernels_for(kernel_cache.CASES_TO_COMPILE)
    monkeypatch.setenv(kernel_cache.VARIABLE, "numba")
    with pytest.raises(UsageError, match=r"^MMVM_DATA_KERNELS=numba: .*/cache.*: cannot write: Not a directory$"):
        kernel_cache.use_kernels_for(0)


def test_two_processes_at_once_compile_once(tmp_path: Path) -> None:
    """With a room of one function, which takes no time to compile, and says when it was compiled."""
    pytest.importorskip("numba")
    room = tmp_path / "room_of_loops"
    room.mkdir()
    (room / "__init__.py").write_text(
        "import numba\n"
        "def double(x): return 2 * x\n"
        "double = numba.njit((numba.types.int64,), cache=True)(double)\n"
        "print(sum(double.stats.cache_misses.values()), numba.config.CACHE_DIR)\n",
        encoding="utf-8",
    )
    room.chmod(0o555)  # as installed by another user
    program = (
        "from mmvm_data.io import kernel_cache\n"
        "import numba\n"
        "kernel_cache._PACKAGE = 'room_of_loops'\n"
        "assert kernel_cache.use_kernels_for(kernel_cache.CASES_TO_COMPILE)\n"
        "assert numba.config.CACHE_DIR == ''\n"
    )
    path = os.pathsep.join([str(tmp_path), sysconfig.get_paths()["purelib"], *sys.path])
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": path}
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [process.communicate()[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sorted(misses for misses, _ in printed) == ["0", "0", "1"]
    assert len({folder for _, folder in printed}) == 1
    assert not list(room.rglob("*.nbi"))


def test_a_build_is_the_same_with_loops_and_without(
    kernels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = synth.generate(tmp_path / "videos", synth.SynthOptions(videos=3, layout="ytvis", frames=6))
    calls: list[str] = []
    counted = ModuleType("counted")
    for name in ("decode", "measure", "trace"):

        def call(*args: object, name: str = name) -> object:
            calls.append(name)
            return getattr(kernels, name)(*args)

        setattr(counted, name, call)
    acceleration.use_kernels(counted)
    build("ytvis", root, tmp_path / "compiled", BuildOptions())
    assert set(calls) == {"decode", "measure", "trace"}
    monkeypatch.setenv(kernel_cache.VARIABLE, "numpy")
    calls.clear()
    build("ytvis", root, tmp_path / "plain", BuildOptions())
    assert calls == []
    assert _contents(tmp_path / "compiled") == _contents(tmp_path / "plain")


def _contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "build.json"]
    assert len(files) > 20
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_workers_know_about_how_many_cases_they_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = synth.generate(tmp_path / "videos", synth.SynthOptions(videos=3, layout="ytvis", frames=6))
    numbers: list[int] = []
    monkeypatch.setattr(kernel_cache, "use_kernels_for", numbers.append)
    build("ytvis", root, tmp_path / "all", BuildOptions())
    build("ytvis", root, tmp_path / "some", BuildOptions(max_cases=5))
    assert numbers == [3 * BuildOptions().sampling.max_cases_per_video, 5]
    assert cases_a_worker(100, 20, BuildOptions(max_cases=61, workers=4)) == 10


def test_a_wrong_variable_is_reported_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernel_cache.VARIABLE, "c")
    with pytest.raises(UsageError, match=r"^MMVM_DATA_KERNELS must be"):
        build("ytvis", tmp_path, tmp_path / "out", BuildOptions())
    assert not (tmp_path / "out").exists()
