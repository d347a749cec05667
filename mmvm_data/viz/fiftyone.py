"""A benchmark as a persistent, grouped FiftyOne data set, and the tags of its cases written back to their records.

A group is a case, a slice one of its images (``query``, ``query2`` …, ``candidates``). Samples are identified by case
and slice, so loading again updates what has changed, and continues where a load was interrupted. The App's users own
the tags of a sample, and all fields and views that they add; everything else follows the records.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.redact import redact_urls
from mmvm_data.core.types import Case
from mmvm_data.formats import bench, predictions, revisions
from mmvm_data.formats.import_bench import import_benchmark
from mmvm_data.viz import app_schema, case_tags, embeddings, findings, model_answers
from mmvm_data.viz.case_labels import edit_conflict, merge_edits, with_labels
from mmvm_data.viz.dataset_samples import WriteCounts, read_stored_cases, write_cases, write_tags
from mmvm_data.viz.mongo import Database, redact_uri
from mmvm_data.viz.samples import check_case

BATCH = 50
"""Cases that are in memory at a time."""
COMMAND = "mmvm-data browse pull"
INFO = "mmvm_data"
"""Key of this package in the data set's ``info``."""


@dataclass
class LoadResult(WriteCounts):
    """What a load did; ``added``, ``updated`` and ``unchanged`` are numbers of cases.

    Attributes:
        name: of the data set.
        removed: cases that are no longer in the benchmark.
        problems: cases that were left out, each with its reason.
        models: name -> share of right answers, 0..1, over the cases that it answered.
        unknown: answers to cases that are not in the data set.
        embedded: cases in the map of colors.
        seconds: wall clock.
    """

    name: str = ""
    removed: int = 0
    problems: list[bench.Problem] = field(default_factory=list)
    models: dict[str, float] = field(default_factory=dict)
    unknown: int = 0
    embedded: int = 0
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        """Cases of the benchmark that are in the data set now."""
        return self.added + self.updated + self.unchanged


@dataclass(frozen=True)
class PullResult:
    """What a pull did.

    Attributes:
        name: of the data set.
        changed: ids of the cases whose records changed.
        tags: number of cases by tag.
        problems: edits that no record can take, each with its reason; they stay in the data set.
    """

    name: str
    changed: list[str]
    tags: dict[str, int]
    problems: list[bench.Problem] = field(default_factory=list)


def connect(database: Database) -> Any:
    """Return the library, connected to a database; its usage tracking is switched off.

    Raises:
        UsageError: the database belongs to another version of FiftyOne, or this process is connected to another one.
    """
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    os.environ["FIFTYONE_DATABASE_URI"] = database.uri
    os.environ["FIFTYONE_SHOW_PROGRESS_BARS"] = "false"
    os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    from pymongo.errors import PyMongoError

    try:
        import fiftyone as fo  # connects
    except (PyMongoError, RuntimeError, OSError) as error:
        raise UsageError(f"database {database}: {_first_line(error)}") from error
    if fo.config.database_uri != database.uri:
        raise UsageError(f"this process is connected to {redact_uri(str(fo.config.database_uri))} already")
    return fo


