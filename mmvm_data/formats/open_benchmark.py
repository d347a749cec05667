"""Opens a benchmark of any form, and writes one: the one place that tells the forms apart.

=============  ==================================================================================================
form           what lies at the path
=============  ==================================================================================================
``bench``      a folder with ``cases.jsonl`` (ours) or ``mllm_match_eval_full.tsv`` and case folders (the published
               layout), or such a tsv under another name beside its case folders; see ``formats.bench``
``vlmevalkit`` a tsv with base64 images and free questions, or a folder with ``mmvm_vlmevalkit.tsv``; it has no
               regions, so it holds questions and no cases; see ``formats.vlmevalkit``
``hub``        a folder of Parquet files that ``datasets`` loads; see ``formats.hub``
=============  ==================================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench, hub, vlmevalkit
from mmvm_data.formats.bench_read import CASES, Problem, require_benchmark
from mmvm_data.formats.tsv import TSV, read_rows
from mmvm_data.formats.vlmevalkit import VlmEvalKitItem
from mmvm_data.io import remote
from mmvm_data.io.files import path_kind

Form = Literal["bench", "vlmevalkit", "hub"]
VLMEVALKIT_TSV = "mmvm_vlmevalkit.tsv"
"""Name of the tsv that is written in the form ``vlmevalkit``."""

_HUB_FILES = ("dataset_info.json", "dataset_dict.json", "state.json")


@dataclass
class Benchmark:
    """A benchmark that is read one case at a time, as often as it is iterated.

    Attributes:
        path: the folder or tsv.
        form: how it is stored.
        root: folder that the image paths of its cases are relative to. Images that lie inside a tsv or a Parquet
            file are written there when their case is read.
        problems: what could not be read so far: cases that were left out, and cases with parts that were left out.
    """

    path: Path
    form: Form
    root: Path
    problems: list[Problem] = field(default_factory=list)

    @property
    def has_regions(self) -> bool:
        """Whether it holds cases, with query and candidates, and not only questions with images."""
        return self.form != "vlmevalkit"

    def __iter__(self) -> Iterator[Case | VlmEvalKitItem]:
        """The cases in order; of the form ``vlmevalkit``, which has no regions, its questions.

        Raises:
            InputError: the benchmark as a whole cannot be read. A case that cannot be read is one of ``problems``.
            OutputError: an image cannot be written to ``root``.
            UsageError: pyarrow is not installed (form ``hub``).
        """
        if self.form == "vlmevalkit":
            return vlmevalkit.read(self.path, self.root, self.problems)
        return self.cases()

    def cases(self) -> Iterator[Case]:
        """The cases in order.

        Raises:
            UsageError: it holds no regions, so there are no cases.
            InputError, OutputError: as iteration does.
        """
        if self.form == "vlmevalkit":
            raise UsageError(f"{self.path}: holds questions without regions, so it has no cases")
        if self.form == "hub":
            return _read_hub(self.path, self.root)
        table = self.path.name if self.path.is_file() else None
        return bench.read(self.root, self.problems, table)


def open_benchmark(
    path: str | Path, *, cache_dir: str | Path | None = None, problems: list[Problem] | None = None
) -> Benchmark:
    """Open a benchmark of any form; its cases are read when it is iterated.

    Args:
        path: a folder or a tsv.
        cache_dir: folder for images that lie inside a tsv or a Parquet file, written to ``images`` in it. None: a
            folder of this benchmark in the cache of this package (``MMVM_DATA_CACHE``).
        problems: list that gets what could not be read; None: a new one. It is ``Benchmark.problems``.

    Raises:
        InputError: there is no benchmark at the path.
    """
    path = Path(path)
    form, path = _detect_form(path)
    if form == "bench":
        root = path.parent if path.is_file() else path
    else:
        root = (Path(cache_dir) if cache_dir else _default_cache_dir(path)) / "images"
    return Benchmark(path, form, root, [] if problems is None else problems)


def write_benchmark(
    cases: Iterable[Case],
    directory: str | Path,
    form: Form = "bench",
    root: str | Path | None = None,
    command: str = "mmvm_data.write_benchmark",
) -> list[Path]:
    """Write cases as a benchmark. One case (of the form ``hub``, a few dozen) is in memory at a time.

    Args:
        cases: with distinct ids.
        directory: created if it is missing. It must not hold a benchmark.
        form: ``bench``: case folders, tsv and cases.jsonl; ``vlmevalkit``: one tsv with the drawn images inside;
            ``hub``: Parquet files with a card, the split "test".
        root: folder that the image paths of the cases are relative to; None: the one that each case was read from.
        command: name of this command, for those that wait for it.

    Returns:
        The tables that were written: the tsv, or the Parquet files.

    Raises:
        OptionError: an unknown form.
        UsageError: ``directory`` holds a benchmark, or pyarrow is not installed (form ``hub``).
        InputError: an image is missing or damaged, an id repeats, or (form ``vlmevalkit``) a case has no drawn images.
        OutputError: the folder cannot be written.
    """
    directory = Path(directory)
    if form == "hub":
        return hub.write(cases, directory, root)
    if form not in get_args(Form):
        raise OptionError("form", f"must be {', '.join(map(repr, get_args(Form)))}, got {form!r}")
    if form == "bench":
        bench.write(cases, directory, root, is_new=True, command=command)
        return [directory / TSV]
    table = directory / VLMEVALKIT_TSV
    if table.exists():
        raise UsageError(f"{directory}: holds a benchmark already; choose another `directory`, or delete it first")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    vlmevalkit.write(cases, root, table)
    return [table]


def _detect_form(path: Path) -> tuple[Form, Path]:
    """The form of what lies at a path, and the path of its data.

    Raises:
        InputError: there is no benchmark.
    """
    kind = path_kind(path)
    if kind == "file" and path.suffix.lower() == ".tsv":
        first = next(read_rows(path), None)
        columns = first.cells.keys() if first else ()
        return "vlmevalkit" if "image" in columns and "choices" not in columns else "bench", path
    if kind == "folder":
        if (path / CASES).is_file() or (path / TSV).is_file():
            return "bench", path
        if (path / VLMEVALKIT_TSV).is_file():
            return "vlmevalkit", path / VLMEVALKIT_TSV
        if any((path / name).is_file() for name in _HUB_FILES) or any(path.rglob("*.parquet")):
            return "hub", path
        if any(path.glob(f"*/{CASES}")):
            require_benchmark(path)
    raise InputError(
        path, f"holds no benchmark: expected a folder with {CASES} or {TSV}, a tsv, or a data set of the Hub"
    )


def _default_cache_dir(path: Path) -> Path:
    digest = hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return remote.cache_dir() / "benchmarks" / f"{path.stem}-{digest}"


def _read_hub(path: Path, root: Path) -> Iterator[Case]:
    """The cases of a data set, as case folders below ``root``: clean images as they are, drawn ones beside them."""
    for case in hub.read(path, root):
        try:
            yield bench.redraw_case(case, root).with_root(root)
        except OSError as error:
            raise OutputError(error.filename or root, error) from error
