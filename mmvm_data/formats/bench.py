"""Benchmarks: case folders, the tsv, and cases.jsonl.

This module writes them; ``read``, ``validate``, the table and the JSON beside the images have modules of their own and
are exported here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pydantic_core import to_json

from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.types import Case
from mmvm_data.formats.annotation_files import describe_objects, object_record, objects_of_image
from mmvm_data.formats.bench_check import Report, validate
from mmvm_data.formats.bench_read import CASES, Problem, read
from mmvm_data.formats.drawing import draw_case_image, encode_jpeg
from mmvm_data.formats.tsv import (
    FOLDER,
    MOST_FRAMES,
    OWN,
    PUBLISHED,
    TSV,
    TableRecord,
    annotation_name,
    drawn_names,
    drawn_paths,
    original_name,
    tsv_row,
    write_tsv,
)
from mmvm_data.io import media
from mmvm_data.io.checked_images import read_frame_image
from mmvm_data.io.files import atomic_write, path_kind, read_regular, safe_join
from mmvm_data.io.folder_lock import lock_folder
from mmvm_data.io.json_files import parse_json
from mmvm_data.io.transaction import Transaction, open_transaction, recover

__all__ = [
    "CASES",
    "FOLDER",
    "OWN",
    "PUBLISHED",
    "TSV",
    "Problem",
    "Report",
    "TableRecord",
    "annotation_name",
    "describe_objects",
    "draw_case_files",
    "drawn_names",
    "original_name",
    "read",
    "redraw_case",
    "tsv_row",
    "validate",
    "write",
    "write_tsv",
]


def draw_case_files(case: Case, directory: str | Path) -> dict[str, bytes]:
    """Return the files of one case of a benchmark by name, drawn from its clean images.

    Args:
        case: with the paths of its images relative to ``directory``.
        directory: the benchmark.

    Raises:
        InputError: as ``write``.
    """
    _check_writable(case, Path(directory))
    return _case_files(case, *_draw_images(case, Path(directory)))


def _case_files(case: Case, originals: Sequence[bytes], drawn: Sequence[bytes]) -> dict[str, bytes]:
    """The files of a case by name, in the order in which they are written.

    Args:
        case: the objects.
        originals, drawn: the bytes of the JPEG files, one for each image.
    """
    files: dict[str, bytes] = {}
    for position, (name, clean, marked) in enumerate(zip(drawn_names(len(case.frames)), originals, drawn, strict=True)):
        files[name] = marked
        files[original_name(name)] = clean
        files[annotation_name(name)] = describe_objects(case, position)
    return files


def write(
    cases: Iterable[Case],
    directory: str | Path,
    root: str | Path | None = None,
    is_new: bool = False,
    command: str = "mmvm_data.formats.bench.write",
) -> int:
    """Write cases as a benchmark: folders with drawn images, tsv and cases.jsonl. One case is in memory at a time.

    JPEG originals are copied byte for byte, but without an orientation tag; others are encoded at quality 95. So are
    drawn images of a benchmark, where the JSON beside them says what the record says; others are drawn again.
    Everything appears at the end and in one step, so that a benchmark can be written over itself: after a kill or an
    error the former state stands, or the new one. Folders of cases that have other ids stay.

    Args:
        cases: with distinct ids, which become the names of the folders.
        directory: created if it is missing.
        root: folder that the paths of the cases' frames are relative to. None: the folder that each case was read
            from, or ``directory`` for cases without one.
        is_new: whether a benchmark that is there already is refused.
        command: name of this command, for those that wait for it.

    Returns:
        The number of cases.

    Raises:
        UsageError: another process holds the lock of the folder and does not end; there is a benchmark already.
        InputError: an image cannot be read or has another size, a candidate is empty, an id repeats or is no
            folder's name, or there are more than 100 images.
        OutputError: the folder cannot be written.
    """
    directory = Path(directory)
    seen: set[str] = set()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with lock_folder(directory, command):
            recover(directory)
            if is_new and ((directory / TSV).exists() or (directory / FOLDER).exists()):
                raise UsageError(
                    f"{directory}: holds a benchmark already; choose another `directory`, or delete it first"
                )
            with open_transaction(directory) as transaction, open(transaction.stage(CASES), "wb") as lines:

                def write_each() -> Iterable[Case]:
                    for case in cases:
                        record = _stage_case(case, directory, Path(root or case.root or directory), seen, transaction)
                        lines.write(record.model_dump_json().encode() + b"\n")
                        yield record

                write_tsv(write_each(), transaction.stage(TSV))
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    return len(seen)


def _stage_case(case: Case, directory: Path, root: Path, seen: set[str], transaction: Transaction) -> Case:
    """Stage the folder of a case, in the place of one of the same name."""
    _check_writable(case, directory, seen)
    seen.add(case.id)
    files = _case_files(case, *_draw_images(case, root, keep=True))
    folder = f"{FOLDER}/{case.id}"
    for name, data in files.items():
        transaction.stage(f"{folder}/{name}").write_bytes(data)
    if (directory / folder).is_dir():
        for name in sorted(set(os.listdir(directory / folder)) - files.keys()):
            transaction.remove(f"{folder}/{name}")
    return _with_own_images(case)


def _with_own_images(case: Case) -> Case:
    """The case with the paths of the images in its folder."""
    names = [f"{FOLDER}/{case.id}/{original_name(name)}" for name in drawn_names(len(case.frames))]
    frames = tuple(
        frame.model_copy(update={"path": name, "video_frame": None})
        for frame, name in zip(case.frames, names, strict=True)
    )
    return case.model_copy(update={"frames": frames})


def _check_writable(case: Case, directory: Path, seen: Collection[str] = ()) -> None:
    """Check that a case's id names a folder of its own, and that the names of its files suffice."""
    if not case.id.strip(".") or case.id.startswith(".") or set(case.id) & set("/\\\0'\"\n\r\t") or case.id in seen:
        fault = "repeats" if case.id in seen else "is no name for a folder"
        raise InputError(directory / FOLDER, f"case id {case.id!r} {fault}")
    if len(case.frames) > MOST_FRAMES:
        raise InputError(case.id, f"{len(case.frames)} images, the names of the files allow {MOST_FRAMES}")


