"""`mmvm-data audit` and `mmvm-data diff` on builds."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mmvm_data.audit import run
from mmvm_data.audit.baseline_scores import BASELINE_NAMES
from mmvm_data.audit.diff import DiffOptions, compare_builds
from mmvm_data.audit.results import AuditOptions
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cli import cli
from mmvm_data.core.errors import InputError
from mmvm_data.formats import bench, bench_read
from mmvm_data.pipeline import build as pipeline
from tests.builds import make_case, write_build
from tests.worlds import davis

SAMPLING = SamplingOptions(min_area=100, seed=5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("world"), videos=12)


def build(world: Path, out: Path, **options: Any) -> Path:
    sampling = SamplingOptions(**{**vars(SAMPLING), **options})
    pipeline.build("davis", world, out, pipeline.BuildOptions(sampling))
    return out


@pytest.fixture(scope="module")
def built(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(world, tmp_path_factory.mktemp("built") / "bench")


def test_a_build_is_looked_at(built: Path) -> None:
    found = run.audit(built)
    assert found.cases == len(list(bench.read(built))) > 30
    assert [s.baseline for s in found.scores] == list(BASELINE_NAMES)
    assert found.problems == ()
    assert found.repeated == ()
    assert found.frames is not None
    assert found.frames.videos == 0
    # squares of noise that barely move: place gives them away, the first letter does not
    assert "nearest_place" in [s.baseline for s in found.shortcuts]
    assert "first" not in [s.baseline for s in found.shortcuts]


def test_two_workers_find_the_same(built: Path) -> None:
    alone = run.audit(built, built).to_json()
    assert run.audit(built, built, AuditOptions(workers=2)).to_json() == alone


def test_a_copy_under_another_name_is_found(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "w")
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(tmp_path / f"w/{kind}/480p/clip003", tmp_path / f"w/{kind}/480p/other")
    for path in (tmp_path / "w/JPEGImages/480p/other").iterdir():
        image = cv2.convertScaleAbs(cv2.imread(str(path)), alpha=1.05, beta=4)
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 40])
    found = run.audit(build(tmp_path / "w", tmp_path / "b"))
    assert found.frames is not None
    assert [set(pair.videos) for pair in found.frames.pairs] == [{"davis clip003", "davis other"}]
    assert found.frames.videos == 2
    assert any("with frames of another video" in warning for warning in found.warnings)


def test_both_views_of_a_still_image_are_compared(built: Path, tmp_path: Path) -> None:
    """Views of one image have its path. The second views of two images are one picture, the first are not."""
    by_video = {case.provenance.video: case for case in bench.read(built) if case.provenance}
    cases = []
    for case in list(by_video.values())[:3]:
        path = case.provenance.frames[0].path
        views = tuple(f.model_copy(update={"path": path, "index": k}) for k, f in enumerate(case.provenance.frames))
        cases.append(case.model_copy(update={"provenance": case.provenance.model_copy(update={"frames": views})}))
    bench.write(cases, tmp_path / "b", built)
    second, other = (tmp_path / "b" / cases[k].frames[1].path for k in (0, 2))
    cv2.imwrite(str(other), cv2.imread(str(second)), [cv2.IMWRITE_JPEG_QUALITY, 60])
    found = run.audit(tmp_path / "b").frames
    assert found is not None
    assert found.frames == 6
    assert [set(pair.videos) for pair in found.pairs] == [{f"davis {cases[k].provenance.video}" for k in (0, 2)}]


def test_leaks_are_found_by_name_and_by_picture(world: Path, built: Path, tmp_path: Path) -> None:
    assert run.audit(built, built).leak.videos == tuple(f"davis clip{k:03d}" for k in range(12))
    for kind in ("JPEGImages", "Annotations"):
        for k, name in ((2, "clip002"), (5, "renamed")):
            shutil.copytree(world / f"{kind}/480p/clip{k:03d}", tmp_path / f"w/{kind}/480p/{name}")
    other = davis(tmp_path / "new", videos=14)
    for kind in ("JPEGImages", "Annotations"):
        shutil.move(other / f"{kind}/480p/clip013", tmp_path / f"w/{kind}/480p/clip013")
    leak = run.audit(built, build(tmp_path / "w", tmp_path / "b")).leak
    assert leak is not None
    assert leak.frames is not None
    assert leak.videos == ("davis clip002",)
    assert {pair.videos for pair in leak.frames.pairs} == {
        ("davis clip002", "davis clip002"),
        ("davis clip005", "davis renamed"),
    }
    assert leak.frames.videos == 2
    assert leak.frames.shared > 2


def test_one_id_under_two_sources_is_a_note(built: Path, tmp_path: Path) -> None:
    cases = [case.model_copy(update={"provenance": case.provenance.model_copy(update={"source": "mose"})})  # type: ignore[union-attr]
             for case in bench.read(built)]  # fmt: skip
    bench.write(cases[:4], tmp_path / "other", built)
    leak = run.audit(built, tmp_path / "other", AuditOptions(pixels=False)).leak
    assert leak is not None
    assert leak.videos == ()
    assert leak.same_ids == tuple(sorted({case.provenance.video for case in cases[:4]}))  # type: ignore[union-attr]


def test_a_case_that_is_there_twice(built: Path, tmp_path: Path) -> None:
    cases = list(bench.read(built))
    again = cases[3].model_copy(update={"id": "case_again"})
    bench.write([*cases[:6], again], tmp_path / "b", built)
    for pixels in (True, False):
        found = run.audit(tmp_path / "b", options=AuditOptions(pixels=pixels))
        assert found.repeated == ((cases[3].id, "case_again"),)


def test_what_cannot_be_read_is_named_and_the_rest_counted(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "b")
    picture = tmp_path / "b/match_bench/case_000002/FRAME01_ORI.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    lines = (tmp_path / "b/cases.jsonl").read_text().splitlines()
    broken = json.loads(lines[4])
    broken["query"][0]["mask"]["counts"] = "9"
    lines[4] = json.dumps(broken)
    (tmp_path / "b/cases.jsonl").write_text("\n".join(lines) + "\n")
    found = run.audit(tmp_path / "b")
    assert [problem.where for problem in found.problems] == ["case_000002", "case_000004"]
    assert found.cases == len(lines)
    counts = {s.baseline: s.cases for s in found.scores}
    assert counts["first"] == len(lines) - 1
    assert counts["nearest_color"] == len(lines) - 2
    (tmp_path / "b/cases.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"cases\.jsonl: line 1"):
        run.audit(tmp_path / "b")


def test_cases_that_do_not_hang_together_are_named(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "b")
    lines = [json.loads(line) for line in (tmp_path / "b/cases.jsonl").read_text().splitlines()]
    lines[1]["options"] = []
    lines[2]["candidates"][0]["region"]["mask"] = {"size": [3, 3], "counts": "9"}
    lines[3]["frames"][1]["path"] = "../../elsewhere.jpg"
    (tmp_path / "b/cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = run.audit(tmp_path / "b", built)
    assert [problem.where for problem in found.problems] == ["case_000001", "case_000002", "case_000003"]
    assert found.cases == len(lines)


def test_counts_that_are_no_run_lengths_are_a_problem_of_their_case(tmp_path: Path) -> None:
    records = [make_case(k).model_dump(mode="json") for k in range(4)]
    for record in records[1::2]:
        record["candidates"][1]["region"]["mask"]["counts"] = "0p"
    records[3]["review"] = {"state": "rejected"}
    write_build(tmp_path / "b", [make_case(k) for k in range(4)])
    (tmp_path / "b/cases.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    options = AuditOptions(pixels=False)
    found = run.audit(tmp_path / "b", options=options)
    reason = "not a case record: counts are not in COCO's run-length encoding at candidates.1.region.mask"
    assert found.problems == (bench_read.Problem("case_000001", reason),)
    assert found.cases == 3
    records[1]["answer"] = "second"
    (tmp_path / "b/cases.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(InputError, match="line 2"):
        run.audit(tmp_path / "b", options=options)


def test_mutated_records_are_named_and_never_crash(tmp_path: Path) -> None:
    write_build(tmp_path / "b", [make_case(k) for k in range(8) if k != 5])
    file, rng = tmp_path / "b/cases.jsonl", random.Random(0)
    whole = file.read_bytes()
    write_build(tmp_path / "other", [make_case(k) for k in range(4)])
    for _ in range(500):
        data = bytearray(whole)
        at = rng.randrange(len(data))
        if rng.random() < 0.1:
            data = data[:at]
        elif rng.random() < 0.5:
            data[at] = rng.choice(b'0123456789"[]{},:-')
        else:
            data[at : at + rng.randrange(30)] = rng.randbytes(rng.randrange(3))
        file.write_bytes(data)
        for look in (
            lambda: run.audit(tmp_path / "b", options=AuditOptions(pixels=False)),
            lambda: compare_builds(tmp_path / "other", tmp_path / "b"),
        ):
            try:
                look()
            except InputError as error:
                assert "cases.jsonl" in str(error) or str(tmp_path / "b") in str(error)


def test_a_set_of_another_origin(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "b")
    (tmp_path / "b/cases.jsonl").unlink()
    found, ours = run.audit(tmp_path / "b"), run.audit(built)
    assert found.cases == ours.cases
    assert [s.score for s in found.scores] == [s.score for s in ours.scores]


def test_rejected_cases_do_not_count(built: Path, tmp_path: Path) -> None:
    cases = list(bench.read(built))
    out = [c.model_copy(update={"review": c.review.model_copy(update={"state": "rejected"})}) for c in cases[:5]]
    bench.write([*out, *cases[5:]], tmp_path / "b", built)
    assert run.audit(tmp_path / "b").cases == len(cases) - 5


def command(*words: object) -> Any:
    return CliRunner().invoke(cli, [*map(str, words)])


def test_exit_codes_and_json(built: Path) -> None:
    plain = command("audit", built)
    assert plain.exit_code == 0
    assert "nearest place" in plain.output
    assert command("audit", built, "--strict").exit_code == 1
    accepted = [word for name in BASELINE_NAMES[1:] for word in ("--accept", name)]
    assert command("audit", built, "--strict", *accepted).exit_code == 0
    assert command("audit", built, "--strict", "--margin", 1).exit_code == 0
    found = json.loads(command("audit", built, "--json", "--no-pixels").output)
    assert found["cases"] > 30
    assert {score["baseline"] for score in found["baselines"]} == {*BASELINE_NAMES} - {"nearest_color"}
    assert found["learned_baseline"]["score"] == found["baselines"][-1]
    assert found["shortage"] == ""
    assert command("audit", built.parent).exit_code != 0


def test_a_set_of_few_videos_is_not_cleared(built: Path, tmp_path: Path) -> None:
    cases = list(bench.read(built))
    videos = sorted({case.provenance.video for case in cases})[:2]  # type: ignore[union-attr]
    few = [case for case in cases if case.provenance.video in videos]  # type: ignore[union-attr]
    bench.write(few, tmp_path / "b", built)
    found = run.audit(tmp_path / "b")
    assert found.learned.score is None
    assert found.shortage == "too few videos to judge: 2, at least 10 are needed"
    accepted = [word for name in BASELINE_NAMES for word in ("--accept", name)]
    printed = command("audit", tmp_path / "b", *accepted)
    assert found.shortage in printed.output
    assert "no warnings" not in printed.output


def test_the_same_build_does_not_differ(world: Path, built: Path, tmp_path: Path) -> None:
    again = build(world, tmp_path / "b")
    found = compare_builds(built, again, DiffOptions(compare_files=True))
    assert found.is_same
    assert found.settings == {}
    assert found.cases[0] == found.cases[1]
    assert command("diff", built, again, "--strict", "--files").exit_code == 0


def test_other_options_differ_field_by_field(world: Path, built: Path, tmp_path: Path) -> None:
    fewer = build(world, tmp_path / "b", candidates=2, cases_per_video=3)
    found = compare_builds(built, fewer)
    assert found.settings["request.sampling.candidates"] == (None, 2)
    assert found.settings["request.sampling.cases_per_video"] == (4, 3)
    assert "counts.cases" in found.settings
    before = {case.id: case for case in bench.read(built)}
    assert found.removed == [id_ for id_, case in before.items() if case.provenance.ordinal == 3]  # type: ignore[union-attr]
    assert found.added == []
    assert found.renumbered > 0
    assert set(found.fields) <= {"candidates", "answer", "options", "provenance"}
    assert command("diff", built, fewer).exit_code == 0
    assert command("diff", built, fewer, "--strict").exit_code == 1
    assert json.loads(command("diff", built, fewer, "--json").output)["removed"] == found.removed


def test_changes_are_named_with_their_values(tmp_path: Path) -> None:
    cases = [make_case(k) for k in range(8)]
    write_build(tmp_path / "a", cases)
    changed = cases[:7]
    changed[2] = make_case(2, match_types=(7,), rationale="another")
    write_build(tmp_path / "b", [*changed, make_case(30)])
    found = compare_builds(tmp_path / "a", tmp_path / "b")
    assert (found.added, found.removed, found.changed) == (["case_000030"], ["case_000007"], 1)
    assert [(c.case, c.field, c.after) for c in found.changes] == [
        ("case_000002", "match_types", "[7]"),
        ("case_000002", "rationale", '"another"'),
    ]
    picture = tmp_path / "b/match_bench/case_000001/FRAME00.jpg"
    cv2.imwrite(str(picture), np.zeros((9, 9, 3), np.uint8))
    found = compare_builds(tmp_path / "a", tmp_path / "b", DiffOptions(compare_files=True))
    assert [c.before for c in found.changes if c.field == "files"] == ["FRAME00.jpg"]
