"""``build --resist``: a pool beside the benchmark, the same bytes after a kill, refusals before anything is built."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmvm_data import synth
from mmvm_data.cli import cli
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench
from mmvm_data.pipeline.options import BuildOptions, BuildProgress
from mmvm_data.recipes.resistant_build import build_resistant, pool_folder
from tests.worlds import tree

NAMES = [bench.CASES, bench.TSV, "derived.json", "rejects.jsonl", "origins.jsonl"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = synth.SynthOptions(videos=3, frames=6, width=160, height=96, objects=(4, 4))
    return synth.generate(tmp_path_factory.mktemp("videos"), options)


def _options(root: Path) -> BuildOptions:
    options = BuildOptions()
    return replace(options, sampling=replace(options.sampling, cases_per_video=2, min_area=40, min_side=5))


def test_a_third_is_kept_and_a_killed_build_continues(root: Path, tmp_path: Path) -> None:
    options = _options(root)
    result, selection = build_resistant("ytvos", root, tmp_path / "a/out", options)
    assert selection is not None and len(selection.chosen) >= 3 * result.cases
    cases = list(bench.read(tmp_path / "a/out"))
    assert len(cases) == result.cases > 0
    assert not pool_folder(tmp_path / "a/out").exists()
    (source,) = json.loads((tmp_path / "a/out/derived.json").read_text())["sources"]
    assert source["path"] == f"ytvos {root}" and source["build"]["counts"]["cases"] == len(selection.chosen)

    def stop(progress: BuildProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_resistant("ytvos", root, tmp_path / "b/out", options, progress=stop)
    with pytest.raises(UsageError, match="unfinished build"):
        build_resistant("ytvos", root, tmp_path / "b/out", options)
    build_resistant("ytvos", root, tmp_path / "b/out", replace(options, existing="resume", workers=2))
    first, second = tmp_path / "a/out", tmp_path / "b/out"
    assert tree(first / bench.FOLDER) == tree(second / bench.FOLDER)
    records = [json.loads((folder / "derived.json").read_text()) for folder in (first, second)]
    for record in records:
        del record["sources"][0]["build"]["times"]
    assert records[0] == records[1]
    assert (first / bench.CASES).read_bytes() == (second / bench.CASES).read_bytes()


def test_what_cannot_be_combined_is_refused(root: Path, tmp_path: Path) -> None:
    options = _options(root)
    with pytest.raises(OptionError, match="resist must not be used with `variants`"):
        variants = replace(options, sampling=replace(options.sampling, variants=True))
        build_resistant("ytvos", root, tmp_path / "out", variants)
    with pytest.raises(OptionError, match=r"pool_factor must be in \[2, 100\], got 1"):
        build_resistant("ytvos", root, tmp_path / "out", options, pool_factor=1)
    with pytest.raises(OptionError, match="resist needs an `out` folder on this machine"):
        build_resistant("ytvos", root, "s3://bucket/out", options)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(UsageError, match="already exists and is not empty"):
        build_resistant("ytvos", root, tmp_path / "full", options)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_the_command_prints_scores(root: Path, tmp_path: Path) -> None:
    words = ["build", "--source", "ytvos", "--root", str(root), "--out", str(tmp_path / "out"), "--max-cases", "3"]
    done = CliRunner().invoke(cli, [*words, "--resist", "--pool-factor", "2", "--min-area", "40", "--min-side", "5"])
    assert done.exit_code == 0, done.output
    assert "Baselines on 6 cases" in done.output and "3 cases from" in done.output
    assert len(list(bench.read(tmp_path / "out"))) == 3