def _draw_images(case: Case, root: Path, keep: bool = False) -> tuple[list[bytes], list[bytes]]:
    """The clean images of a case as JPEG files, and the drawn ones.

    Args:
        case: with the paths of its images relative to ``root``.
        root: folder of the images.
        keep: whether drawn images beside the clean ones are taken as they are, where they show the record's objects.
    """
    drawn_files = drawn_paths(case) if keep else []
    originals, drawn = [], []
    for position, frame in enumerate(case.frames):
        pixels = media.load_frame(root, frame)
        originals.append(pixels.jpeg or encode_jpeg(pixels.bgr))
        if drawn_files and _shows_record(case, position, root, drawn_files[position]):
            drawn.append(read_frame_image(root, drawn_files[position], frame, case.id))
        else:
            drawn.append(encode_jpeg(draw_case_image(case, position, pixels.bgr)))
    return originals, drawn


def _shows_record(case: Case, position: int, root: Path, drawn: str) -> bool:
    """Whether there is a drawn image, a JPEG, whose JSON has the objects of the record in their order."""
    path = safe_join(root, drawn, case.id)
    annotation = path.with_name(annotation_name(path.name))
    if path.suffix != ".jpg" or not os.path.lexists(path) or path_kind(annotation) != "file":
        return False
    frame = case.frames[position]
    expected = [object_record(frame, number, region, ()) for number, region in objects_of_image(case, position)]
    try:
        items = parse_json(read_regular(annotation), annotation)
    except (OSError, InputError):
        return False
    for item in expected:
        del item["segmentation"]
    return isinstance(items, list) and json.loads(to_json(expected)) == [
        {key: value for key, value in item.items() if key != "segmentation"} if isinstance(item, dict) else None
        for item in items
    ]


def redraw_case(case: Case, directory: str | Path) -> Case:
    """Draw one case of a benchmark again from its clean images, and replace its files one by one.

    Args:
        case: with the paths of its images relative to ``directory``.
        directory: the benchmark.

    Raises:
        InputError: as ``write``.
        OSError: the folder cannot be written.
    """
    directory = Path(directory)
    folder = safe_join(directory / FOLDER, case.id, case.id)
    files = draw_case_files(case, directory)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        with atomic_write(folder / name, "wb", sync=False) as handle:
            handle.write(data)
    return _with_own_images(case)
