"""A benchmark as Parquet files that ``datasets`` loads, images inside (``pip install 'mmvm-data[hub]'``).

    README.md                              the card, which says where the data lie
    data/test-00000-of-00003.parquet       at most 500 MB each
    figures/                               pictures of the card

Columns are typed: images (structs of bytes and path, as ``datasets.Image`` has them), regions with their COCO run
lengths or boxes, options, match types, provenance. What they do not say of a ``Case`` lies in ``rest`` as JSON, so
that a case comes back as it was. The schema carries the features under the key ``huggingface``, as ``datasets`` writes
them (datasets, ``arrow_writer.py``, ``_build_metadata``), so that images are shown as images.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.types import Case, Region
from mmvm_data.formats import hub_card, pictures
from mmvm_data.io.files import list_names, safe_join

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 500_000_000
_ROWS = 32  # a row group; readers load one at a time, and a case with four images of 1080p has about 2 MB
_FOOTER, _GROUP = 32_000, 16_000  # bytes that a file, and each of its row groups, needs beside the rows, at most
_MISSING = "needs pyarrow: pip install 'mmvm-data[hub]'"
_TYPED = ("id", "query", "candidates", "answer", "prompt", "question", "options", "match_types", "rationale")
Progress = Callable[[int], None]


def write(
    cases: Iterable[Case],
    directory: str | Path,
    root: str | Path | None = None,
    split: str = "test",
    shard_bytes: int = SHARD_BYTES,
    build: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write cases as a data set. A few dozen cases are in memory at a time; the folder appears whole or not at all.

    Args:
        cases: with distinct ids.
        directory: must not be there, or be empty.
        root: folder that the paths of the cases' frames are relative to; None for the one they were read from.
        split: name of the split, such as test or train.
        shard_bytes: of a Parquet file, at most (but at least one case).
        build: content of the benchmark's build.json, for the card.
        progress: called with the number of cases so far.

    Returns:
        the Parquet files.

    Raises:
        UsageError: pyarrow is not installed, the split's name is none, or ``directory`` holds something.
        InputError: an image is missing or damaged, or an id repeats.
        OutputError: the folder cannot be written.
    """
    _arrow()
    directory = Path(directory)
    if not split.isidentifier():
        raise UsageError(f"--split must be a word such as test or train, got {split!r}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory}: is there already and not empty; choose another --out, or delete it first")
    stage = directory.with_name(f".{directory.name}.tmp")
    try:
        shutil.rmtree(stage, ignore_errors=True)
        (stage / "data").mkdir(parents=True)
        facts = hub_card.Facts()
        shards = _Shards(stage / "data", shard_bytes)
        try:
            for number, case in enumerate(cases, 1):
                where = pictures.root_of(case, Path(root) if root else None)
                row, size = _row(case, where)
                if case.id in facts.ids:
                    raise InputError(case.id, "the id is there twice", field="id")
                shards.add(row, size)
                facts.add(case, row["marked_images"])
                if progress:
                    progress(number)
        finally:
            shards.close()
        found = shards.named(split)
        hub_card.write(stage, facts, split, [path.stat().st_size for path in found], build)
        if directory.exists():
            directory.rmdir()
        stage.rename(directory)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return [directory / "data" / path.name for path in found]


def read(directory: str | Path, into: str | Path | None = None, split: str | None = None) -> Iterator[Case]:
    """The cases of such a data set, in order, each as it was.

    Args:
        directory: what ``write`` wrote, or a copy of it from a hub.
        into: folder that the clean images are written to, byte for byte, under the paths that the cases name; it
            becomes the ``root`` of the cases. None leaves the images where they are.
        split: None for all.

    Raises:
        UsageError: pyarrow is not installed.
        InputError: a file or a row cannot be read, or a path would leave ``into``.
        OutputError: an image cannot be written.
    """
    _, parquet = _arrow()
    folder = Path(directory) / "data"
    files = [name for name in list_names(folder, (".parquet",)) if split is None or name.startswith(f"{split}-")]
    if not files:
        raise InputError(folder, "holds no Parquet files")
    for name in files:
        path = folder / name
        try:
            file = parquet.ParquetFile(path)
            for group in range(file.num_row_groups):
                for k, row in enumerate(file.read_row_group(group).to_pylist()):
                    yield _case(row, f"{path}: row group {group}, row {k}", Path(into) if into else None)
        except _arrow_errors() as error:
            raise InputError(path, f"cannot be read as Parquet: {' '.join(str(error).split())}") from error


