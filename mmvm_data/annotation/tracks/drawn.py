"""What one annotation of a shot says: objects under their numbers, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

from mmvm_data.annotation.labelstudio.shapes import Result, drawn
from mmvm_data.annotation.tracks.layout import Shot
from mmvm_data.annotation.tracks.project import CATEGORY, place_of
from mmvm_data.core import masks
from mmvm_data.core.types import Box, Region, Video

_SHAPES: Final = ("brush", "polygon", "rectangle")
CLICK: Final = "keypoint"


@dataclass(frozen=True)
class Drawn:
    """Tracks of a shot.

    Attributes:
        video: with its tracks; the frames in which something was drawn are annotated.
        notes: what somebody may want to look at again.
    """

    video: Video
    notes: tuple[str, ...]


def shapes_of(results: Sequence[Any], shot: Shot, kinds: Sequence[str]) -> dict[tuple[int, str], list[Result]]:
    """The shapes of some kinds by (position in the shot's frames, number of the object), in that order.

    Raises:
        ValueError: a shape has no number, or lies on a frame that the shot does not have; one line.
    """
    if not isinstance(results, list) or not all(
        isinstance(r, dict) and isinstance(r.get("value"), dict) for r in results
    ):
        raise ValueError("its result is no list of regions")
    labels = {r.get("id"): r["value"].get("labels") for r in results if r.get("type") == "labels"}
    found: dict[tuple[int, str], list[Result]] = {}
    for result in results:
        if result.get("type") not in kinds:
            continue
        position = result.get("item_index", 0)
        if not isinstance(position, int) or not 0 <= position < len(shot.frames):
            raise ValueError(f"a {result['type']} lies on picture {position}, there are {len(shot.frames)} from 0")
        label = labels.get(result.get("id"))
        if not isinstance(label, list) or len(label) != 1 or not str(label[0]).isdecimal():
            raise ValueError(f"a {result['type']} on picture {position + 1} has no number")
        found.setdefault((position, str(int(label[0]))), []).append(result)
    return {key: found[key] for key in sorted(found, key=lambda key: (key[0], int(key[1])))}


def tracks_of(name: str, shot: Shot, results: Sequence[Any]) -> Drawn:
    """The tracks that an annotation draws.

    Shapes of one number in one frame are pieces of one mask. A shot with boxes becomes a video of boxes,
    masks in it too.

    Args:
        name: ``<clip>/<shot>``.
        shot: as it was cut.
        results: of the annotation, as the server gives them.

    Raises:
        ValueError: what is missing or wrong; one line.
    """
    shapes = shapes_of(results, shot, _SHAPES)
    if not shapes:
        if shapes_of(results, shot, (CLICK,)):
            raise ValueError("holds only clicks, which `mmvm-data ingest propagate` makes masks of")
        raise ValueError("is empty: nothing is drawn")
    categories = _categories(results)
    tracks: dict[int, list[Region]] = {}
    notes: list[str] = []
    for (position, label), pieces in shapes.items():
        where = f"object {label} on picture {position + 1} (frame {shot.frames[position].index})"
        try:
            region = drawn(label, place_of(shot, position, label), pieces, categories.get(label))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if region is None:
            notes.append(f"{where} has no pixel, and is left out")
            continue
        if len(pieces) > 1 and _apart(label, shot, position, pieces):
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
        tracks = {p: [_boxed(region) for region in regions] for p, regions in tracks.items()}
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
    return Drawn(video, tuple(notes))


def _categories(results: Sequence[Result]) -> dict[str, str]:
    """Number of an object -> its category, which need be said once."""
    labels = {r.get("id"): r["value"].get("labels") for r in results if r.get("type") == "labels"}
    found: dict[str, str] = {}
    for result in results:
        label = labels.get(result.get("id"))
        if result.get("from_name") != CATEGORY or not isinstance(label, list) or len(label) != 1:
            continue
        said = result["value"].get("text") or result["value"].get("choices") or []
        text = " ".join(str(t) for t in (said if isinstance(said, list) else [said])).strip()
        number = str(label[0])
        if text and found.setdefault(number, text) != text:
            raise ValueError(f"object {number} is called {found[number]!r} and {text!r}")
    return found


def _apart(label: str, shot: Shot, position: int, pieces: Sequence[Result]) -> bool:
    """Whether two pieces are farther from each other than the larger of them is wide or high."""
    place = place_of(shot, position, label)
    boxes = [_box(region) for piece in pieces if (region := drawn(label, place, [piece])) is not None]
    for a, b in combinations(boxes, 2):
        across = max(a[0], b[0]) - min(a[0] + a[2], b[0] + b[2])
        down = max(a[1], b[1]) - min(a[1] + a[3], b[1] + b[3])
        if max(across, down) > max(a[2], a[3], b[2], b[3]):
            return True
    return False


def _box(region: Region) -> Box:
    if region.mask is not None:
        return masks.bbox(region.mask)
    assert region.box is not None  # a region has one of the two
    return region.box


def _boxed(region: Region) -> Region:
    return region.model_copy(update={"mask": None, "box": _box(region)})
