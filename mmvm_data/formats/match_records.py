"""Match records: cases to records of the published loader and back.

What the published loader (GitHub zhouyiks/CoLVA, projects/colva/dataset) needs of a match record:

- ``file_names``: "./" and the path of each image below its ``data`` folder
  (process_functions/annotation_json_file_load.py, ``MatchDataset_load_fn``, which puts ``./data/`` in the place of the
  first two characters).
- ``pos_annotations[k]``, ``neg_annotations[k]``: for each image a list of COCO RLEs (plain or compressed) or of
  lists of polygons; the query, if visible, in all but the last, the candidates ``pos + neg`` in the last, the answer
  first. Pixels that any polygon covers count (InternVLDataset.py, ``decode_mask``,
  ``multi_modal_multi_image_get_item``).
- ``is_disappear``: the query is in no candidate. ``vprompt_type``: "mask" or "bbox", which words the question
  (map_fns/match_map_fn.py). ``description``: the rationale. The reasoning set has one in every record, and a record
  without it ends in a TypeError there; the text is a template of ``str.format`` (InternVLDataset.py), so braces are
  doubled in it, which our key ``braces`` says.
- What it cannot load, or leaves out or spoils without a message, is in `published_fault`.

The loader numbers the candidates at random. A case has fixed numbers: those of ``numbers`` (our own key, in the order
of ``pos + neg``), else an order that depends on the record alone, so that the answer's number is not predictable. Our
key ``sizes`` (height and width of each image) is written when no run-length encoding has the size of an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Candidate, Case, Frame, Region
from mmvm_data.formats.object_annotations import require_polygons
from mmvm_data.formats.tsv import parse_whole_number, shorten
from mmvm_data.io import media
from mmvm_data.io.files import safe_join

_KNOWN_KEYS = {
    "id",
    "file_names",
    "is_disappear",
    "pos_annotations",
    "neg_annotations",
    "vprompt_type",
    "description",
    "numbers",
    "sizes",
    "braces",
}
_LEFT_OUT = ("AVA", "HACS")
_EXTRA_KEY = "record"
"""Key of ``Case.extra`` with what is needed to write a record back as it was read."""


def to_record(case: Case) -> dict[str, Any]:
    """The match record of a case.

    Masks are compressed RLEs, boxes polygons of four corners. A case that was read from a record is written back
    as that record.
    """
    kept: dict[str, Any] = case.extra.get(_EXTRA_KEY, {})
    regions = {candidate.number: candidate.region for candidate in case.candidates}
    order: list[int] = kept.get("order", [])
    is_none = case.answer is None
    # a case that was changed after it was read gets a new order
    has_new_order = not kept or sorted(order) != sorted(regions) or kept["gone"] != is_none
    if has_new_order or (not is_none and order[0] != case.answer):
        has_new_order = True
        order = sorted(regions, key=lambda number: (number != case.answer, number))
    positives = int(not is_none) if has_new_order else kept["positives"]
    last = [_to_segmentation(regions[number]) for number in order]
    earlier = kept.get("negatives") or [[] for _ in case.query]
    paths = [frame.path for frame in case.frames]
    files = kept.get("file_names", [])
    if [name.removeprefix("./") for name in files] != paths:
        files = [f"./{path}" for path in paths]
    record: dict[str, Any] = {"id": case.id} if case.id or not kept else {}
    record |= {
        "file_names": files,
        "is_disappear": is_none,
        "pos_annotations": [*([_to_segmentation(r)] if _is_visible(r) else [] for r in case.query), last[:positives]],
        "neg_annotations": [*earlier, last[positives:]],
    }
    if not kept or kept.get("vprompt_type"):
        record["vprompt_type"] = "bbox" if case.prompt == "box" else "mask"
    if case.rationale is not None:
        record["description"] = case.rationale
    if has_new_order or kept.get("numbers"):
        record["numbers"] = list(order)
    rle_sizes = [
        _size_from_rles([*record["pos_annotations"][k], *record["neg_annotations"][k]]) for k in range(len(paths))
    ]
    if kept.get("sizes") or (not kept and None in rle_sizes):
        record["sizes"] = [[frame.height, frame.width] for frame in case.frames]
    more: dict[str, Any] = kept.get("more", {})
    return record | more


def published_fault(case: Case) -> str | None:
    """Why the published training code cannot use a case; None when it can.

    Its questions have two images, tiles and masks of all images become one array, which ends in an error where sizes
    differ, and records whose first image is from AVA or HACS are left out. Where a candidate has no pixel to put a
    number on, an error is dropped and the question keeps its placeholders (process_functions/image_blending_fn.py,
    ``contour_rendering``).
    """
    first = case.frames[0]
    if len(case.frames) > 2:
        return "more than two images"
    if any((frame.width, frame.height) != (first.width, first.height) for frame in case.frames):
        return "images of different sizes"
    if any(name in first.path for name in _LEFT_OUT):
        return f"{' or '.join(_LEFT_OUT)} in the path of the first image"
    size = case.frames[-1].height, case.frames[-1].width
    if not all(_has_pixels(candidate.region, size) for candidate in case.candidates):
        return "a candidate without pixels"
    return None


def _has_pixels(region: Region, size: tuple[int, int]) -> bool:
    """Whether the published code finds a pixel of a region in an image of ``size`` (height, width)."""
    mask = region.mask or masks.from_polygons(_to_segmentation(region), *size, rule="union")
    return masks.area(mask) > 0


def to_published_record(case: Case, with_reason: bool) -> dict[str, Any]:
    """The match record of a case for a subset of the published loader: with its rationale, or without."""
    record = to_record(case)
    if record["file_names"][0].startswith("./data/"):  # it would not put its own ./data/ in front of such a path
        record["file_names"] = [f"./{name}" for name in record["file_names"]]
    record["vprompt_type"] = "bbox" if case.prompt == "box" else "mask"
    text = record.pop("description", None)
    if with_reason and text is not None:
        record["description"] = text.replace("{", "{{").replace("}", "}}")
        if record["description"] != text:
            record["braces"] = "doubled"
    return record


def from_record(record: Any, root: str | Path | None = None) -> Case:
    """The case of one match record; see ``read``.

    Raises:
        InputError: a key is missing or of another kind, or an annotation is broken.
    """
    if not isinstance(record, dict):
        raise InputError("record", f"expected an object, found {type(record).__name__}")
    root = None if root is None else Path(root)
    files = _read_names(record, "file_names")
    positive, negative = (_read_lists(record, key, len(files)) for key in ("pos_annotations", "neg_annotations"))
    is_none = record.get("is_disappear")
    if not isinstance(is_none, bool):
        raise InputError("record", f"expected true or false, found {shorten(is_none)}", field="is_disappear")
    prompt_type = record.get("vprompt_type")
    if prompt_type not in (None, "mask", "bbox"):
        raise InputError("record", f"expected mask or bbox, found {shorten(prompt_type)}", field="vprompt_type")
    if not is_none and not positive[-1]:
        raise InputError("record", "last list is empty, but is_disappear is false", field="pos_annotations")
    names = [name.removeprefix("./") for name in files]
    sizes = [_image_size(record, k, name, root) for k, name in enumerate(names)]
    queries = []
    for k, items in enumerate(positive[:-1]):
        if len(items) > 1:
            raise InputError("record", f"{len(items)} queries in one image, expected one", field=f"pos_annotations.{k}")
        queries.append(
            _parse_region("query", items[0] if items else [], sizes[k], prompt_type, f"pos_annotations.{k}.0")
        )
    last = [*positive[-1], *negative[-1]]
    order = _candidate_numbers(record, files, len(last))
    regions = [
        _parse_region(
            "query" if k == 0 and not is_none else f"object-{k}", item, sizes[-1], prompt_type, f"candidate {k + 1}"
        )
        for k, item in enumerate(last)
    ]
    candidates = sorted(
        (Candidate(number=number, region=region) for number, region in zip(order, regions, strict=True)),
        key=lambda candidate: candidate.number,
    )
    answer = None if is_none else order[0]
    prompt: Literal["mask", "box"] = "box" if prompt_type == "bbox" else "mask"
    kept: dict[str, Any] = {"order": order, "positives": len(positive[-1]), "gone": is_none}
    if any(negative[:-1]):
        kept["negatives"] = negative[:-1]
    if [f"./{name}" for name in names] != files:
        kept["file_names"] = files
    kept |= {key: True for key in ("vprompt_type", "numbers", "sizes") if key in record}
    more = {key: value for key, value in record.items() if key not in _KNOWN_KEYS}
    try:
        case = Case(
            id=str(record.get("id", "")),
            frames=tuple(_make_frame(k, name, size) for k, (name, size) in enumerate(zip(names, sizes, strict=True))),
            query=tuple(queries),
            candidates=tuple(candidates),
            answer=answer,
            prompt=prompt,
            question=prompts.format_question(prompt),
            options=prompts.build_options(order, answer),
            rationale=_read_description(record),
            extra={_EXTRA_KEY: kept | ({"more": more} if more else {})},
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError("record", first["msg"], field=".".join(map(str, first["loc"])) or None) from error
    return case if root is None else case.with_root(root)


def _read_description(record: dict[str, Any]) -> Any:
    text = record.get("description")
    if record.get("braces") == "doubled" and isinstance(text, str):
        return text.replace("{{", "{").replace("}}", "}")
    return text


def _to_segmentation(region: Region) -> Any:
    if region.mask is not None:
        return {"size": list(region.mask.size), "counts": region.mask.counts}
    assert region.box is not None  # a region has one of the two
    x, y, w, h = region.box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def _is_visible(region: Region) -> bool:
    return region.mask is None or masks.area(region.mask) > 0


def _parse_region(name: str, item: Any, size: tuple[int, int], prompt_type: str | None, where: str) -> Region:
    """One annotation as a region of an image of ``size`` (height, width)."""
    try:
        if isinstance(item, dict):
            rle = masks.from_counts(item["counts"], item["size"])
            if rle.size != size:
                raise ValueError(f"size {rle.size} differs from the image's {size} (height, width)")
        else:
            rle = masks.from_polygons(require_polygons(item), *size, rule="union")
        box = _parse_box(item) or masks.bbox(rle)
        if prompt_type != "bbox" or not box[2]:  # a query that an image does not show is an empty mask
            return Region(id=name, mask=rle)
        return Region(id=name, box=box)
    except ValidationError as error:
        raise InputError("record", error.errors(include_url=False)[0]["msg"], field=where) from error
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        reason = f"expected an RLE or polygons: {shorten(str(error))}"
        raise InputError("record", reason, field=where) from error


def _parse_box(item: Any) -> tuple[float, float, float, float] | None:
    """The box of a polygon that is one, as ``_to_segmentation`` writes it."""
    if not isinstance(item, list) or len(item) != 1 or len(item[0]) != 8:
        return None
    x, y, right, top, far, bottom, left, low = item[0]
    if (top, far, left, low) != (y, right, x, bottom) or right <= x or bottom <= y:
        return None
    return x, y, right - x, bottom - y


def _image_size(record: dict[str, Any], k: int, name: str, root: Path | None) -> tuple[int, int]:
    """Height and width of the image k: from its RLEs, else from ``sizes``, else from the header of the file."""
    size = _size_from_rles([*record["pos_annotations"][k], *record["neg_annotations"][k]])
    sizes = record.get("sizes")
    if size is None and sizes is not None:
        if not isinstance(sizes, list) or len(sizes) <= k or not _is_size(sizes[k]):
            reason = f"expected height and width of each image, found {shorten(sizes)}"
            raise InputError("record", reason, field="sizes")
        size = sizes[k][0], sizes[k][1]
    if size is not None:
        return size
    if root is None:
        reason = "has no size of the image; give the folder of the images as `root`"
        raise InputError("record", reason, field=f"image {k + 1}")
    width, height = media.read_image_size(safe_join(root, name, "record"))
    return height, width


def _size_from_rles(annotations: Sequence[Any]) -> tuple[int, int] | None:
    """Height and width that an RLE gives; None when there is no RLE."""
    for item in annotations:
        if isinstance(item, dict) and _is_size(item.get("size")):
            return item["size"][0], item["size"][1]
    return None


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(v) is int and 0 < v < 2**16 for v in value)


def _make_frame(k: int, name: str, size: tuple[int, int]) -> Frame:
    digits = name.rpartition("/")[2].partition(".")[0]
    number = parse_whole_number(digits)
    return Frame(path=name, index=k if number is None else number, width=size[1], height=size[0])


def _candidate_numbers(record: dict[str, Any], files: list[str], count: int) -> list[int]:
    """Numbers of the candidates ``pos + neg``."""
    numbers = record.get("numbers")
    if numbers is None:
        key = "\0".join([str(record.get("id", "")), *files])
        drawn = sorted(range(count), key=lambda k: hashlib.sha256(f"{key}\0{k}".encode()).digest())
        position = drawn.index(0) if drawn else 0
        if position >= prompts.MAX_OFFERED and not record["is_disappear"]:  # the answer gets a number that is offered
            other = hashlib.sha256(key.encode()).digest()[0] % prompts.MAX_OFFERED
            drawn[position], drawn[other] = drawn[other], drawn[position]
        return [drawn.index(k) + 1 for k in range(count)]
    if (
        not isinstance(numbers, list)
        or not all(type(n) is int and n > 0 for n in numbers)
        or len(set(numbers)) != count
    ):
        raise InputError("record", f"expected {count} different numbers, found {shorten(numbers)}", field="numbers")
    return numbers


def _read_names(record: dict[str, Any], key: str) -> list[str]:
    value = record.get(key)
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(text, str) for text in value):
        raise InputError("record", f"expected two or more names, found {shorten(value)}", field=key)
    for name in value:
        safe_join(Path(), name, "record")
    return value


def _read_lists(record: dict[str, Any], key: str, count: int) -> list[list[Any]]:
    value = record.get(key)
    if not isinstance(value, list) or len(value) != count or not all(isinstance(part, list) for part in value):
        raise InputError("record", f"expected {count} lists, one for each image, found {shorten(value)}", field=key)
    return value
