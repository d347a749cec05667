"""The newer protocol: one tsv with the images inside and a free question, answered by the number of a candidate.

What VLMEvalKit (GitHub open-compass/VLMEvalKit, class ``MMVMBench``) does with such a file:

- ``image``: base64 of an image file, or the Python literal of a list of them; 64 characters or fewer are the ``index``
  of the row that has the image (vlmeval/dataset/image_base.py, ``__init__``). Several images of a row are saved under
  the names in ``image_path``, a list as long, in the kit's own folder (``dump_image``).
  It encodes them again in the format of the name's ending, so names end in ``.png``, which keeps every pixel. It
  keeps a file that is there, also of another table of this name or of an earlier export, so a digest of the image is
  in its name.
- ``question`` goes to the model as it is, and with ``answer`` and ``prediction`` to a judge, which says yes or no
  (image_vqa.py, ``MMVMBench``). The judge's prompt adds strings, and a column of bare numbers, which pandas reads as
  such, ends in a ``TypeError``: answers are written in quotation marks (`quote_cell`), and read with and without them.
- A file ``MMVMBench.tsv`` of another checksum than the published one's is downloaded again, and a table of another name
  has no scorer. `PLUGIN`, written beside the table, registers it with the scorer of ``MMVMBench``.
- ``match_type``: as in the older table (``formats.tsv``).

It has no regions, so reading it gives items with images and no cases.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from mmvm_data.cases.prompts import NONE_TEXT
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Case
from mmvm_data.formats.bench_read import Problem
from mmvm_data.formats.case_images import require_root
from mmvm_data.formats.id_cells import MISSING, format_index
from mmvm_data.formats.table_cells import parse_match_types
from mmvm_data.formats.tsv import (
    Row,
    parse_list_literal,
    parse_whole_number,
    read_rows,
    require_drawn_paths,
    shorten,
    write_rows,
)
from mmvm_data.io.checked_images import read_checked_image, read_frame_image
from mmvm_data.io.files import atomic_write, safe_join
from mmvm_data.io.orientation import remove_orientation

PLUGIN = "mmvm_vlmevalkit.py"
COLUMNS = ("index", "question", "answer", "match_type", "image", "image_path")
_LONGEST_REFERENCE = 64
_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"RIFF": ".webp", b"BM": ".bmp", b"GIF8": ".gif"}
_NONE_IS = f" Reply with its numeric ID alone, or with: {NONE_TEXT}"


# what pandas.read_csv and read_excel do not read as text
_NOT_TEXT = {word.casefold() for word in MISSING} | {"true", "false"}


def quote_cell(text: str) -> str:
    """Return a cell that pandas reads as this text, in quotation marks if it would read a number, nothing or a truth
    value otherwise; an empty one stays empty."""
    bare = text.strip()
    try:
        float(bare.replace("_", "x"))
        is_text = False
    except ValueError:
        is_text = not bare or bare.casefold() not in _NOT_TEXT
    return text if is_text else f'"{bare}"'


def unquote_cell(text: str) -> str:
    """Return the text of a cell without the quotation marks of `quote_cell`."""
    bare = text.strip()
    return bare[1:-1] if len(bare) > 2 and bare[0] == bare[-1] == '"' else bare


@dataclass(frozen=True)
class VlmEvalKitItem:
    """One row of the table: a question about images.

    Attributes:
        index: index of the row, as text.
        images: image files, in order.
        question: the question to the model.
        answer: number of the right candidate; None when none is right.
        match_types: 1..8, see ``types.MATCH_TYPES``.
    """

    index: str
    images: tuple[Path, ...]
    question: str
    answer: int | None
    match_types: tuple[int, ...] = ()


def format_question(case: Case) -> str:
    """The question of a case without its choices, asking for a number."""
    text, mark, rest = case.question.rpartition("?")
    kept = text + mark if mark and rest.strip().endswith(":") else case.question.rstrip()
    return kept + _NONE_IS


def write(cases: Iterable[Case], directory: str | Path | None, path: str | Path) -> None:
    """Write the drawn images of a benchmark's cases with their questions, and `PLUGIN` beside them.

    One case is in memory at a time.

    Args:
        cases: their frames lie in ``directory``, the drawn images beside them as ``bench.write`` puts them.
        directory: the benchmark; None: the folder that each case was read from.
        path: the tsv; its folder exists.

    Raises:
        InputError: an image is missing, damaged or of another size, or a case does not say which folder it was
            read from.
        OutputError: the tsv cannot be written.
    """
    folder = Path(directory) if directory else None
    path = Path(path)

    def rows() -> Iterator[dict[str, Any]]:
        for index, case in enumerate(cases):
            yield _case_row(case, require_root(case, folder), index)
        # after the last row and before the table gets its name: a table has its plug-in, a failed export leaves none
        _write_plugin(path.with_name(PLUGIN))

    _write_table(rows(), path)


def _write_plugin(path: Path) -> None:
    plugin = resources.files("mmvm_data.formats").joinpath("vlmevalkit_plugin.txt").read_text(encoding="utf-8")
    try:
        with atomic_write(path) as handle:
            handle.write(plugin)
    except OSError as error:
        raise OutputError(error.filename or path, error) from error


def write_items(items: Iterable[VlmEvalKitItem], path: str | Path) -> None:
    """Write items as they were read; see ``write``.

    Raises:
        InputError: an image is missing or damaged.
        OutputError: the tsv cannot be written.
    """

    def rows() -> Iterator[dict[str, Any]]:
        for i in items:
            images = [read_checked_image(image.parent, image.name, None) for image in i.images]
            names = [_saved_name(image.stem, content) for image, content in zip(i.images, images, strict=True)]
            yield _row(i.index, i.question, i.answer, i.match_types, images, names)

    _write_table(rows(), path)


def read(path: str | Path, into: str | Path, problems: list[Problem] | None = None) -> Iterator[VlmEvalKitItem]:
    """The rows of such a tsv, one at a time, their images saved as files without their orientation tag.

    Args:
        path: the tsv.
        into: folder for the images, created if it is missing; names come from ``image_path``, with the row's number in
            front of one that a row above has, else from the row's number.
        problems: list that gets rows that were left out, and match types that cannot be read; when None the former
            raise.

    Raises:
        InputError: the table, or without ``problems`` a row, cannot be read: no base64, no image, an answer that is
            neither a number nor none, a name that leaves ``into``.
        OutputError: an image cannot be written.
    """
    path, into = Path(path), Path(into)
    saved: dict[str, tuple[Path, ...]] = {}
    used: set[Path] = set()
    for number, row in enumerate(read_rows(path)):
        where = f"line {row.line}"
        try:
            missing = [name for name in COLUMNS[:5] if name not in row.cells and name != "match_type"]
            if missing or row.fault:
                raise InputError(path, row.fault or f"columns are missing: {', '.join(missing)}", field=where)
            item = _parse_item(path, row, number, into, saved, used)
        except InputError as error:
            if problems is None:
                raise
            problems.append(Problem(f"{path.name}: {error.field or where}", error.reason))
            continue
        _, fault = parse_match_types(row.cells.get("match_type"))
        if fault and problems is not None:
            problems.append(Problem(f"{path.name}: {where}: match_type", fault))
        yield item


def _write_table(rows: Iterable[dict[str, Any]], path: str | Path) -> None:
    try:
        write_rows(rows, COLUMNS, path)
    except OSError as error:
        raise OutputError(error.filename or path, error) from error


def _case_row(case: Case, directory: Path, index: int) -> dict[str, Any]:
    drawn = require_drawn_paths(case)
    images = [read_frame_image(directory, path, f, case.id) for path, f in zip(drawn, case.frames, strict=True)]
    stems = [f"{case.id}_{PurePosixPath(path).stem}" for path in drawn]
    names = [_saved_name(stem, image) for stem, image in zip(stems, images, strict=True)]
    return _row(index, format_question(case), case.answer, case.match_types, images, names)


def _saved_name(stem: str, image: bytes) -> str:
    """A name that no other image has, and in whose format no pixel changes; one that is such a name stays."""
    mark = f"_{hashlib.sha256(image).hexdigest()[:12]}"
    return f"{stem.removesuffix(mark)}{mark}.png"


def _row(
    index: int | str, asked: str, answer: int | None, types: tuple[int, ...], images: list[bytes], names: list[str]
) -> dict[str, Any]:
    encoded = [base64.b64encode(image).decode("ascii") for image in images]
    return {
        "index": format_index(str(index)),
        "question": asked,
        "answer": NONE_TEXT if answer is None else quote_cell(str(answer)),
        "match_type": repr(list(types)),
        "image": repr(encoded) if len(encoded) != 1 else encoded[0],
        "image_path": repr(names),
    }


def _parse_item(
    path: Path, row: Row, number: int, into: Path, saved: dict[str, tuple[Path, ...]], used: set[Path]
) -> VlmEvalKitItem:
    where = f"line {row.line}"
    cells = row.cells
    images = _save_images(path, cells, number, into, saved, used, where)
    index = cells["index"]
    saved.setdefault(index, images)
    text = unquote_cell(cells["answer"])
    answer = parse_whole_number(text)
    if answer is None and not text.casefold().startswith("none"):
        raise InputError(path, f"expected a number or none, found {shorten(text)}", field=f"{where}: answer")
    types, _ = parse_match_types(cells.get("match_type"))
    return VlmEvalKitItem(index, images, cells["question"], answer, types)


def _save_images(
    path: Path,
    cells: dict[str, str],
    number: int,
    into: Path,
    saved: dict[str, tuple[Path, ...]],
    used: set[Path],
    where: str,
) -> tuple[Path, ...]:
    cell = cells["image"]
    field = f"{where}: image"
    if len(cell) <= _LONGEST_REFERENCE:
        if cell not in saved:
            raise InputError(path, f"{shorten(cell)} is neither an image nor the index of a row above", field=field)
        return saved[cell]
    try:
        encoded = parse_list_literal(cell) if cell.startswith("[") else [cell]
        data = [base64.b64decode(text, validate=True) for text in encoded]
    except (ValueError, TypeError, binascii.Error) as error:
        raise InputError(path, f"expected base64 or a list of it: {shorten(str(error))}", field=field) from error
    names = [
        name if _suffix_fits(name, content) else f"{name.rpartition('.')[0] or name}{_image_suffix(content)}"
        for name, content in zip(_image_names(path, cells, number, data, where), data, strict=True)
    ]
    files = []
    for name, content in zip(names, data, strict=True):
        file = safe_join(into, name, path)
        if file in used:
            file = file.with_name(f"{number:06d}_{file.name}")
        used.add(file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(remove_orientation(content))
        except OSError as error:
            raise OutputError(file, error) from error
        files.append(file)
    return tuple(files)


def _image_suffix(content: bytes) -> str | None:
    return next((ending for start, ending in _SIGNATURES.items() if content.startswith(start)), None)


def _suffix_fits(name: str, content: bytes) -> bool:
    """Whether a name ends as its content; every other name gets the ending of the content."""
    suffix = PurePosixPath(name).suffix.lower()
    return (".jpg" if suffix == ".jpeg" else suffix) == _image_suffix(content)


def _image_names(path: Path, cells: dict[str, str], number: int, data: list[bytes], where: str) -> list[str]:
    endings = [_image_suffix(content) for content in data]
    if None in endings or not data:
        raise InputError(path, f"image {endings.index(None) + 1 if data else 1} is no image", field=f"{where}: image")
    cell = cells.get("image_path", "")
    if not cell:
        return [f"{number:06d}_{k}{ending}" for k, ending in enumerate(endings)]
    try:
        names = parse_list_literal(cell) if cell.startswith("[") else [cell]
    except ValueError as error:
        raise InputError(path, str(error), field=f"{where}: image_path") from error
    if len(names) != len(data) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InputError(
            path, f"expected {pluralize(len(data), 'name')}, found {shorten(names)}", field=f"{where}: image_path"
        )
    return names
