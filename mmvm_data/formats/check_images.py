"""Checks of the images of a case: files, sizes, polygons, and the marks that are drawn on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Case, Frame
from mmvm_data.formats.bench_read import Problem, problem_from_error
from mmvm_data.formats.case_images import check_orientation
from mmvm_data.formats.drawing import draw_case_image, encode_jpeg
from mmvm_data.formats.object_annotations import AnnotatedObject, read_objects
from mmvm_data.formats.tsv import annotation_name, original_name
from mmvm_data.io import media
from mmvm_data.io.files import safe_join

_TILE = 32
_MIN_MARKED = 24
_MARKS_DIFFER = 40.0
"""Marks are compared in tiles of 32 x 32 pixels, where 24 or more pixels of a tile are marked. Above this mean
difference in gray levels they count as different. Measured on DAVIS frames: JPEG of quality 75 gives up to 12, of
60 up to 19; one missing candidate 85 and more, a wrong number 150."""


@dataclass
class Report:
    """Result of a check.

    Attributes:
        cases: number of rows of the table.
        problems: what is wrong, in the order of the table.
    """

    cases: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(where, what))


class CheckedImage(NamedTuple):
    """An image of a case, with paths relative to the benchmark.

    Attributes:
        drawn, original, annotation: paths of the marked image, the clean one and the JSON.
        objects: objects of the JSON.
        areas: for each object, the number of pixels that the published reader sees.
    """

    drawn: str
    original: str
    annotation: str
    objects: list[AnnotatedObject]
    areas: list[int]


def check_image(directory: Path, path: str, where: str, report: Report) -> CheckedImage | None:
    """Check the files and objects of an image; return it, or None when its objects cannot be read."""
    drawn = PurePosixPath(path)
    image = CheckedImage(
        str(drawn),
        str(drawn.with_name(original_name(drawn.name))),
        str(drawn.with_name(annotation_name(drawn.name))),
        [],
        [],
    )
    try:
        image.objects.extend(read_objects(safe_join(directory, image.annotation, where), image.annotation))
    except InputError as error:
        report.problems.append(problem_from_error(directory, where, error))
    sizes = {(item.width, item.height) for item in image.objects}
    if len(sizes) > 1:
        report.add(f"{where}: {image.annotation}", f"objects are of images of different sizes: {sorted(sizes)}")
    for name in (image.drawn, image.original):
        try:
            file = safe_join(directory, name, where)
            width, height = min(sizes) if sizes else media.read_image_size(file)
            media.load_frame(directory, Frame(path=name, index=0, width=width, height=height))
            check_orientation(file, name)
        except InputError as error:
            report.problems.append(problem_from_error(directory, where, error))
    for number, item in enumerate(image.objects):
        image.areas.append(_check_polygons(item, f"{where}: {image.annotation}: object {number}", report))
    return image if image.objects else None


def _check_polygons(item: AnnotatedObject, where: str, report: Report) -> int:
    """Check the polygons of an object; return the number of pixels that the published reader fills."""
    if item.skipped:
        report.add(where, f"{item.skipped} polygons of odd length or under 6 values: the published reader skips them")
    size = item.height, item.width
    filled = masks.from_polygons(item.polygons, *size)
    area = masks.area(filled)
    covered = masks.area(masks.from_polygons(item.polygons, *size, rule="union")) if len(item.polygons) > 1 else area
    if covered != area:
        report.add(where, f"polygons overlap: the published reader clears {pluralize(covered - area, 'pixel')}")
    if item.rle or item.region.box:
        exact = masks.region_mask(item.region, *size)
        overlap = int(masks.intersections([filled], [exact])[0, 0])
        num_wrong = area + masks.area(exact) - 2 * overlap
        if num_wrong:
            report.add(
                where, f"polygons differ from {'rle' if item.rle else 'bbox'} in {pluralize(num_wrong, 'pixel')}"
            )
    return area


def check_marks(directory: Path, case: Case, images: list[CheckedImage], where: str, report: Report) -> None:
    """Draw the images of a case again, and compare their marks with those of the files."""
    for position, (frame, image) in enumerate(zip(case.frames, images, strict=True)):
        try:
            clean = media.read_frame_bgr(directory, frame)
            drawn = media.read_frame_bgr(directory, frame.model_copy(update={"path": image.drawn}))
            expected = draw_case_image(case, position, clean)
        except InputError:
            continue  # reported with the image
        difference = _compare_marks(clean, expected, drawn)
        if difference > _MARKS_DIFFER:
            report.add(
                f"{where}: {image.drawn}", f"marks differ from those drawn again by {difference:.0f} gray levels"
            )


def _compare_marks(clean: NDArray[np.uint8], expected: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> float:
    """Largest mean difference, over tiles, between the marks that should be there and those that are."""
    # through JPEG, so that colors bleed as they do in the file
    coded = cv2.imdecode(np.frombuffer(encode_jpeg(expected), np.uint8), cv2.IMREAD_COLOR)
    assert coded is not None
    difference = _sum_channel_differences(coded, drawn)
    marked = (_sum_channel_differences(expected, clean) > 0) | (difference > 3 * 2 * _MARKS_DIFFER)
    counts, sums = _sum_tiles(marked), _sum_tiles(difference * marked) / 3
    many = counts >= _MIN_MARKED
    return float((sums[many] / counts[many]).max()) if many.any() else 0.0


def _sum_channel_differences(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.uint16]:
    """Absolute differences summed over channels: two of uint8 [h, w, 3] -> [h, w], 0 to 765."""
    blue, green, red = cv2.split(cv2.absdiff(first, second))
    # reducing an axis of three with NumPy takes ten times as long
    return cv2.add(cv2.add(blue, green, dtype=cv2.CV_16U), red, dtype=cv2.CV_16U)  # type: ignore[return-value]


def _sum_tiles(values: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over tiles: [h, w] -> [h / 32, w / 32], rounded up."""
    rows = np.add.reduceat(values.astype(np.float64), np.arange(0, values.shape[0], _TILE), axis=0)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], _TILE), axis=1)
