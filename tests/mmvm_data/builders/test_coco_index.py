"""The index of files whose lists refer to each other, against a plain reading of the whole file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.builders.common import coco_index
from mmvm_data.builders.common.annotation_index import AnnotationIndex
from mmvm_data.builders.common.coco_index import open_coco_index
from mmvm_data.builders.common.json_spans import read_object
from mmvm_data.builders.common.single_file import find_frames_folder, sample_positions
from mmvm_data.core.errors import InputError


def read_parts(file: Path, index: AnnotationIndex) -> dict[str, list[Any]]:
    """Owner -> its parts, read at their places."""
    return {name: [read_object(file, *s) for s in index.parts_of(k)] for k, name in enumerate(index.ids)}


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_grouped_by_owner_in_file_order(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    owners = [{"id": k, "name": "é" * k} for k in rng.sample(range(50), 12)]
    listed = [{"id": k, "image_id": rng.choice(owners)["id"], "x": [k] * rng.randrange(9)} for k in range(200)]
    content = {"annotations": listed, "images": owners, "categories": [{"id": 3, "name": "ü"}], "info": {"images": 1}}
    keys = list(content)
    rng.shuffle(keys)
    file = tmp_path / "x.json"
    file.write_text(json.dumps({key: content[key] for key in keys}, ensure_ascii=seed % 2 == 0))
    index = open_coco_index(file, None, "images", "image_id", ("annotations",))
    assert list(index.ids) == [str(owner["id"]) for owner in owners]
    assert [read_object(file, *span) for span in index.spans.tolist()] == owners
    assert read_parts(file, index) == {str(o["id"]): [p for p in listed if p["image_id"] == o["id"]] for o in owners}
    assert (index.categories, index.rejects) == ({"3": "ü"}, ())


def test_the_index_is_kept_for_its_own_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"images": [{"id": 1}], "annotations": [{"image_id": 1}], "categories": []}))
    first = open_coco_index(file, tmp_path / "cache", "images", "image_id", ("annotations",))
    with monkeypatch.context() as patched:
        patched.setattr(coco_index, "build_coco_index", lambda *_, **__: pytest.fail("read again"))
        again = open_coco_index(file, tmp_path / "cache", "images", "image_id", ("annotations",))
        assert read_parts(file, again) == read_parts(file, first) == {"1": [{"image_id": 1}]}
    with pytest.raises(InputError, match="the key 'videos' is missing"):
        open_coco_index(file, tmp_path / "cache", "videos", "video_id", ("annotations",))


def test_what_cannot_be_linked_is_a_reject(tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "images": [{"id": 1}, {"id": 1}, {"id": None}, 5, {"id": 2}],
        "annotations": [{"image_id": 9}, {}, {"image_id": 2}, None],
        "categories": [{"id": 1}, {"id": 2, "name": "x"}],
    }
    file = tmp_path / "x.json"
    file.write_text(json.dumps(content))
    index = open_coco_index(file, None, "images", "image_id", ("annotations",))
    assert index.ids == ("2",)
    assert {(video, where) for video, _, where in index.rejects} == {
        ("", "images[2]"), ("", "images[3]"), ("", "annotations[1]"), ("", "annotations[3]"), ("", "categories[0]"),
        ("1", "images[1].id"), ("9", "image_id"),
    }  # fmt: skip
    for key in content:
        file.write_text(json.dumps(content | {key: {}}))
        with pytest.raises(InputError, match=f"{key}: a list is expected, found dict"):
            open_coco_index(file, None, "images", "image_id", ("annotations",))


def test_frames_folder_is_found_by_any_existing_name(tmp_path: Path) -> None:
    (tmp_path / "b/frames").mkdir(parents=True)
    (tmp_path / "b/frames/2.jpg").touch()
    bases, folders = (tmp_path / "a", tmp_path / "b"), ("images", "frames")
    found = find_frames_folder(bases, folders, [None, "../x", "1.jpg", "2.jpg"], tmp_path / "x.json", "frames")
    assert found == (tmp_path / "b", tmp_path / "b/frames")
    with pytest.raises(InputError, match=r"no folder such as frames holds 1\.jpg"):
        find_frames_folder(bases, folders, ["1.jpg", "../b/frames/2.jpg"], tmp_path / "x.json", "frames")
    assert find_frames_folder(bases, folders, [], tmp_path / "x.json", "frames") == (tmp_path / "a", tmp_path / "a")
    elsewhere, names = tmp_path / "c", ["1.jpg", "2.jpg", "3.jpg"]
    for folder, present in (("x/pictures", names[:2]), ("x/thumbnails", names[:1]), ("y", ())):
        (elsewhere / folder).mkdir(parents=True)
        for name in present:
            (elsewhere / folder / name).touch()
    (elsewhere / "zloop").symlink_to(elsewhere / "x")
    found = find_frames_folder((elsewhere,), folders, names, tmp_path / "x.json", "frames")
    assert found == (elsewhere, elsewhere / "x/pictures")
    (elsewhere / "x/thumbnails/2.jpg").touch()
    with pytest.raises(InputError, match=r"such as frames, holds them, but x/pictures and x/thumbnails both do"):
        find_frames_folder((elsewhere,), folders, names, tmp_path / "x.json", "frames")
    assert sample_positions(0) == []
    assert sample_positions(3) == [0, 1, 2]
    assert (len(sample_positions(10_000)), sample_positions(10_000)[-1]) == (20, 9999)
