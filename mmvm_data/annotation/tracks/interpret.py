"""One annotation of a shot -> tracks: objects under their numbers, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

from mmvm_data.annotation.labelstudio.shapes import Result, check_results, results_to_region
from mmvm_data.annotation.tracks.layout import Shot
from mmvm_data.annotation.tracks.task import CATEGORY, object_slot
from mmvm_data.annotation.tracks.timeline import expand_keyframes
from mmvm_data.core import masks
from mmvm_data.core.types import Box, Region, Video

SHAPE_TYPES: Final = ("brush", "polygon", "rectangle")
CLICK_TYPE: Final = "keypoint"


@dataclass(frozen=True)
class TrackAnnotation:
    """Tracks of a shot.

    Attributes:
        video: with its tracks; its annotated frames are those in which something was drawn.
        notes: what somebody may want to look at again; one line each.
    """

    video: Video
    notes: tuple[str, ...]


def group_shapes(results: Any, shot: Shot, types: Sequence[str]) -> dict[tuple[int, str], list[Result]]:
    """The shapes of some types by (position in the shot's frames, number of the object), in that order.

    Raises:
        ValueError: a shape has no number, or lies on a frame that the shot does not have; one line.
    """
    results = check_results(results)
    labels = _object_labels(results)
    groups: dict[tuple[int, str], list[Result]] = {}
    for result in results:
        if result.get("type") not in types:
            continue
        position = result.get("item_index", 0)
        if not isinstance(position, int) or not 0 <= position < len(shot.frames):
            raise ValueError(f"a {result['type']} lies on picture {position}, there are {len(shot.frames)} from 0")
        label = labels.get(result.get("id"))
        if not isinstance(label, list) or len(label) != 1 or not str(label[0]).isdecimal():
            raise ValueError(f"a {result['type']} on picture {position + 1} has no number")
        groups.setdefault((position, str(int(label[0]))), []).append(result)
    return {key: groups[key] for key in sorted(groups, key=lambda key: (key[0], int(key[1])))}


def _object_labels(results: Sequence[Result]) -> dict[Any, Any]:
    """Id of a shape -> its labels."""
    return {r.get("id"): r["value"].get("labels") for r in results if r.get("type") == "labels"}


def read_tracks(name: str, shot: Shot, results: Any) -> TrackAnnotation:
    """The tracks of an annotation.

    Shapes of one number in one frame are pieces of one mask. A shot with boxes becomes a video of boxes, masks in it
    too. Boxes of a timeline become one in each picture, see ``timeline.expand_keyframes``.

    Args:
        name: ``<clip>/<shot>``.
        shot: as it was cut.
        results: of the annotation, as the server gives them.

    Raises:
        ValueError: what is missing or wrong; one line.
    """
    results = expand_keyframes(results, shot)
    shapes = group_shapes(results, shot, SHAPE_TYPES)
    if not shapes:
        if group_shapes(results, shot, (CLICK_TYPE,)):
            raise ValueError("holds only clicks, which `mmvm-data ingest propagate` makes masks of")
        raise ValueError("is empty: nothing is drawn")
    categories = _read_categories(results)
    tracks: dict[int, list[Region]] = {}
    notes: list[str] = []
    for (position, label), pieces in shapes.items():
        where = f"object {label} on picture {position + 1} (frame {shot.frames[position].index})"
        try:
            region = results_to_region(label, object_slot(shot, position, label), pieces, categories.get(label))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if region is None:
            notes.append(f"{where} has no pixel, and is left out")
            continue
        if len(pieces) > 1 and _lie_far_apart(label, shot, position, pieces):
            notes.append(f"{where} is drawn in pieces that lie far apart: is it one thing?")
        tracks.setdefault(position, []).append(region)
    if not tracks:
        raise ValueError("holds no pixel")
    prompt: Literal["mask", "box"] = "mask"
    if any(region.box is not None for regions in tracks.values() for region in regions):
        prompt = "box"
        masked = sum(region.mask is not None for regions in tracks.values() for region in regions)
        if masked:
            notes.append(f"{masked} masks became boxes, since other objects of the shot are boxes")
        tracks = {p: [_to_box_region(region) for region in regions] for p, regions in tracks.items()}
    if len(tracks) < 2:
        notes.append("only one picture is drawn on; a case needs two")
    video = Video(
        id=name,
        source="video",
        frames=shot.frames,
        annotated=tuple(tracks),
        prompt=prompt,
        tracks={position: tuple(regions) for position, regions in tracks.items()},
    )
    return TrackAnnotation(video, tuple(notes))


def _read_categories(results: Sequence[Result]) -> dict[str, str]:
    """Number of an object -> its category, which any one of its shapes may carry."""
    labels = _object_labels(results)
    categories: dict[str, str] = {}
    for result in results:
        label = labels.get(result.get("id"))
        if result.get("from_name") != CATEGORY or not isinstance(label, list) or len(label) != 1:
            continue
        values = result["value"].get("text") or result["value"].get("choices") or []
        text = " ".join(str(v) for v in (values if isinstance(values, list) else [values])).strip()
        number = str(label[0])
        if text and categories.setdefault(number, text) != text:
            raise ValueError(f"object {number} is called {categories[number]!r} and {text!r}")
    return categories


def _lie_far_apart(label: str, shot: Shot, position: int, pieces: Sequence[Result]) -> bool:
    """Whether two pieces are farther from each other than the larger of them is wide or high."""
    slot = object_slot(shot, position, label)
    boxes = [
        _bounding_box(region) for piece in pieces if (region := results_to_region(label, slot, [piece])) is not None
    ]
    for a, b in combinations(boxes, 2):
        across = max(a[0], b[0]) - min(a[0] + a[2], b[0] + b[2])
        down = max(a[1], b[1]) - min(a[1] + a[3], b[1] + b[3])
        if max(across, down) > max(a[2], a[3], b[2], b[3]):
            return True
    return False


def _bounding_box(region: Region) -> Box:
    if region.mask is not None:
        return masks.bbox(region.mask)
    assert region.box is not None  # a region has one of the two
    return region.box


def _to_box_region(region: Region) -> Region:
    return region.model_copy(update={"mask": None, "box": _bounding_box(region)})
