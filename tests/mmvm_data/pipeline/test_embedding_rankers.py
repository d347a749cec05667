"""The model that ranks candidates comes from an entry point of another package, or from the caller."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import UsageError
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.pipeline.embedding_rankers import GROUP, open_embedding_ranker
from tests.worlds import davis, tree

ROOT = Path(__file__).resolve().parents[3]
MODULE = '''
import numpy as np
from mmvm_data.core.errors import UsageError

def open_ranker(model):
    """Later objects are more similar."""
    if model != "later":
        raise UsageError(f"no model {model}")
    return lambda first, query, last, others: np.linspace(0, 1, len(others))
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on ``sys.path`` that holds a module and, instead of those of the real distribution, metadata that offer
    it."""
    folder = tmp_path / "site"
    (folder / "mmvm_data-0.0.0.dist-info").mkdir(parents=True)
    (folder / "mmvm_data-0.0.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: mmvm-data\nVersion: 0.0.0\n"
    )
    (folder / "offered_ranker.py").write_text(MODULE)
    write_entry_points(folder, "one = offered_ranker:open_ranker")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "offered_ranker", raising=False)
    open_embedding_ranker.cache_clear()
    return folder


def write_entry_points(site: Path, *lines: str) -> None:
    text = "\n".join((f"[{GROUP}]", *lines)) + "\n"
    (site / "mmvm_data-0.0.0.dist-info/entry_points.txt").write_text(text)
    importlib.invalidate_caches()


def test_command_line_and_python_builds_are_equal(site: Path, tmp_path: Path) -> None:
    world = davis(tmp_path / "world", videos=4, objects=8)
    factory = importlib.import_module("offered_ranker").open_ranker
    for name, embeddings, workers in (("python", "later", 2), ("without", None, 1)):
        sampling = SamplingOptions(min_area=100, candidates=4, embeddings=embeddings)
        build("davis", world, tmp_path / name, BuildOptions(sampling, workers=workers, ranker_factory=factory))
    command = ("build", "--source", "davis", "--root", str(world), "--out", str(tmp_path / "shell"), "--workers", "2")
    options = ("--min-area", "100", "--candidates", "4", "--embeddings", "later")
    subprocess.run(
        [sys.executable, "-c", "from mmvm_data.cli import main; main()", *command, *options],
        check=True,
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"},
    )
    assert tree(tmp_path / "python") == tree(tmp_path / "shell") != tree(tmp_path / "without")


def test_an_unknown_model_leaves_no_folder(site: Path, tmp_path: Path) -> None:
    world = davis(tmp_path / "world", videos=1)
    options = BuildOptions(SamplingOptions(variants=True, embeddings="earlier"))
    with pytest.raises(UsageError, match="no model earlier"):
        build("davis", world, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "none is installed"),
        (("one = offered_ranker:open_ranker", "two = offered_ranker:other"), "pass `ranker_factory`"),
        (("one = no_such_module_at_all:open_ranker",), r"need no_such_module_at_all: pip install 'mmvm-data\[train\]'"),
    ],
)
def test_factories_that_cannot_be_used(site: Path, lines: tuple[str, ...], message: str) -> None:
    write_entry_points(site, *lines)
    with pytest.raises(UsageError, match=message):
        open_embedding_ranker("later")


def test_colva_offers_its_experts() -> None:
    """The entry point that the project declares names a function that exists."""
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11")
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    (entry_point,) = (metadata.EntryPoint(name, value, GROUP) for name, value in declared.items())
    assert callable(entry_point.load())
