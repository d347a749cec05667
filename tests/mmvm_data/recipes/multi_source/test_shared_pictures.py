"""Sources of one recipe that show the same pictures: refused with the same annotations, named with other ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.core.errors import UsageError
from mmvm_data.recipes.multi_source.plan import Plan, make_plan
from mmvm_data.recipes.multi_source.recipe import Recipe, SourceEntry
from tests.mmvm_data.recipes.multi_source.test_video_hashes import write_stills
from tests.worlds import davis


def plan(folder: Path, *sources: tuple[str, str]) -> Plan:
    """A plan of sources, each a reader and a root."""
    entries = [SourceEntry(name=f"s{k}", reader=reader, root=root) for k, (reader, root) in enumerate(sources)]
    return make_plan(Recipe(sources=tuple(entries)), folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``sets/a`` and ``b`` of other pictures; ``sets/link`` is a link to ``a``, ``linked`` has links to its videos."""
    folder = tmp_path_factory.mktemp("shared")
    davis(folder / "sets/a", videos=2, size=(60, 160))
    davis(folder / "b", videos=1, size=(60, 160))
    (folder / "sets/link").symlink_to(folder / "sets/a")
    for kind in ("JPEGImages", "Annotations"):
        (folder / f"linked/{kind}/480p").mkdir(parents=True)
        (folder / f"linked/{kind}/480p/other").symlink_to(folder / f"sets/a/{kind}/480p/clip001")
    stills = write_stills(folder / "coco", "first")
    content = json.loads((stills / "annotations/instances_train2017.json").read_text())
    for name, images in (("one", content["images"][:3]), ("two", content["images"][3:])):
        (folder / f"coco/train2017/{name}.json").write_text(json.dumps(content | {"images": images}))
    (folder / "coco/train2017/more.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "sources",
    [
        [("davis", "sets/a"), ("frames", "sets/a")],
        [("davis", "sets/a"), ("davis2016", "sets/link")],
        [("davis", "sets/a"), ("davis2016", "sets/../sets/a/JPEGImages/..")],
        [("frames", "sets/a"), ("davis", "sets/a")],
        [("davis", "linked"), ("davis", "sets/a")],
        [("coco", "coco"), ("coco", "coco/annotations/../annotations/instances_train2017.json")],
    ],
)
def test_the_same_annotations_are_refused(sources: list[Any], world: Path) -> None:
    message = (
        r"source 's1' of the recipe: .* has pictures and annotations of source 's0'|sources.1.root is that of source"
    )
    with pytest.raises(UsageError, match=message):
        plan(world, *sources)


def test_the_message_names_file_and_video(world: Path) -> None:
    with pytest.raises(UsageError) as caught:
        plan(world, ("davis", "b"), ("davis", "sets/a"), ("davis2016", "sets/link"))
    text = str(caught.value)
    file = world / "sets/a/Annotations/480p/clip000/00000.png"
    start = (
        "source 's2' of the recipe: sets/link has pictures and annotations of source 's1', such as video 'clip000' with"
    )
    assert text == f"{start} {file.resolve()}; one source may read them"


def test_other_annotations_of_the_same_pictures_are_noted(world: Path) -> None:
    made = plan(world, ("coco", "coco/train2017/more.json"), ("coco", "coco/train2017/two.json"))
    assert made.notes == (
        "sources 's0' and 's1' have pictures in common, with annotations in different files: video '1003' of the first "
        "shows those of '1003' of the second",
    )
    assert not plan(world, ("coco", "coco/train2017/one.json"), ("coco", "coco/train2017/two.json")).notes


def test_other_videos_below_a_root_are_none_of_it(world: Path) -> None:
    assert not plan(world, ("davis", "b"), ("davis", "sets/a")).notes
    assert not plan(world, ("frames", "sets/a"), ("coco", "coco")).notes
