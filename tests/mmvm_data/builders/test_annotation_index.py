"""The index of a YouTube-VIS file: kept, checked, small; and 500 broken files through the whole reader."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.builders import ytvis
from mmvm_data.builders.ytvis import open_ytvis
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from tests.ytvis_files import FRAMES, H, W, make_content, segmentation, write_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_files(tmp_path, make_content())


def test_an_unknown_video_is_an_error(root: Path) -> None:
    with pytest.raises(InputError, match="no usable video '9'"):
        open_ytvis("ytvis", root).load("9")


def test_a_file_that_changes_under_an_open_source_is_an_error(root: Path) -> None:
    source = open_ytvis("ytvis", root)
    video = source.load("1")
    content = make_content()
    content["videos"].reverse()
    content["annotations"].reverse()
    (root / "train.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"changed after it was opened|not valid JSON"):
        source.load("1")
    with pytest.raises(InputError, match=r"changed after it was opened|not valid JSON"):
        video.regions(0)


def test_annotations_that_change_their_video_in_place_are_noticed(root: Path) -> None:
    source = open_ytvis("ytvis", root)
    video = source.load("1")
    file = root / "train.json"
    text = file.read_text()
    file.write_text(text.replace('"video_id": 1,', '"video_id": 2,'))
    assert file.stat().st_size == len(text.encode())
    with pytest.raises(InputError, match="changed after it was opened"):
        video.regions(0)


def test_annotations_in_any_order_find_their_video_and_keep_the_order_of_the_file(tmp_path: Path) -> None:
    content = make_content(7, 25)
    random.Random(2).shuffle(content["annotations"])
    random.Random(3).shuffle(content["videos"])
    for k, annotation in enumerate(content["annotations"]):
        annotation["id"] = 5000 + k
        annotation["segmentations"][0] = segmentation("text", k)[0]
    source = open_ytvis("ytvis", write_files(tmp_path, content))
    assert list(source.videos) == [str(v["id"]) for v in content["videos"]]
    for video in source.videos:
        expected = [str(a["id"]) for a in content["annotations"] if str(a["video_id"]) == video]
        assert [r.id for r in source.load(video).regions(0)] == expected


def test_the_index_is_kept_and_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_content()
    content["annotations"][1]["id"] = 0
    (root / "train.json").write_text(json.dumps(content))
    cache = root / "new" / "cache"
    first = open_ytvis("ytvis", root, cache)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(ytvis, "build_ytvis_index", lambda file: pytest.fail("read again"))
    again = open_ytvis("ytvis", root, cache)
    assert (again.videos, again.rejects) == (first.videos, first.rejects)
    assert list(again.videos) == ["2", "3"]
    for video in again.videos:
        for position in range(FRAMES):
            assert again.load(video).regions(position) == first.load(video).regions(position)


def test_a_stale_or_damaged_index_is_made_again(root: Path) -> None:
    cache = root / "cache"
    whole = open_ytvis("ytvis", root, cache)
    kept = next(cache.iterdir())
    data = kept.read_bytes()
    rng = random.Random(5)
    for _ in range(40):
        at = rng.randrange(len(data))
        kept.write_bytes(rng.choice((data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], b"")))
        assert open_ytvis("ytvis", root, cache).videos == whole.videos
        assert kept.read_bytes() == data
    (root / "train.json").write_text(json.dumps(make_content(2)))
    assert len(open_ytvis("ytvis", root, cache).videos) == 2
    stamp = os.stat(root / "train.json")
    os.utime(root / "train.json", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    before = kept.read_bytes()
    open_ytvis("ytvis", root, cache)
    assert kept.read_bytes() != before


def test_a_cache_that_cannot_be_written_only_costs_time(root: Path) -> None:
    (root / "file").write_text("")
    assert len(open_ytvis("ytvis", root, root / "file").videos) == 3


def test_memory_is_that_of_one_video(tmp_path: Path) -> None:
    """Below 2 x one video's annotations plus the index, however many videos there are."""
    content = make_content(20, 5)
    for annotation in content["annotations"]:
        # nothing to decode in the last frame: what is measured is the annotations
        annotation["segmentations"] = [{"size": [H, W], "counts": "0" * 5000} for _ in range(FRAMES - 1)] + [None]
    write_files(tmp_path, content)
    one = sum(len(json.dumps(a)) for a in content["annotations"] if a["video_id"] == 1)
    assert (tmp_path / "train.json").stat().st_size > 19 * one
    source = open_ytvis("ytvis", tmp_path, tmp_path)
    assert source.load("1").regions(3) == ()
    tracemalloc.start()
    for video in source.videos:
        source.load(video).regions(3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.9 * one < peak < 2 * one


@pytest.mark.parametrize("objects", [1, 5])
@pytest.mark.parametrize(
    "mask",
    [
        {"size": [H, W], "counts": "0" * 5000},
        {"size": [H, W], "counts": list(range(300, 1300))},
        [[k + 0.25 for k in range(800)]],
        [list(range(1000, 1800)), list(range(1000, 1100))],
    ],
    ids=["coded", "runs", "polygon", "polygons of whole numbers"],
)
def test_every_form_of_a_mask_is_kept_in_its_bytes_in_the_file(tmp_path: Path, mask: object, objects: int) -> None:
    """As above, for videos of a usual length; runs and polygons as json gives them take five times as much."""
    content = make_content(2, objects)
    for video in content["videos"]:
        video["file_names"] = [video["file_names"][0], *(f"{k}.jpg" for k in range(1, 50))]
        video["length"] = 50
    for annotation in content["annotations"]:
        annotation["segmentations"] = [None] + [mask] * 49
    write_files(tmp_path, content)
    one = sum(len(json.dumps(a)) for a in content["annotations"] if a["video_id"] == 1)
    source = open_ytvis("ytvis", tmp_path)
    assert source.load("1").regions(0) == ()
    tracemalloc.start()
    for video in source.videos:
        source.load(video).regions(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.6 * one < peak < 2 * one


def _mutated(data: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    at = rng.randrange(len(data))
    if kind == 0:
        return data[:at] + data[at + rng.randrange(1, 20) :]
    if kind == 1:
        return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4))) + data[at + 1 :]
    if kind == 2:
        return data[:at]
    end = min(len(data), at + rng.randrange(200))
    return data[:end] + data[at:]


