"""Cases as WebDataset shards: tar files that trainers stream (GitHub webdataset/webdataset, "The WebDataset Format").

Files of one sample follow each other and share what stands before the first dot of their names:

    shards/cases-000000.tar    000000000.image0.jpg  000000000.image1.jpg
                               000000000.marked0.jpg 000000000.marked1.jpg  000000000.json

The JSON has ``id``, ``question`` (with its choices), ``answer`` (a letter) and ``case``, the whole record. Same cases,
same bytes: owners and times of the entries are zero.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats.case_images import load_clean_and_marked, require_root
from mmvm_data.io.files import list_names, open_regular, safe_join
from mmvm_data.io.json_files import parse_json
from mmvm_data.io.orientation import remove_orientation
from mmvm_data.io.staging import staging_folder

SHARD_BYTES = 500_000_000
FOLDER = "shards"
_BLOCK = 512
_MAX_ENTRY_BYTES = 1 << 30


def write(
    cases: Iterable[Case],
    directory: str | Path,
    root: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write cases as shards. One case is in memory at a time; the folder of shards appears when it is
    complete.

    Args:
        cases: any cases.
        directory: gets a folder ``shards``, which must not exist.
        root: folder that the paths of the cases' frames are relative to; None for the one they were read from.
        shard_bytes: largest size of a shard; it has at least one case.
        progress: called with the number of cases so far.

    Returns:
        The shards.

    Raises:
        UsageError: there is a folder ``shards`` already.
        InputError: an image is missing or damaged, or an answer has no option.
        OutputError: the folder cannot be written.
    """
    target = Path(directory) / FOLDER
    files: list[Path] = []
    size = shard_bytes
    tar: tarfile.TarFile | None = None
    try:
        with staging_folder(target) as staging_dir, ExitStack() as open_files:
            for number, case in enumerate(cases):
                sample = _make_sample(case, require_root(case, Path(root) if root else None))
                sample_bytes = sum(_BLOCK + -(-len(data) // _BLOCK) * _BLOCK for _, data in sample)
                # a tar ends on a multiple of 20 blocks
                if tar is None or size + sample_bytes + 20 * _BLOCK > shard_bytes:
                    if tar:
                        tar.close()
                    files.append(staging_dir / f"cases-{len(files):06d}.tar")
                    tar = tarfile.open(files[-1], "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  until it is full
                    open_files.callback(_close_quietly, tar)
                    size = 0
                size += sample_bytes
                for name, data in sample:
                    entry = tarfile.TarInfo(f"{number:09d}.{name}")
                    entry.size, entry.mode = len(data), 0o644
                    tar.addfile(entry, io.BytesIO(data))
                if progress:
                    progress(number + 1)
            if tar:
                tar.close()
    except OSError as error:
        raise OutputError(error.filename or target, error) from error
    return [target / file.name for file in files]


def _close_quietly(tar: tarfile.TarFile) -> None:
    with suppress(OSError):  # a full disk was reported before, and closing writes again
        tar.close()


def read(directory: str | Path, into: str | Path | None = None) -> Iterator[Case]:
    """The cases of such shards, in order, each as it was.

    Args:
        directory: contains the folder ``shards``.
        into: folder that the clean images are written to, without their orientation tag, under the paths that the
            cases name; it becomes the ``root`` of the cases. None does not write them.

    Raises:
        InputError: a shard or a sample cannot be read, or a path would leave ``into``.
        OutputError: an image cannot be written.
    """
    folder = Path(directory) / FOLDER
    for name in list_names(folder, (".tar",)):
        path = folder / name
        try:
            with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for key, sample in _iterate_samples(tar, path):
                    yield _parse_case(sample, f"{path}: {key}", Path(into) if into else None)
        except tarfile.TarError as error:
            raise InputError(path, f"cannot be read as a tar file: {error}") from error
        except OSError as error:
            raise InputError(path, f"file cannot be read: {error.strerror or error}") from error


def _make_sample(case: Case, root: Path) -> list[tuple[str, bytes]]:
    clean, marked = load_clean_and_marked(case, root)
    try:
        letter = case.letter
    except ValueError as error:
        raise InputError(case.id, str(error), field="options") from error
    text = {
        "id": case.id,
        "question": case.question + format_choices(case.options),
        "answer": letter,
        "case": case.model_dump(mode="json"),
    }
    return [
        *((f"image{k}{p.suffix}", p.data) for k, p in enumerate(clean)),
        *((f"marked{k}{p.suffix}", p.data) for k, p in enumerate(marked)),
        ("json", json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()),
    ]


def _iterate_samples(tar: tarfile.TarFile, path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a shard, each with its files by extension; entries that are no plain files are skipped."""
    key, sample = "", dict[str, bytes]()
    for entry in tar:
        if not entry.isfile():
            continue
        if entry.size > _MAX_ENTRY_BYTES:
            raise InputError(path, f"{entry.name} has {entry.size} bytes", field=entry.name)
        stem, _, extension = entry.name.partition(".")
        if stem != key and sample:
            yield key, sample
            sample = {}
        content = tar.extractfile(entry)
        key, sample[extension] = stem, content.read() if content else b""
    if sample:
        yield key, sample


def _parse_case(sample: dict[str, bytes], where: str, into: Path | None) -> Case:
    try:
        record: Any = parse_json(sample["json"], where)
        case = Case.model_validate(record["case"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(where, first["msg"], field=".".join(map(str, first["loc"])) or None) from error
    except (KeyError, TypeError) as error:
        raise InputError(where, "has no JSON with a case") from error
    if into is None:
        return case
    for position, frame in enumerate(case.frames):
        data = next((d for name, d in sample.items() if name.partition(".")[0] == f"image{position}"), None)
        if data is None or frame.video_frame is not None:
            raise InputError(where, "image is missing", field=f"image{position}")
        target = safe_join(into, frame.path, where, f"image{position}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(remove_orientation(data))
        except OSError as error:
            raise OutputError(target, error) from error
    return case.with_root(into)
