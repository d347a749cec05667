"""The whole way, against a real Label Studio: a real clip, drawn on through the server's interface, to a built case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmvm_data import cli
from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.layout import iter_shots
from mmvm_data.annotation.tracks.pull import pull
from mmvm_data.annotation.tracks.push import push
from mmvm_data.annotation.tracks.task import tracks_to_results
from mmvm_data.builders import open_source
from mmvm_data.core import masks
from mmvm_data.core.types import Region, Rle
from mmvm_data.formats import bench
from tests.mmvm_data.annotation.conftest import Studio
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.worlds import tree

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]


def invoke(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.cli, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def ellipse(x: float, y: float, a: float, b: float, size: tuple[int, int] = (540, 960)) -> Rle:
    ys, xs = np.mgrid[: size[0], : size[1]]
    return masks.encode((((xs - x) / a) ** 2 + ((ys - y) / b) ** 2 <= 1).astype(np.uint8))


def tasks_of(client: Client, project: Project) -> dict[str, dict[str, Any]]:
    tasks = [client.get_task(task["id"]) for task in client.iter_tasks(project.id, "id")]
    return {task["data"]["shot_id"]: task for task in tasks}


def submit(studio: Studio, task: dict[str, Any], results: list[dict[str, Any]]) -> None:
    studio.request("POST", f"/api/tasks/{task['id']}/annotations/", {"result": results, "lead_time": 5})


def test_a_real_clip_to_a_validated_case(realdata: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    folder = studio.files / "bedroom-clips"
    clip = realdata / "sam2_bedroom_video/bedroom.mp4"
    output = invoke("ingest", clip, folder / "none.mp4", "--out", folder, "--max-frames", 6, "--project", "bedroom")
    assert "none.mp4: video file is missing" in output
    assert "bedroom: 1 shot, 6 pictures" in output
    assert "1 new" in output
    client = studio.client()
    project = client.find_project("bedroom")
    assert project is not None
    before = tasks_of(client, project)
    assert "1 unchanged" in invoke("ingest", "push", folder, "--project", "bedroom")
    assert tasks_of(client, project) == before
    ((name, shot),) = iter_shots(folder)
    picture = studio.request("GET", before[name]["data"]["frames"][3])
    assert picture.content == (folder / shot.frames[3].path).read_bytes()

    # four things that are there in all pictures, two of which overlap, and one that leaves
    tracks = {
        p: [
            Region(id="1", mask=ellipse(300 + 5 * p, 320, 60, 120)),
            Region(id="2", mask=ellipse(400 + 5 * p, 200, 70, 150)),
            Region(id="3", mask=ellipse(520, 380, 60, 40)),
            *([Region(id="4", mask=ellipse(640, 360, 50, 60))] if p < 4 else []),
        ]
        for p in range(6)
    }
    results = tracks_to_results(shot, tracks, "brush")
    for number, text in ((1, "child"), (2, "child"), (3, "cushion"), (4, "cushion")):
        first = next(r for r in results if r["value"].get("labels") == [str(number)])
        results.append(
            {k: first[k] for k in ("id", "to_name", "original_width", "original_height", "item_index")}
            | {"from_name": "category", "type": "textarea", "value": {"text": [text]}}
        )
    submit(studio, before[name], results)
    assert "1 of 1 task done" in invoke("ingest", "status", folder, "--project", "bedroom")
    assert "1 shot changed" in invoke("ingest", "pull", folder, "--project", "bedroom")
    files = tree(folder)
    assert "0 shots changed" in invoke("ingest", "pull", folder, "--project", "bedroom")
    assert tree(folder) == files
    facts = json.loads(invoke("ingest", "status", folder, "--project", "bedroom", "--json"))
    assert facts["tracks"] == {"shots": 1, "objects": 4, "pictures": 6}

    source = open_source("video", folder)
    video = source.load("bedroom/shot000")
    assert video.annotated == tuple(range(6))
    assert {p: [r.mask for r in video.regions(p)] for p in range(6)} == {p: [r.mask for r in tracks[p]] for p in tracks}
    assert [r.category for r in video.regions(5)] == ["child", "child", "cushion"]

    out = studio.files / "bedroom-bench"
    invoke("build", "--source", "video", "--root", folder, "--out", out, "--max-gap", 0, "--min-sharpness", 0)
    cases = list(bench.read(out))
    assert cases
    assert {c.provenance.video for c in cases if c.provenance} == {"bedroom/shot000"}
    assert "no problems" in invoke("validate", out, "--deep")
    original = next((out / "match_bench").rglob("FRAME00_ORI.jpg"))
    assert original.read_bytes() in {(folder / f.path).read_bytes() for f in shot.frames}


@pytest.fixture
def cut(studio: Studio, request: pytest.FixtureRequest) -> Path:
    """Three small shots, named after the test."""
    folder = studio.files / request.node.name[:40]
    folder.mkdir()
    clip = write_clip(folder / "small.mp4", (30, 30, 30))
    assert len(cut_clips([clip], folder, CutOptions(max_frames=3)).clips[0].shots) == 3
    return folder


def square(shot: Any, picture: int, label: str = "1", x: int = 20) -> list[dict[str, Any]]:
    rle = ellipse(x, 60, 15, 15, (120, 160))
    return tracks_to_results(shot, {picture: [Region(id=label, mask=rle)]}, "brush")


def test_bad_annotations_change_nothing_and_later_ones_count(cut: Path, studio: Studio) -> None:
    client = studio.client()
    project = push(cut, client, cut.name).project
    tasks, shots = tasks_of(client, project), dict(iter_shots(cut))
    one, two, three = sorted(shots)
    good = square(shots[one], 0) + square(shots[one], 1)
    submit(studio, tasks[one], good)
    submit(studio, tasks[two], [])
    bad = [r | {"original_width": 99} for r in square(shots[three], 0)]
    submit(studio, tasks[three], bad)
    done = pull(cut, client, project)
    assert done.changed == [one]
    problems = dict(done.problems)
    assert len(problems) == 2
    assert any(two in where and "is empty" in what for where, what in problems.items())
    assert any(three in where and "99 x 120" in what for where, what in problems.items())
    # somebody empties what was good: the tracks stay, and the history has both
    kept = (cut / f"tracks/{one}.json").read_bytes()
    submit(studio, tasks[one], [])
    done = pull(cut, client, project)
    assert done.changed == []
    assert (cut / f"tracks/{one}.json").read_bytes() == kept
    after = tree(cut)
    assert pull(cut, client, project).new == 0
    assert tree(cut) == after
    # what was changed by hand stays until somebody draws again; a file that is gone comes back
    (cut / f"tracks/{one}.json").write_bytes(kept.replace(b'"video"', b'"mine"', 1))
    assert pull(cut, client, project).changed == []
    submit(studio, tasks[one], good + square(shots[one], 2, "2", 90))
    assert pull(cut, client, project).changed == [one]
    assert open_source("video", cut).load(one).annotated == (0, 1, 2)
    before = (cut / f"tracks/{one}.json").read_bytes()
    (cut / f"tracks/{one}.json").unlink()
    assert pull(cut, client, project).changed == [one]
    assert (cut / f"tracks/{one}.json").read_bytes() == before
    lines = (cut / "annotation/history.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 5


def test_a_stopped_push_continues_and_an_export_is_read(
    cut: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mmvm_data.annotation.labelstudio.sync.BATCH_TASKS", 1)
    client = studio.client()

    def stop(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(cut, client, cut.name, progress=stop)
    done = push(cut, client, cut.name)
    assert (done.created, done.unchanged) == (1, 2)
    tasks, shots = tasks_of(client, done.project), dict(iter_shots(cut))
    name = sorted(shots)[1]
    submit(studio, tasks[name], square(shots[name], 0) + square(shots[name], 2))
    file = tmp_path / "export.json"
    file.write_text(
        json.dumps(studio.request("GET", f"/api/projects/{done.project.id}/export", exportType="JSON").json())
    )
    assert pull(cut, None, None, file).changed == [name]
    # an image that is missing is named
    first = sorted(shots)[0]
    (cut / shots[first].frames[0].path).unlink()
    assert push(cut, client, cut.name).problems[0][0] == first