def _field_edited(content: Any, rng: random.Random) -> Any:
    """One value somewhere in the file replaced, removed or doubled."""
    at, parent, key = content, None, None
    for _ in range(rng.randrange(1, 6)):
        if isinstance(at, dict) and at:
            parent, key = at, rng.choice(sorted(at))
        elif isinstance(at, list) and at:
            parent, key = at, rng.randrange(len(at))
        else:
            break
        at = parent[key]
    odd = (
        None,
        True,
        -1,
        0,
        2,
        3.5,
        float("nan"),
        1e400,
        10**30,
        "",
        "1",
        "é\ud800",
        "../a",
        [],
        {},
        [[]],
        [1, 2],
        {"id": 1},
    )
    if rng.random() < 0.2 and parent is not None:
        del parent[key]
    elif parent is not None:
        parent[key] = rng.choice(odd)
    return content


def test_mutated_files_give_rejects_or_one_error(root: Path) -> None:
    clean = (root / "train.json").read_bytes()
    rng = random.Random(11)
    outcomes = {"opened": 0, "refused": 0, "video": 0, "frame": 0}
    for k in range(500):
        data = json.dumps(_field_edited(json.loads(clean), rng)).encode() if k % 2 else _mutated(clean, rng)
        (root / "train.json").write_bytes(data)
        try:
            source = open_ytvis("ytvis", root)
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
            continue
        outcomes["opened"] += 1
        assert len(set(source.videos)) == len(source.videos)
        json.dumps([r.to_json() for r in source.rejects], ensure_ascii=False).encode()
        for name in source.videos:
            try:
                video = source.load(name)
            except InputError:
                outcomes["video"] += 1
                continue
            for position in video.annotated:
                try:
                    for region in video.regions(position):
                        region.model_dump_json()
                        assert region.mask is not None
                        assert masks.decode(region.mask).any()
                except InputError:
                    outcomes["frame"] += 1
    assert all(count > 10 for count in outcomes.values()), outcomes
