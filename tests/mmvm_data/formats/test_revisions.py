"""Changes to a finished benchmark."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case, Review
from mmvm_data.formats import bench
from mmvm_data.formats.open_benchmark import open_benchmark
from mmvm_data.formats.revisions import revise
from mmvm_data.formats.tsv import read_rows
from mmvm_data.pipeline.build import BuildOptions, build
from tests.worlds import davis, tree


@pytest.fixture()
def built(tmp_path: Path) -> Path:
    build("davis", davis(tmp_path / "world"), tmp_path / "b", BuildOptions(max_cases=4))
    return tmp_path / "b"


def test_what_changes_and_what_stays(built: Path) -> None:
    before, cases = tree(built), list(bench.read(built))
    mask = masks.decode(cases[1].candidates[0].region.mask)  # type: ignore[arg-type]
    smaller = masks.encode(np.where(np.arange(mask.shape[1]) % 9 == 0, 0, mask))
    region = cases[1].candidates[0].region.model_copy(update={"mask": smaller})
    edited = cases[1].model_copy(
        update={"candidates": (cases[1].candidates[0].model_copy(update={"region": region}), *cases[1].candidates[1:])}
    )
    noted = cases[2].model_copy(update={"rationale": "it wears the same letter", "match_types": (3,)})
    dropped = cases[3].model_copy(update={"review": Review(state="rejected", by="ann", reason="blurred")})
    changes = {case.id: case for case in (cases[0], edited, noted, dropped)}
    assert revise(built, changes) == [edited.id, noted.id, dropped.id]
    after = tree(built)
    assert after["revisions/cases.0001.jsonl"] == before["cases.jsonl"]
    assert list(bench.read(built)) == [cases[0], edited, noted, dropped]
    touched = {name for name in before if after[name] != before[name]}
    folder = f"match_bench/{edited.id}"
    assert touched == {bench.CASES, bench.TSV, f"{folder}/FRAME01_CAND.jpg", f"{folder}/FRAME01_CAND.json"}
    assert [row.cells["case_id"] for row in read_rows(built / bench.TSV)] == [c.id for c in cases[:3]]
    assert revise(built, changes) == []
    assert tree(built) == after
    assert revise(built, {noted.id: cases[2]}) == [noted.id]
    assert tree(built)["revisions/cases.0002.jsonl"] == after["cases.jsonl"]


def test_readers_complete_a_revision_that_was_cut_off(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, rename = next(bench.read(built)), os.replace
    rejected = case.model_copy(update={"review": Review(state="rejected")})

    def cut_off() -> None:
        """The disk fails right after the commit."""

        def replace(source: Path, target: Path) -> None:
            if Path(target).parent == built:
                raise OSError(5, "Input/output error")
            rename(source, target)

        monkeypatch.setattr(os, "replace", replace)
        current = next(bench.read(built))
        with pytest.raises(OutputError, match="Input/output error"):
            revise(built, {case.id: rejected if current == case else case})
        monkeypatch.setattr(os, "replace", rename)

    cut_off()
    assert next(bench.read(built)) == rejected
    assert next(read_rows(built / bench.TSV)).cells["case_id"] != case.id
    cut_off()
    assert bench.validate(built).problems == [] and next(bench.read(built)) == case
    cut_off()
    assert next(open_benchmark(built).cases()) == rejected
    cut_off()
    noted = case.model_copy(update={"rationale": "red"})
    assert revise(built, {case.id: noted}) == [case.id]
    assert len(list((built / "revisions").iterdir())) == 5 and bench.validate(built).problems == []


def test_an_edit_sees_the_record_as_it_is(built: Path) -> None:
    first, second, *_ = bench.read(built)
    revise(built, {first.id: first.model_copy(update={"rationale": "red"})})

    def edit(current: Case) -> Case:
        return current.model_copy(update={"match_types": (1,)})

    assert revise(built, {first.id: edit, second.id: lambda current: current}) == [first.id]
    assert (now := next(bench.read(built))).rationale == "red" and now.match_types == (1,)


def test_an_unknown_case_changes_nothing(built: Path) -> None:
    before, case = tree(built), next(bench.read(built))
    with pytest.raises(InputError, match="case_777777"):
        revise(built, {"case_777777": case.model_copy(update={"id": "case_777777"})})
    with pytest.raises(InputError, match=r"cases\.jsonl"):
        revise(built / "match_bench", {case.id: case})
    assert tree(built) == before


def test_a_mask_that_does_not_fit_changes_nothing(built: Path) -> None:
    before, case = tree(built), next(bench.read(built))
    region = case.query[0].model_copy(update={"mask": masks.encode(np.ones((5, 5), np.uint8))})
    with pytest.raises(InputError, match="mask"):
        revise(built, {case.id: case.model_copy(update={"query": (region,)})})
    assert tree(built) == before
