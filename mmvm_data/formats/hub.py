"""A benchmark as Parquet files with images inside that ``datasets`` loads (``pip install 'mmvm-data[hub]'``).

    README.md                              the card, which says where the data files are
    data/test-00000-of-00003.parquet       at most 500 MB each
    figures/                               images of the card

Columns are typed: images (structs of bytes and path, as ``datasets.Image`` has them), regions with their COCO
run-length encoding or boxes, options, match types, provenance. The column ``rest`` has everything else of a ``Case`` as
JSON, so that a case is read back as it was. The schema carries the features under the key ``huggingface``, as
``datasets`` 3 and older write them and all versions read them (datasets, ``arrow_writer.py``, ``_build_metadata``), so
that images are shown as images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Case
from mmvm_data.formats import hub_card
from mmvm_data.formats.case_images import require_root
from mmvm_data.formats.hub_rows import arrow_errors, case_from_row, case_to_row, import_pyarrow
from mmvm_data.formats.hub_shards import ParquetShards
from mmvm_data.io.files import list_names, open_regular
from mmvm_data.io.staging import staging_folder

SHARD_BYTES = 500_000_000
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
    """Write cases as a data set. A few dozen cases are in memory at a time; the folder appears when it is complete.

    Args:
        cases: with distinct ids.
        directory: must not exist, or be empty.
        root: folder that the paths of the cases' frames are relative to; None for the one they were read from.
        split: name of the split, such as test or train.
        shard_bytes: largest size of a Parquet file; it has at least one case.
        build: content of the benchmark's build.json, for the card; None without one.
        progress: called with the number of cases so far.

    Returns:
        The Parquet files.

    Raises:
        UsageError: pyarrow is not installed, or ``directory`` is not empty.
        OptionError: ``split`` is no valid name.
        InputError: an image is missing or damaged, or an id repeats.
        OutputError: the folder cannot be written.
    """
    import_pyarrow()
    directory = Path(directory)
    if not split.isidentifier():
        raise OptionError("split", f"must be a word such as test or train, got {split!r}")
    try:
        with staging_folder(directory) as staging_dir:
            (staging_dir / "data").mkdir()
            facts = hub_card.CardFacts()
            shards = ParquetShards(staging_dir / "data", shard_bytes)
            try:
                for number, case in enumerate(cases, 1):
                    row, size = case_to_row(case, require_root(case, Path(root) if root else None))
                    if case.id in facts.ids:
                        raise InputError(case.id, "the id occurs twice", field="id")
                    shards.add(row, size)
                    facts.add(case, row["marked_images"])
                    if progress:
                        progress(number)
            finally:
                shards.close()
            files = shards.rename_files(split)
            hub_card.write_card(staging_dir, facts, split, [path.stat().st_size for path in files], build)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    return [directory / "data" / path.name for path in files]


def read(directory: str | Path, into: str | Path | None = None, split: str | None = None) -> Iterator[Case]:
    """The cases of such a data set, in order, each as it was.

    Args:
        directory: a data set that ``write`` wrote, or a copy of it from a hub.
        into: folder that the clean images are written to, without their orientation tag, under the paths that the
            cases name; it becomes the ``root`` of the cases. None does not write the images.
        split: None for all.

    Raises:
        UsageError: pyarrow is not installed.
        InputError: a file or a row cannot be read, or a path would leave ``into``.
        OutputError: an image cannot be written.
    """
    _, parquet = import_pyarrow()
    folder = Path(directory) / "data"
    names = [name for name in list_names(folder, (".parquet",)) if split is None or name.startswith(f"{split}-")]
    if not names:
        raise InputError(folder, "holds no Parquet files")
    for name in names:
        path = folder / name
        try:
            with open_regular(path) as handle, parquet.ParquetFile(handle) as file:
                for group in range(file.num_row_groups):
                    for k, row in enumerate(file.read_row_group(group).to_pylist()):
                        yield case_from_row(row, f"{path}: row group {group}, row {k}", Path(into) if into else None)
        except arrow_errors() as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise InputError(path, f"cannot be read as Parquet: {reason}") from error


def push(directory: str | Path, repository: str, private: bool = True, token: str | None = None) -> str:
    """Upload a data set to a hub: huggingface.co, or the one that HF_ENDPOINT names.

    Args:
        directory: a data set that ``write`` wrote.
        repository: "user/name"; created if it is missing.
        private: whether a new repository is private.
        token: access token; None uses HF_TOKEN, or the token that ``hf auth login`` saved.

    Returns:
        The URL of the commit.

    Raises:
        UsageError: huggingface_hub is not installed, or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise UsageError("`push` needs huggingface_hub: pip install 'mmvm-data[hub]'") from error
    api = HfApi(token=token)
    try:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        commit = api.upload_folder(
            folder_path=directory,
            repo_id=repository,
            repo_type="dataset",
            commit_message="Data set of mmvm-data",
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UsageError(f"{repository}: cannot be pushed: {' '.join(str(error).split())}") from error
    return str(commit.commit_url)
