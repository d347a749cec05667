"""``mmvm-data cues``, and the documentation of rationales."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmvm_data import cli
from mmvm_data.annotation.rationale.cue_proposals import write_cues
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import Cue
from mmvm_data.formats import bench
from mmvm_data.formats.revisions import revise
from mmvm_data.pipeline.build import BuildOptions, build
from tests.endpoint import Server, serving, small_bench
from tests.worlds import tree

PAGE = Path(__file__).resolve().parents[4] / "docs/rationales.md"


@pytest.fixture()
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with serving(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture()
def bench_dir(tmp_path: Path) -> Path:
    return small_bench(tmp_path)


def test_proposals_are_stable_and_human_cues_are_kept(bench_dir: Path) -> None:
    first = write_cues(bench_dir)
    assert first.changed and not first.failures
    cases = list(bench.read(bench_dir))
    assert all(cue.source == "proposed" for case in cases for cue in case.cues)
    assert all(not case.cues for case in cases if case.answer is None)
    files = tree(bench_dir)
    assert write_cues(bench_dir).changed == [] and tree(bench_dir) == files
    case = next(case for case in cases if case.cues)
    mine = Cue(type=case.cues[0].type, score=1, evidence="it has a red bell", source="human")
    revise(bench_dir, {case.id: case.model_copy(update={"cues": (mine,)})})
    write_cues(bench_dir)
    now = next(c for c in bench.read(bench_dir) if c.id == case.id)
    assert now.cues == (mine, *case.cues[1:])
    assert not bench.validate(bench_dir).problems


def test_source_adds_neighbors(realdata: Path, tmp_path: Path) -> None:
    root = realdata / "davis2017_schoolgirls_240p"
    sampling = SamplingOptions(cases_per_video=10, min_area=150, min_side=6)
    build("davis", root, tmp_path / "b", BuildOptions(sampling=sampling))
    alone = write_cues(tmp_path / "b").types
    done = write_cues(tmp_path / "b", root)
    assert not done.failures
    assert done.types["BR"] > alone["BR"] == 0  # four girls, three of them with a bag
    assert done.types["OO"] >= alone["OO"]
    for case in bench.read(tmp_path / "b"):
        for cue in case.cues:
            if cue.type == 7:
                partner = next(c for c in case.candidates if c.number == cue.measures["partner"])
                assert partner.region.id != case.query[0].id


def test_failures_are_reported(bench_dir: Path, realdata: Path) -> None:
    image = bench_dir / "match_bench/case_000001/FRAME01_ORI.jpg"
    image.write_bytes(image.read_bytes()[:500])
    assert [case for case, _ in write_cues(bench_dir).failures] == ["case_000001"]
    done = write_cues(bench_dir, realdata / "davis2017_schoolgirls_240p")
    assert len(done.failures) == done.cases
    (bench_dir / "cases.jsonl").unlink()
    with pytest.raises(UsageError, match=r"has no cases\.jsonl"):
        write_cues(bench_dir)


def test_commands_of_the_documentation(server: Server, bench_dir: Path) -> None:
    pytest.importorskip("openai")
    words = {"bench": str(bench_dir), "DAVIS": str(bench_dir.parent / "world"), "MODEL": "m"}
    words["http://localhost:8000/v1"] = server.url
    text = PAGE.read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    lines += re.findall(r"`(mmvm-data [^`]+)`", text.replace("\n", " "))
    assert len(lines) >= 6
    for line in lines:
        command, *arguments = (words.get(word, word) for word in shlex.split(line))
        assert command == "mmvm-data"
        result = CliRunner().invoke(cli.cli, arguments)
        assert result.exit_code == 0, (line, result.output, result.exception)
    assert all(case.rationale_by == "model" for case in bench.read(bench_dir))
