"""Rows of the Parquet files: their schema, and cases to rows and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Case, Region
from mmvm_data.formats import case_images
from mmvm_data.io.files import safe_join
from mmvm_data.io.json_files import parse_json
from mmvm_data.io.orientation import remove_orientation

if TYPE_CHECKING:
    import pyarrow as pa

_TYPED_FIELDS = ("id", "query", "candidates", "answer", "prompt", "question", "options", "match_types", "rationale")
"""Fields of a case with columns of their own; the others are in ``rest``."""


def import_pyarrow() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UsageError("needs pyarrow: pip install 'mmvm-data[hub]'") from error
    return pyarrow, parquet


def arrow_errors() -> tuple[type[Exception], ...]:
    """The exceptions that reading a broken Parquet file raises."""
    pa, _ = import_pyarrow()
    return pa.ArrowException, OSError, UnicodeDecodeError


def schema() -> pa.Schema:
    """The columns, with the features of ``datasets`` in the metadata."""
    pa, _ = import_pyarrow()
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    region = [
        ("id", pa.string()),
        ("category", pa.string()),
        ("size", pa.list_(pa.int32())),
        ("rle", pa.string()),
        ("box", pa.list_(pa.float64())),
        ("extra", pa.string()),
    ]
    columns = [
        ("id", pa.string()),
        ("images", pa.list_(image)),
        ("marked_images", pa.list_(image)),
        ("query", pa.list_(pa.struct([("image", pa.int32()), *region]))),
        ("candidates", pa.list_(pa.struct([("number", pa.int32()), *region]))),
        ("question", pa.string()),
        ("choices", pa.string()),
        ("options", pa.list_(pa.struct([("letter", pa.string()), ("number", pa.int32())]))),
        ("answer", pa.string()),
        ("answer_number", pa.int32()),
        ("match_types", pa.list_(pa.int32())),
        ("prompt", pa.string()),
        ("rationale", pa.string()),
        ("source", pa.string()),
        ("video", pa.string()),
        ("gap", pa.int32()),
        ("look_alikes", pa.int32()),
        ("visible", pa.int32()),
        ("rest", pa.string()),
    ]
    features = {name: _feature_of(kind) for name, kind in columns}
    for name in ("images", "marked_images"):
        features[name] = [{"_type": "Image"}]
    info = json.dumps({"info": {"features": features}})
    return pa.schema(columns, metadata={"huggingface": info})


def _feature_of(kind: pa.DataType) -> Any:
    """A column's type as ``datasets`` 1 to 3 write it, and all versions read it: a list of one type is that list."""
    pa, _ = import_pyarrow()
    if pa.types.is_list(kind):
        return [_feature_of(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: _feature_of(field.type) for field in kind}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def case_to_row(case: Case, root: Path) -> tuple[dict[str, Any], int]:
    """A case as a row, and the approximate size of the row in bytes."""
    clean, marked = case_images.load_clean_and_marked(case, root)
    try:
        letter = case.letter
    except ValueError as error:
        raise InputError(case.id, str(error), field="options") from error
    provenance = case.provenance
    rest = case.model_dump_json(exclude=set(_TYPED_FIELDS))
    regions = [*case.query, *(candidate.region for candidate in case.candidates)]
    row: dict[str, Any] = {
        "id": case.id,
        "images": [{"bytes": p.data, "path": p.path} for p in clean],
        "marked_images": [{"bytes": p.data, "path": p.path} for p in marked],
        "query": [{"image": k, **_region_to_struct(region)} for k, region in enumerate(case.query)],
        "candidates": [{"number": c.number, **_region_to_struct(c.region)} for c in case.candidates],
        "question": case.question,
        "choices": format_choices(case.options),
        "options": [option.model_dump() for option in case.options],
        "answer": letter,
        "answer_number": case.answer,
        "match_types": list(case.match_types),
        "prompt": case.prompt,
        "rationale": case.rationale,
        "source": provenance.source if provenance else str(case.extra.get("source", "")) or None,
        "video": provenance.video if provenance else str(case.extra.get("video", "")) or None,
        "gap": provenance.gap if provenance else None,
        "look_alikes": provenance.look_alikes if provenance else None,
        "visible": provenance.visible if provenance else None,
        "rest": rest,
    }
    mask_bytes = sum(len(region.mask.counts) for region in regions if region.mask)
    return row, sum(len(p.data) for p in (*clean, *marked)) + mask_bytes + len(rest.encode()) + 2000 + 100 * len(
        regions
    )


def _region_to_struct(region: Region) -> dict[str, Any]:
    return {
        "id": region.id,
        "category": region.category,
        "size": list(region.mask.size) if region.mask else None,
        "rle": region.mask.counts if region.mask else None,
        "box": list(region.box) if region.box else None,
        "extra": json.dumps(region.extra, ensure_ascii=False) if region.extra else None,
    }


def case_from_row(row: dict[str, Any], where: str, into: Path | None) -> Case:
    """The case of a row; its clean images are written below ``into``, if that is given.

    Args:
        row: values by column.
        where: name of the row in messages.
        into: folder for the images, which becomes the ``root`` of the case; None does not write them.

    Raises:
        InputError: the row is no case, or a path would leave ``into``.
        OutputError: an image cannot be written.
    """
    try:
        record = parse_json(row["rest"], where, "rest")
        record |= {name: row[name] for name in _TYPED_FIELDS if name not in ("query", "candidates", "answer")}
        record["answer"] = row["answer_number"]
        record["query"] = [_region_from_struct(item) for item in row["query"]]
        record["candidates"] = [
            {"number": item["number"], "region": _region_from_struct(item)} for item in row["candidates"]
        ]
        case = Case.model_validate(record)
        files = [(image["path"], image["bytes"]) for image in row["images"]]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(where, first["msg"], field=".".join(map(str, first["loc"])) or None) from error
    except KeyError as error:
        raise InputError(where, "column is missing", field=str(error.args[0])) from error
    except (ValueError, TypeError) as error:
        raise InputError(where, f"is no case: {' '.join(str(error).split())}") from error
    if into is None:
        return case
    if len(files) != len(case.frames):
        raise InputError(
            where, f"has {pluralize(len(files), 'image')} for {pluralize(len(case.frames), 'frame')}", field="images"
        )
    for frame, (_, data) in zip(case.frames, files, strict=True):
        path = safe_join(into, frame.path, where, "images")
        if frame.video_frame is not None:
            raise InputError(where, "a frame of a video file cannot be written back", field="images")
        if not isinstance(data, bytes):
            raise InputError(where, f"holds no bytes for {frame.path}", field="images")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(remove_orientation(data))
        except OSError as error:
            raise OutputError(path, error) from error
    return case.with_root(into)


def _region_from_struct(item: dict[str, Any]) -> dict[str, Any]:
    region: dict[str, Any] = {"id": item["id"], "category": item["category"]}
    if item["rle"] is not None:
        region["mask"] = {"size": item["size"], "counts": item["rle"]}
    if item["box"] is not None:
        region["box"] = item["box"]
    return region | {"extra": parse_json(item["extra"], "extra") if item["extra"] else {}}