def push(directory: str | Path, repository: str, private: bool = True, token: str | None = None) -> str:
    """Upload a written data set to a hub (HF_ENDPOINT names another one than huggingface.co).

    Args:
        directory: what ``write`` wrote.
        repository: "user/name"; made if it is missing.
        private: of a repository that is made.
        token: None takes HF_TOKEN, or what ``hf auth login`` has kept.

    Returns:
        the address of the commit.

    Raises:
        UsageError: huggingface_hub is not installed, or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise UsageError("--push needs huggingface_hub: pip install 'mmvm-data[hub]'") from error
    api = HfApi(token=token)
    try:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        done = api.upload_folder(
            folder_path=directory,
            repo_id=repository,
            repo_type="dataset",
            commit_message="Data set of mmvm-data",
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UsageError(f"{repository}: cannot be pushed: {' '.join(str(error).split())}") from error
    return str(done.commit_url)


def schema() -> pa.Schema:
    """The columns, with the features of ``datasets`` in the metadata."""
    pa, _ = _arrow()
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
    features = {name: _feature(kind) for name, kind in columns}
    for name in ("images", "marked_images"):
        features[name] = {"feature": {"_type": "Image"}, "_type": "List"}
    info = json.dumps({"info": {"features": features}})
    return pa.schema(columns, metadata={"huggingface": info})


def _feature(kind: pa.DataType) -> Any:
    """A column's type as ``datasets`` 4 and newer write it."""
    pa, _ = _arrow()
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def _row(case: Case, root: Path) -> tuple[dict[str, Any], int]:
    """A case as a row, and how many bytes it has, about."""
    clean, drawn = pictures.both(case, root)
    try:
        letter = case.letter
    except ValueError as error:
        raise InputError(case.id, str(error), field="options") from error
    origin = case.provenance
    rest = case.model_dump_json(exclude=set(_TYPED))
    regions = [*case.query, *(candidate.region for candidate in case.candidates)]
    row: dict[str, Any] = {
        "id": case.id,
        "images": [{"bytes": p.data, "path": p.path} for p in clean],
        "marked_images": [{"bytes": p.data, "path": p.path} for p in drawn],
        "query": [{"image": k, **_region(region)} for k, region in enumerate(case.query)],
        "candidates": [{"number": c.number, **_region(c.region)} for c in case.candidates],
        "question": case.question,
        "choices": format_choices(case.options),
        "options": [option.model_dump() for option in case.options],
        "answer": letter,
        "answer_number": case.answer,
        "match_types": list(case.match_types),
        "prompt": case.prompt,
        "rationale": case.rationale,
        "source": origin.source if origin else str(case.extra.get("source", "")) or None,
        "video": origin.video if origin else str(case.extra.get("video", "")) or None,
        "gap": origin.gap if origin else None,
        "look_alikes": origin.look_alikes if origin else None,
        "visible": origin.visible if origin else None,
        "rest": rest,
    }
    masks = sum(len(region.mask.counts) for region in regions if region.mask)
    return row, sum(len(p.data) for p in (*clean, *drawn)) + masks + len(rest.encode()) + 2000 + 100 * len(regions)


def _region(region: Region) -> dict[str, Any]:
    return {
        "id": region.id,
        "category": region.category,
        "size": list(region.mask.size) if region.mask else None,
        "rle": region.mask.counts if region.mask else None,
        "box": list(region.box) if region.box else None,
        "extra": json.dumps(region.extra, ensure_ascii=False) if region.extra else None,
    }


def _case(row: dict[str, Any], where: str, into: Path | None) -> Case:
    try:
        record = json.loads(row["rest"])
        record |= {name: row[name] for name in _TYPED if name not in ("query", "candidates", "answer")}
        record["answer"] = row["answer_number"]
        record["query"] = [_region_of(item) for item in row["query"]]
        record["candidates"] = [{"number": item["number"], "region": _region_of(item)} for item in row["candidates"]]
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
        raise InputError(where, f"has {len(files)} images for {len(case.frames)} frames", field="images")
    for frame, (_, data) in zip(case.frames, files, strict=True):
        path = safe_join(into, frame.path, where, "images")
        if frame.video_frame is not None:
            raise InputError(where, "a frame of a video file cannot be put back", field="images")
        if not isinstance(data, bytes):
            raise InputError(where, f"holds no bytes for {frame.path}", field="images")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise OutputError(path, error) from error
    return case.with_root(into)


def _region_of(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"id": item["id"], "category": item["category"]}
    if item["rle"] is not None:
        found["mask"] = {"size": item["size"], "counts": item["rle"]}
    if item["box"] is not None:
        found["box"] = item["box"]
    return found | {"extra": json.loads(item["extra"]) if item["extra"] else {}}


class _Shards:
    """Parquet files that are begun when the one before is full."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._schema = schema()
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None
        self._size = 0
        self._files: list[Path] = []

    def add(self, row: dict[str, Any], size: int) -> None:
        if self._writer is not None and self._size + size > self._limit:
            self.close()
        if self._writer is None:
            _, parquet = _arrow()
            self._files.append(self._folder / f"{len(self._files)}.part")
            self._writer = parquet.ParquetWriter(
                self._files[-1], self._schema, compression="snappy", write_statistics=["id", "source", "video"]
            )
            self._size = _FOOTER
        self._rows.append(row)
        self._size += size
        if len(self._rows) == _ROWS:
            self._flush()

    def close(self) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()
            self._writer = None

    def named(self, split: str) -> list[Path]:
        """Give the files their names, now that their number is known; one without rows when there was no case."""
        if not self._files:
            _, parquet = _arrow()
            self._files.append(self._folder / "0.part")
            parquet.write_table(self._schema.empty_table(), self._files[0])
        total = len(self._files)
        return [
            file.rename(self._folder / f"{split}-{k:05d}-of-{total:05d}.parquet") for k, file in enumerate(self._files)
        ]

    def _flush(self) -> None:
        if self._rows:
            pa, _ = _arrow()
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._size += _GROUP
            self._rows = []


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UsageError(_MISSING) from error
    return pyarrow, parquet


def _arrow_errors() -> tuple[type[Exception], ...]:
    pa, _ = _arrow()
    return pa.ArrowException, OSError, UnicodeDecodeError
