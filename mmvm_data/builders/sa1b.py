"""SA-1B: still images with masks; views of one image stand for the frames of a video (``common.image_views``).

``sa_1.jpg`` beside ``sa_1.json``: ``image {width, height, file_name}`` and ``annotations[] {id, segmentation {size,
counts}}``.

Source: README of facebookresearch/segment-anything and ai.meta.com/datasets/segment-anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmvm_data.builders.common.annotation_index import parse_id
from mmvm_data.builders.common.folders import reject_from_error, relative_path, walk_folders
from mmvm_data.builders.common.image_views import check_not_boxes_only, open_image_views, parse_mask
from mmvm_data.builders.common.json_fields import parse_side
from mmvm_data.builders.common.json_files import read_json
from mmvm_data.builders.source import ImageObject, Source, StillImage
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame
from mmvm_data.io.files import is_utf8, list_names, printable_name, safe_join

DEPTH = 2
"""Levels below the root that are searched for images."""


def open_sa1b(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open a folder of SA-1B, or of several of its archives; a video's id is the image's name.

    Raises:
        InputError: no image with a JSON file beside it exists under the root.
    """
    rejects: list[Reject] = []
    files: dict[str, Path] = {}
    for folder in walk_folders(name, root, DEPTH, rejects):
        try:
            listed = set(list_names(folder, (".json", ".jpg")))
        except InputError as error:
            rejects.append(reject_from_error(name, root, folder.name, error))
            continue
        for file in sorted(listed):
            image, path = Path(file).stem, relative_path(root, folder / file)
            if not file.endswith(".json"):
                continue
            if not is_utf8(file):
                rejects.append(Reject(name, printable_name(image), -1, "the file's name is not UTF-8", path))
            elif f"{image}.jpg" not in listed:
                rejects.append(Reject(name, image, -1, f"masks without an image; {image}.jpg is expected", path))
            elif image in files:
                reason = f"two images have the same name, {relative_path(root, files[image])} is read"
                rejects.append(Reject(name, image, -1, reason, path))
            else:
                files[image] = folder / file
    if not files and not rejects:
        raise InputError(root, "no image <name>.jpg with <name>.json beside it exists here")

    def load_image(image: str) -> StillImage:
        if image not in files:
            raise InputError(root, f"there is no usable image {printable_name(image)!r}")
        return read_image(root, files[image])

    return open_image_views(name, root, sorted(files), load_image, tuple(sorted(rejects)))


def open_sa1b_images(name: str, root: Path, images: Sequence[str]) -> Source:
    """Open the named images of SA-1B without listing its folders; a video's id is the image's path below ``root``."""

    def load_image(image: str) -> StillImage:
        return read_image(root, safe_join(root, image, root).with_suffix(".json"))

    return open_image_views(name, root, images, load_image)


def read_image(root: Path, file: Path) -> StillImage:
    """Read the annotation of one image.

    Args:
        root: folder that the frame's path is relative to.
        file: its JSON; the image is beside it.

    Raises:
        InputError: unreadable, or not in SA-1B's format.
    """
    data = read_json(file)
    image = data.get("image") if isinstance(data, dict) else None
    annotations = data.get("annotations") if isinstance(data, dict) else None
    if not isinstance(image, dict) or not isinstance(annotations, list):
        raise InputError(file, "an object with image and annotations is expected")
    width, height = (parse_side(file, "image", image, key) for key in ("width", "height"))
    objects: dict[str, ImageObject] = {}
    for k, entry in enumerate(annotations):
        field = f"annotations[{k}]"
        track = parse_id(entry.get("id")) if isinstance(entry, dict) else None
        if track is None or track in objects:
            raise InputError(file, "an object with a unique id is expected", field=field)
        rle = parse_mask(file, field, entry, (height, width))
        if rle is not None:
            objects[track] = ImageObject(track, None, rle)
    if not objects:
        check_not_boxes_only(file, "annotations", annotations)
    frame = Frame(path=relative_path(root, file.with_suffix(".jpg")), index=0, width=width, height=height)
    return StillImage(frame, lambda: list(objects.values()))
