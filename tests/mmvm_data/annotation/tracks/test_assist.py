"""The backend over HTTP, as Label Studio asks it."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmvm_data.annotation.labelstudio.ml_backend import open_backend
from mmvm_data.annotation.tracks.assist import Assistant, CachedSegmenter
from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.follow import FlowTracker, overlap
from mmvm_data.annotation.tracks.interpret import read_tracks
from mmvm_data.annotation.tracks.layout import Shot, iter_shots
from mmvm_data.annotation.tracks.task import build_task, tracks_to_results
from mmvm_data.core import masks
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Region
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.mmvm_data.annotation.tracks.segmenters import ColorSegmenter

NAME = "a/shot000"
Ask = Callable[[str, Any], tuple[int, Any]]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assist") / "clips"
    folder.mkdir()
    assert cut_clips([write_clip(folder / "a.mp4", (40,))], folder, CutOptions(max_frames=4)).problems == []
    return folder


@pytest.fixture(scope="module")
def segmenter() -> ColorSegmenter:
    return ColorSegmenter()


def iou_with_square(shot: Shot, position: int, region: Region) -> float:
    """IoU of a mask with the square of ``write_clip`` in a picture of the shot."""
    assert region.mask is not None
    left = 10 + 90 * shot.frames[position].index // 40
    truth = np.zeros((120, 160), bool)
    truth[40:90, left : left + 50] = True
    return overlap(masks.decode(region.mask).astype(bool), truth)


def make_assistant(clips: Path, segmenter: ColorSegmenter) -> Assistant:
    cached = CachedSegmenter(segmenter)
    return Assistant(clips, FlowTracker(cached), cached.embed)


@pytest.fixture(scope="module")
def ask(clips: Path, segmenter: ColorSegmenter) -> Iterator[Ask]:
    with open_backend(make_assistant(clips, segmenter), "127.0.0.1", 0) as backend:
        threading.Thread(target=backend.serve_forever, daemon=True).start()

        def send(path: str, body: Any = None) -> tuple[int, Any]:
            data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{backend.server_port}{path}", data, 30) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)

        yield send
        backend.shutdown()


def the_shot(clips: Path) -> Shot:
    return dict(iter_shots(clips))[NAME]


def click(x: float, y: float, picture: int = 0, label: str = "2") -> list[dict[str, Any]]:
    """A key point at shares of the picture, as the editor sends it."""
    common = {"id": "k", "to_name": "original1", "item_index": picture, "original_width": 160, "original_height": 120}
    value = {"x": 100 * x, "y": 100 * y, "width": 0.5}
    return [
        common | {"type": "keypoint", "from_name": "click1", "value": value, "is_positive": True},
        common | {"type": "labels", "from_name": "object1", "value": value | {"labels": [label]}},
    ]


def request(clips: Path, marks: list[dict[str, Any]], drafts: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    task = build_task(NAME, the_shot(clips), str) | {"id": 1, "drafts": drafts or []}
    return {"tasks": [task], "params": {"context": {"result": marks}}}


def test_a_click_is_answered_with_masks_in_all_pictures_from_there(
    clips: Path, ask: Ask, segmenter: ColorSegmenter
) -> None:
    shot = the_shot(clips)
    count = len(shot.frames)
    status, answer = ask("/predict", request(clips, click(0.2, 0.5)))
    assert status == 200
    video = read_tracks(NAME, shot, answer["results"][0]["result"]).video
    assert video.annotated == tuple(range(count))
    for position in range(count):
        (region,) = video.regions(position)
        assert (region.id, iou_with_square(shot, position, region) > 0.85) == ("2", True)
    encoded = segmenter.encoded
    status, answer = ask("/predict", request(clips, click(0.5, 0.5, picture=1)))
    assert {result["item_index"] for result in answer["results"][0]["result"]} == set(range(1, count))
    assert segmenter.encoded == encoded  # every picture was encoded before


def draft(results: list[dict[str, Any]], day: int = 1) -> dict[str, Any]:
    return {"id": day, "result": results, "updated_at": f"2030-01-{day:02}T00:00:00Z"}


def square(clips: Path, label: str, position: int, top: int = 20, height: int = 30) -> list[dict[str, Any]]:
    """A brush over the picture that is as wide as it is."""
    mask = np.zeros((120, 160), np.uint8)
    mask[top : top + height] = 1
    region = Region(id=label, mask=masks.encode(mask))
    return [r | {"id": f"drawn-{label}"} for r in tracks_to_results(the_shot(clips), {position: [region]}, "brush")]


def positions(answer: dict[str, Any]) -> set[int]:
    return {result["item_index"] for result in answer["results"][0]["result"]}


def test_pictures_that_were_drawn_by_hand_stay_as_they_are(clips: Path, ask: Ask) -> None:
    unfinished = [square(clips, "2", 3)[0] | {"id": "unlabeled"}, *square(clips, "4", 1)]
    by_hand = [draft([*square(clips, "2", 2), *unfinished], 2), draft([], 1)]
    _, answer = ask("/predict", request(clips, click(0.2, 0.5), by_hand))
    assert positions(answer) == {0, 1, 3}
    region = read_tracks(NAME, the_shot(clips), answer["results"][0]["result"]).video.regions(3)[0]
    rows = np.flatnonzero(masks.decode(region.mask).any(1))  # type: ignore[arg-type]
    assert (rows[0] >= 18, rows[-1] < 60) == (True, True)  # followed from what was drawn, not from the click
    _, answer = ask("/predict", request(clips, click(0.2, 0.5, label="3"), by_hand))
    assert positions(answer) == {0, 1, 2, 3}


def test_suggestions_that_nobody_changed_are_made_again(clips: Path, ask: Ask) -> None:
    _, answer = ask("/predict", request(clips, click(0.2, 0.5)))
    accepted = [draft(answer["results"][0]["result"])]
    _, again = ask("/predict", request(clips, click(0.5, 0.5, picture=1), accepted))
    assert positions(again) == {1, 2, 3}
    assert {r["id"] for r in again["results"][0]["result"]} < {r["id"] for r in accepted[0]["result"]}  # they replace


def test_a_later_mark_mends_what_was_suggested_between_it_and_the_mark_before(clips: Path, ask: Ask) -> None:
    _, wrong = ask("/predict", request(clips, click(0.95, 0.05, label="5")))  # the ground
    accepted = wrong["results"][0]["result"]
    _, right = ask("/predict", request(clips, click(0.6, 0.5, picture=3, label="5"), [draft(accepted)]))
    video = read_tracks(NAME, the_shot(clips), right["results"][0]["result"]).video
    assert video.annotated == (1, 2, 3)
    before = read_tracks(NAME, the_shot(clips), accepted).video
    assert video.regions(1) == before.regions(1)  # nearer to the first mark
    assert min(iou_with_square(the_shot(clips), p, video.regions(p)[0]) for p in (2, 3)) > 0.85
    # without a saved mask there is nothing to mend
    _, alone = ask("/predict", request(clips, click(0.6, 0.5, picture=3, label="5")))
    assert positions(alone) == {3}
    # what was drawn by hand between the two is kept, and followed to both sides
    by_hand = square(clips, "5", 2)
    kept = [r for r in accepted if r["item_index"] != 2] + by_hand
    _, mended = ask("/predict", request(clips, click(0.6, 0.5, picture=3, label="5"), [draft(kept)]))
    assert positions(mended) == {3}
    _, mended = ask("/predict", request(clips, click(0.2, 0.5, label="5"), [draft(kept)]))
    assert positions(mended) == {0, 1}


def test_a_click_inside_a_drawn_mask_carries_it_on(clips: Path, ask: Ask) -> None:
    by_hand = [draft(square(clips, "2", 1))]
    _, answer = ask("/predict", request(clips, click(0.5, 0.3, picture=1), by_hand))
    assert positions(answer) == {1, 2, 3}
    video = read_tracks(NAME, the_shot(clips), answer["results"][0]["result"]).video
    kept = masks.decode(video.regions(1)[0].mask)  # type: ignore[arg-type]
    assert (int(kept[20:50].sum()), int(kept.sum())) == (30 * 160, 30 * 160)
    _, answer = ask("/predict", request(clips, click(0.5, 0.9, picture=1), by_hand))
    outside = read_tracks(NAME, the_shot(clips), answer["results"][0]["result"]).video.regions(1)[0]
    assert masks.decode(outside.mask)[110, 80]  # type: ignore[arg-type]


def test_clicks_beside_the_object_reach_the_model(clips: Path) -> None:
    asked: list[tuple[Any, Any]] = []

    class Recorder(ColorSegmenter):
        def segment(self, image: Any, box: Any = None, clicks: Any = (), others: Any = (), logits: Any = None) -> Any:
            asked.append((tuple(clicks), tuple(others)))
            return super().segment(image, box, clicks, others, logits)

    assistant = make_assistant(clips, Recorder())
    beside = [mark | {"is_positive": False, "id": "b"} for mark in click(0.9, 0.75)]
    (task,) = request(clips, [])["tasks"]
    assert assistant.suggest(task, [*click(0.2, 0.5), *beside])
    assert asked[0] == (((32.0, 60.0),), ((144.0, 90.0),))
    assert assistant.suggest(task, beside) == []  # nothing says where the object is


def test_what_the_server_asks_besides(clips: Path, ask: Ask, segmenter: ColorSegmenter) -> None:
    assert ask("/health", None)[1]["status"] == "UP"
    assert ask("/versions?project=1", None)[1] == {"versions": ["mmvm-data assist"]}
    assert ask("/setup", {"project": "1.2"}) == (200, {"model_version": "mmvm-data assist"})
    assert ask("/webhook", {}) == (200, {})
    assert ask("/predict", request(clips, []))[1]["results"][0]["result"] == []
    assert ask("/nothing", {})[0] == ask("/nothing", None)[0] == 404


def test_the_pictures_of_a_task_that_is_opened_are_encoded(clips: Path) -> None:
    segmenter = ColorSegmenter()
    assistant = make_assistant(clips, segmenter)
    with open_backend(assistant, "127.0.0.1", 0) as backend:
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        body = json.dumps(request(clips, []) | {"params": {"context": None}}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{backend.server_port}/predict", body, 30) as answer:
            assert json.load(answer) == {"results": [[]]}  # no prediction
        backend.shutdown()
    assert assistant._preparing is not None
    assistant._preparing.join(30)
    assert segmenter.encoded == len(the_shot(clips).frames)


def test_a_server_that_does_not_wait_is_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    class SlowModel:
        name = "slow"

        def __init__(self) -> None:
            self.was_asked, self.goes_on = threading.Event(), threading.Event()

        def suggest(self, task: dict[str, Any], marks: list[Any]) -> list[dict[str, Any]]:
            self.was_asked.set()
            self.goes_on.wait(30)
            return [{"value": "x" * 5_000_000}]  # more than the system keeps for a reader that is gone

        def prepare(self, task: dict[str, Any]) -> None: ...

    model = SlowModel()
    with open_backend(model, "127.0.0.1", 0) as backend:
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        body = json.dumps({"tasks": [{"data": {}}], "params": {"context": {"result": []}}}).encode()
        with socket.create_connection(("127.0.0.1", backend.server_port)) as reader:
            reader.sendall(b"POST /predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert model.was_asked.wait(30)
        model.goes_on.set()
        backend.shutdown()
    printed = ""
    for _ in range(300):  # until the thread has tried to answer
        printed += capfd.readouterr().err
        if printed:
            break
        time.sleep(0.1)
    assert "did not wait for this answer" in printed and "Traceback" not in printed


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not JSON"),
        ({"tasks": 3}, "expected a list of tasks"),
        ({"tasks": [{"data": []}]}, "expected a list of tasks"),
        ({"tasks": [{"data": {"shot_id": "b/shot000"}}], "params": {"context": {}}}, "there is no shot 'b/shot000'"),
    ],
)
def test_requests_that_cannot_be_answered(ask: Ask, body: Any, reason: str) -> None:
    status, answer = ask("/predict", body)
    assert status == 400
    assert reason in answer["error"]


def test_a_click_without_a_number_is_reported(clips: Path, ask: Ask) -> None:
    status, answer = ask("/predict", request(clips, click(0.2, 0.5)[:1]))
    assert (status, answer["error"]) == (400, "a keypoint on picture 1 has no number")


def test_a_port_in_use_is_named(clips: Path) -> None:
    assistant = make_assistant(clips, ColorSegmenter())
    with open_backend(assistant, "127.0.0.1", 0) as backend, pytest.raises(OptionError, match="port must be free"):
        open_backend(assistant, "127.0.0.1", backend.server_port)