def load(
    fo: Any,
    folder: Path,
    name: str | None = None,
    answers: predictions.AnswersByModel | None = None,
    audit: findings.AuditFindings | None = None,
    with_embeddings: bool = False,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> LoadResult:
    """Update the data set of a benchmark from its records, or create it.

    Args:
        fo: the library, from ``connect``.
        folder: the benchmark.
        name: of the data set; the folder's by default.
        answers: of models; those of a model that is in the data set already are replaced.
        audit: pairs of an audit of the benchmark; None keeps those of a former load.
        with_embeddings: compute the map and the search by color, see ``embeddings``.
        progress: called with (cases done, cases in all or None) after each batch.

    Raises:
        InputError: there is no benchmark, or none of its cases can be shown; the database is untouched then.
        UsageError: the name is taken by other data, or the database cannot be written. A later load continues from
            there.
    """
    start, folder = time.monotonic(), folder.resolve()
    name = name or folder.name
    result = LoadResult(name=name)
    cases = _usable_cases(folder, result.problems)
    first = next(cases, None)
    if first is None:
        reason = f"no case can be shown: {': '.join(result.problems[0])}" if result.problems else "there are no cases"
        raise InputError(folder, reason)
    total = _count_records(folder)
    seen: set[str] = set()
    with database_errors():
        dataset = _open_dataset(fo, folder, name)
        stored = read_stored_cases(dataset)
        progress(0, total)
        for batch in _batches(itertools.chain([first], cases)):
            write_cases(fo, dataset, folder, batch, stored, result)
            seen.update(case.id for case in batch)
            progress(len(seen), total)
        removed = [case_id for case_id in stored if case_id not in seen]
        if removed and not result.problems:  # the id of a line that cannot be read is not known
            dataset.delete_samples([sample for case_id in removed for sample in stored[case_id].ids.values()])
            result.removed = len(removed)
        ids = {case_id: case.ids for case_id, case in read_stored_cases(dataset).items()}
        findings.write_findings(dataset, folder, ids, audit)
        if with_embeddings:
            cases_with_images = (case.with_root(folder) for case in _usable_cases(folder, []))
            result.embedded = embeddings.write_color_embeddings(fo, dataset, cases_with_images, ids)
        _write_models(fo, dataset, folder, answers or {}, ids, result)
    result.seconds = time.monotonic() - start
    return result


def pull(fo: Any, folder: Path, name: str | None = None, by: str | None = None) -> PullResult:
    """Write the tags that people set in the App, and answers and match types that they edited there, into the records
    of their cases (see ``case_tags`` and ``case_labels``).

    A tag on one image of a case is a tag on the case, and afterwards on all its images. Without new tags no file
    changes.

    Args:
        fo: the library, from ``connect``.
        folder: the benchmark; one in the published layout is imported first.
        name: of the data set; the folder's by default.
        by: reviewer, for the review of rejected and edited cases.

    Raises:
        InputError: the benchmark cannot be read.
        UsageError: the benchmark has not been loaded, or the database is down.
        OutputError: the folder cannot be written.
    """
    folder = folder.resolve()
    name = name or folder.name
    with database_errors():
        if not fo.dataset_exists(name) or _stored_folder(fo.load_dataset(name)) != str(folder):
            raise UsageError(f"{folder} has not been loaded into this database: mmvm-data browse {folder}")
        dataset = fo.load_dataset(name)
        stored = read_stored_cases(dataset)
    import_benchmark(folder, COMMAND)  # tags are written into records
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    after: dict[str, Case] = {}
    outdated: dict[str, tuple[set[str], set[str]]] = {}
    counts: Counter[str] = Counter()
    problems: dict[str, bench.Problem] = {}

    def edit(case: Case) -> Case:
        old = stored[case.id]
        edited = case
        conflict = edit_conflict(case, old.edits.values())
        if conflict is not None:
            reason = f"{conflict[1]}; load the benchmark again, then edit it"
            problems[case.id] = bench.Problem(f"{case.id}: {conflict[0]}", reason)
        elif old.edits:
            try:
                edited = with_labels(case, merge_edits(case, old.edits.values()), by, at)
            except InputError as error:
                problems[case.id] = bench.Problem(f"{case.id}: {error.field}", error.reason)
        tags = case_tags.merge_tags(old.agreed_tags, [case_tags.record_tags(case), *old.tags.values()])
        counts.update(tags)
        after[case.id] = case_tags.with_tags(edited, tags, by, at)
        agreed = case_tags.record_tags(after[case.id])
        if any(set(of_slice) != tags for of_slice in old.tags.values()) or set(old.agreed_tags) != agreed:
            outdated[case.id] = tags, agreed
        return after[case.id]

    with revisions.open_revision(folder, COMMAND) as revision:
        present = [case.id for case in bench.read(folder) if case.id in stored]
        changed_ids = revision.write(dict.fromkeys(present, edit))
    with database_errors():
        for case_id, (tags, agreed) in outdated.items():
            write_tags(dataset, stored[case_id], tags, agreed)
        for batch in _batches(after[case_id].with_root(folder) for case_id in changed_ids):
            stored = read_stored_cases(dataset, [case.id for case in batch])
            write_cases(fo, dataset, folder, batch, stored, WriteCounts())
    return PullResult(name, changed_ids, dict(sorted(counts.items())), list(problems.values()))


def open_app(fo: Any, name: str, address: str, port: int) -> tuple[Any, str]:
    """Start the App of a data set; return its session, to be closed with ``session.close()``, and its URL.

    Raises:
        UsageError: the port is in use: FiftyOne would connect to the App there, whatever data it shows.
    """
    import socket

    try:
        with socket.create_server((address, port)):
            pass
    except OSError as error:
        reason = f"cannot be used ({error.strerror or error}); an App may be open there: name another `port`"
        raise UsageError(f"{address}:{port} {reason}") from error
    with database_errors():
        session = fo.launch_app(fo.load_dataset(name), remote=True, address=address, port=port)
    host = f"[{address}]" if ":" in address else address
    return session, f"http://{host}:{port}/datasets/{name}"


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn errors of the database into one line.

    Raises:
        UsageError: instead of the driver's errors.
    """
    from mongoengine.errors import OperationError
    from pymongo.errors import PyMongoError

    try:
        yield
    except (PyMongoError, OperationError) as error:
        raise UsageError(
            f"the database failed: {_first_line(error)}; what is loaded is kept, the same command continues from there"
        ) from error


def _first_line(error: Exception) -> str:
    return " ".join(redact_urls(str(error)).split(", Timeout:")[0].split())[:200]


def _usable_cases(folder: Path, problems: list[bench.Problem]) -> Iterator[Case]:
    """Yield the cases that can be shown, in order, each id once."""
    seen: set[str] = set()
    for case in bench.read(folder, problems):
        try:
            if case.id in seen:
                raise InputError(case.id, "the id repeats")
            check_case(case, folder)
        except InputError as error:
            problems.append(bench.Problem(f"{error.file}{f': {error.field}' if error.field else ''}", error.reason))
            continue
        seen.add(case.id)
        yield case


def _count_records(folder: Path) -> int | None:
    path = folder / bench.CASES
    if not path.is_file():
        return None
    with open(path, "rb") as lines:
        return sum(1 for _ in lines)


def _batches(cases: Iterator[Case]) -> Iterator[list[Case]]:
    while batch := list(itertools.islice(cases, BATCH)):
        yield batch


def _stored_folder(dataset: Any) -> str | None:
    """Return the folder of the benchmark that a data set shows; None for a data set of another origin."""
    folder: str | None = dataset.info.get(INFO, {}).get("folder")
    return folder


def _open_dataset(fo: Any, folder: Path, name: str) -> Any:
    """Return the data set of a benchmark with all its fields, created when it does not exist or is incomplete."""
    dataset = fo.load_dataset(name) if fo.dataset_exists(name) else fo.Dataset(name, persistent=True)
    stored_folder = _stored_folder(dataset)
    if stored_folder is None and len(dataset):
        raise UsageError(f"the database has a data set {name!r} of another origin: choose another `name`")
    if stored_folder not in (None, str(folder)) and Path(str(stored_folder)).is_dir():
        raise UsageError(f"the data set {name!r} shows {stored_folder}: choose another `name`")
    dataset.persistent = True
    dataset.info[INFO] = {**dataset.info.get(INFO, {}), "folder": str(folder)}
    dataset.save()
    app_schema.add_fields(fo, dataset)
    findings.add_fields(fo, dataset)
    return dataset


def _write_models(
    fo: Any,
    dataset: Any,
    folder: Path,
    answers: predictions.AnswersByModel,
    ids: Mapping[str, Mapping[str, str]],
    result: LoadResult,
) -> None:
    """Update the models' answers, the saved views and the sidebar from the records."""
    names = model_answers.stored_models(dataset, INFO)
    all_answers = model_answers.read_stored_answers(dataset, names) | answers
    if all_answers:
        result.models = model_answers.write_answers(fo, dataset, all_answers, _usable_cases(folder, []), ids)
        result.unknown = sum(case_id not in ids for by_case in answers.values() for case_id in by_case)
        names = {predictions.model_field(model): model for model in sorted(all_answers)}
        dataset.info[INFO] = {**dataset.info[INFO], "models": names}
        dataset.save()
    app_schema.configure_app(fo, dataset, names)
