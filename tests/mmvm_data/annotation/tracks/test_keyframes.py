"""Pictures between keyframes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data.annotation.labelstudio.client import Project
from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.follow import FlowTracker
from mmvm_data.annotation.tracks.interpret import read_tracks
from mmvm_data.annotation.tracks.keyframes import fill_pictures
from mmvm_data.annotation.tracks.layout import iter_shots
from mmvm_data.annotation.tracks.propose import ProposalOptions, fill_tracks, propose_tracks
from mmvm_data.annotation.tracks.task import build_task, tracks_to_results
from mmvm_data.core import masks
from mmvm_data.core.types import Region
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.mmvm_data.annotation.tracks.segmenters import ColorSegmenter


def box(x: float, width: float = 10) -> Region:
    return Region(id="3", box=(x, 5, width, 20), category="dog")


def test_boxes_move_evenly_with_the_number_of_the_frame() -> None:
    filled = fill_pictures({1: box(10), 4: box(40, 40)}, [0, 10, 15, 30, 40, 90])
    assert {position: region.box for position, region in filled.items()} == {
        1: (10, 5, 10, 20),
        2: (15, 5, 15, 20),
        3: (30, 5, 30, 20),
        4: (40, 5, 40, 20),
        5: (40, 5, 40, 20),  # copied
    }
    assert {(region.id, region.category) for region in filled.values()} == {("3", "dog")}


def test_masks_are_copied_from_the_picture_before() -> None:
    bitmap = np.zeros((20, 30), np.uint8)
    bitmap[3:9, 4:9] = 1
    first = Region(id="1", mask=masks.encode(bitmap))
    second = Region(id="1", mask=masks.encode(np.ones((20, 30), np.uint8)))
    filled = fill_pictures({0: first, 2: second}, [3, 4, 5, 6])
    assert filled == {0: first, 1: first, 2: second, 3: second}


def test_a_box_and_a_mask_are_not_mixed() -> None:
    mask = Region(id="1", mask=masks.encode(np.ones((4, 4), np.uint8)))
    filled = fill_pictures({0: box(10), 2: mask}, [0, 1, 2])
    assert filled[1] == box(10)


class OneTask:
    """A server with one task, whose annotation is ``drawn``."""

    def __init__(self, data: dict[str, Any], drawn: list[dict[str, Any]]) -> None:
        annotation = {"id": 1, "result": drawn, "updated_at": "2030-01-01T00:00:00Z"}
        self.task = {"id": 5, "data": data, "annotations": [annotation], "drafts": [], "predictions": []}

    def iter_tasks(self, project: int, include: str) -> list[dict[str, Any]]:
        return [self.task]

    def get_task(self, number: int) -> dict[str, Any]:
        return self.task

    def create_prediction(
        self, task: int, model_version: str, result: list[dict[str, Any]], score: float | None = None
    ) -> None:
        prediction = {"id": 9, "model_version": model_version, "result": result, "score": score}
        self.task["predictions"].append(prediction)

    def delete_prediction(self, prediction: int) -> None:
        self.task["predictions"] = [p for p in self.task["predictions"] if p["id"] != prediction]


def test_a_shot_gets_a_prediction_for_the_pictures_between(tmp_path: Path) -> None:
    assert cut_clips([write_clip(tmp_path / "a.mp4", (40,))], tmp_path, CutOptions(max_frames=5)).problems == []
    ((name, shot),) = iter_shots(tmp_path)
    last = len(shot.frames) - 1
    drawn = {0: [box(10), Region(id="4", box=(50, 60, 8, 8))], last: [box(90, 30)]}
    server: Any = OneTask(build_task(name, shot, str)["data"], tracks_to_results(shot, drawn))
    project = Project(1, "clips", "")
    done = fill_tracks(tmp_path, server, project, ProposalOptions("copy"))
    assert (done.proposed, done.problems) == ([name], [])
    video = read_tracks(name, shot, server.task["predictions"][0]["result"]).video
    assert video.annotated == tuple(range(len(shot.frames)))
    span = shot.frames[last].index - shot.frames[0].index
    for position, frame in enumerate(shot.frames):
        regions = {region.id: region.box for region in video.regions(position)}
        share = (frame.index - shot.frames[0].index) / span
        assert np.allclose(regions["3"] or (), (10 + 80 * share, 5, 10 + 20 * share, 20), atol=0.02)
        assert np.allclose(regions["4"] or (), (50, 60, 8, 8), atol=0.02)
    assert fill_tracks(tmp_path, server, project, ProposalOptions("copy")).unchanged == 1
    assert len(server.task["predictions"]) == 1
    assert server.task["predictions"][0]["score"] is None


def test_a_prediction_has_the_score_of_its_most_doubtful_mask(tmp_path: Path) -> None:
    assert cut_clips([write_clip(tmp_path / "a.mp4", (40,))], tmp_path, CutOptions(max_frames=3)).problems == []
    ((name, shot),) = iter_shots(tmp_path)
    square = {0: [Region(id="2", box=(8, 36, 56, 58))]}
    server: Any = OneTask(build_task(name, shot, str)["data"], tracks_to_results(shot, square))
    tracker = FlowTracker(ColorSegmenter())
    done = propose_tracks(tmp_path, server, Project(1, "clips", ""), tracker, ProposalOptions("flow"))
    assert (done.proposed, done.problems) == ([name], [])
    (prediction,) = server.task["predictions"]
    scores = {result["item_index"]: result["score"] for result in prediction["result"]}
    assert set(scores) == {0, 1, 2}
    assert prediction["score"] == min(scores.values()) < 1
