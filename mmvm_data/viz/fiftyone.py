"""A benchmark as a persistent, grouped FiftyOne data set, and the tags of its cases back in their records.

A group is a case, a slice one of its images (``query``, ``query2`` …, ``candidates``). Samples are found again by case
and slice, so loading again changes what has changed, and goes on where a load was cut off. The App's users own the tags
of a sample, and all fields and views that they add; everything else follows the records.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench, revisions
from mmvm_data.viz import app_schema, case_tags, model_answers, predictions
from mmvm_data.viz.mongo import Database, hidden
from mmvm_data.viz.samples import check, images_of_case, slices_of, sum_of

BATCH = 50
"""Cases that are in memory at a time."""
INFO = "mmvm_data"


@dataclass
class Loaded:
    """What a load did.

    Attributes:
        name: of the data set.
        added, updated, same, removed: numbers of cases; removed ones are no longer in the benchmark.
        problems: cases that were left out, each with its reason.
        models: name -> share of right answers, 0..1, over the cases that it answered.
        unknown: answers to cases that are not in the data set.
        seconds: wall clock.
    """

    name: str
    added: int = 0
    updated: int = 0
    same: int = 0
    removed: int = 0
    problems: list[bench.Problem] = field(default_factory=list)
    models: dict[str, float] = field(default_factory=dict)
    unknown: int = 0
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        """Cases of the benchmark that are in the data set now."""
        return self.added + self.updated + self.same


@dataclass(frozen=True)
class Pulled:
    """What a pull did: ids of the cases whose records became different, and all tags with their numbers of cases."""

    name: str
    changed: list[str]
    tags: dict[str, int]


@dataclass(frozen=True)
class Kept:
    """The samples of one case in the data set: slice -> id of the sample, tags; and what they were made from."""

    ids: dict[str, str]
    tags: dict[str, list[str]]
    made_from: str
    agreed: tuple[str, ...]


def connect(database: Database) -> Any:
    """The library, connected; nothing is sent to its makers.

    Raises:
        UsageError: the database is one of another version of FiftyOne, or this process is connected to another one.
    """
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    os.environ["FIFTYONE_DATABASE_URI"] = database.uri
    os.environ["FIFTYONE_SHOW_PROGRESS_BARS"] = "false"
    os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    from pymongo.errors import PyMongoError

    try:
        import fiftyone as fo  # connects
    except (PyMongoError, RuntimeError, OSError) as error:
        raise UsageError(f"database {database}: {_line(error)}") from error
    if fo.config.database_uri != database.uri:
        raise UsageError(f"this process is connected to {hidden(str(fo.config.database_uri))} already")
    return fo


def load(
    fo: Any,
    folder: Path,
    name: str | None = None,
    runs: predictions.Runs | None = None,
    progress: Callable[[int, int | None], None] = lambda done, of: None,
) -> Loaded:
    """Bring the data set of a benchmark up to its records.

    Args:
        fo: the library, from ``connect``.
        folder: the benchmark.
        name: of the data set; the folder's by default.
        runs: answers of models; those of a model that the data set knows already are replaced.
        progress: called with (cases done, cases in all or None) after each batch.

    Raises:
        InputError: there is no benchmark, or none of its cases can be shown; the database is untouched then.
        UsageError: the name is taken by other data, or the database cannot be written. A later load goes on from there.
    """
    start, folder = time.monotonic(), folder.resolve()
    name = name or folder.name
    result = Loaded(name)
    cases = _usable(folder, result.problems)
    first = next(cases, None)
    if first is None:
        reason = f"no case can be shown: {': '.join(result.problems[0])}" if result.problems else "there are no cases"
        raise InputError(folder, reason)
    total = _count(folder)
    seen: set[str] = set()
    with database_errors():
        dataset = _dataset(fo, folder, name)
        kept = _kept(dataset)
        progress(0, total)
        for batch in _batches(itertools.chain([first], cases)):
            _put(fo, dataset, folder, batch, kept, result)
            seen.update(case.id for case in batch)
            progress(len(seen), total)
        gone = [case for case in kept if case not in seen]
        if gone and not result.problems:  # the id of a line that cannot be read is not known
            dataset.delete_samples([id for case in gone for id in kept[case].ids.values()])
            result.removed = len(gone)
        _show_models(fo, dataset, folder, runs or {}, result)
    result.seconds = time.monotonic() - start
    return result


def pull(fo: Any, folder: Path, name: str | None = None, by: str | None = None) -> Pulled:
    """Write the tags that people set in the App into the records of their cases (see ``case_tags``).

    A tag on one image of a case is a tag on the case, and afterwards on all its images. Without new tags no file
    changes.

    Args:
        fo: the library, from ``connect``.
        folder: the benchmark, with its cases.jsonl.
        name: of the data set; the folder's by default.
        by: who tagged, for the review of rejected cases.

    Raises:
        InputError: the benchmark has no cases.jsonl, or a line of it is broken.
        UsageError: the benchmark has not been loaded, or the database is down.
        OutputError: the folder cannot be written.
    """
    folder = folder.resolve()
    name = name or folder.name
    if not (folder / bench.CASES).is_file():
        raise InputError(folder / bench.CASES, "file is missing; tags are written into it")
    with database_errors():
        if not fo.dataset_exists(name) or _place(fo.load_dataset(name)) != str(folder):
            raise UsageError(f"{folder} has not been loaded into this database: mmvm-data browse {folder}")
        dataset = fo.load_dataset(name)
        kept = _kept(dataset)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    changed: dict[str, Case] = {}
    uneven: dict[str, tuple[set[str], set[str]]] = {}
    counts: dict[str, int] = {}
    for case in bench.read(folder):
        there = kept.get(case.id)
        if there is None:
            continue
        tags = case_tags.merged(there.agreed, [case_tags.of(case), *there.tags.values()])
        for tag in tags:
            counts[tag] = counts.get(tag, 0) + 1
        after = case_tags.tagged(case, tags, by, at)
        if after != case:
            changed[case.id] = after
        if any(set(found) != tags for found in there.tags.values()) or set(there.agreed) != case_tags.of(after):
            uneven[case.id] = tags, case_tags.of(after)
    different = revisions.revise(folder, changed)
    with database_errors():
        for some in _batches(iter(list(uneven.items()))):
            for case_id, (tags, agreed) in some:
                _tag(dataset, kept[case_id], tags, agreed)
        result = Loaded(name)
        for batch in _batches(case.with_root(folder) for case in changed.values()):
            _put(fo, dataset, folder, batch, _kept(dataset, [case.id for case in batch]), result)
    return Pulled(name, different, dict(sorted(counts.items())))


def open_app(fo: Any, name: str, address: str, port: int) -> tuple[Any, str]:
    """Start the App of a data set; returns its session and its URL. The session is closed with ``session.close()``.

    Raises:
        UsageError: the port is taken: FiftyOne would join the App that is there, whatever data it shows.
    """
    import socket

    try:
        with socket.create_server((address, port)):
            pass
    except OSError as error:
        raise UsageError(
            f"{address}:{port} cannot be used ({error.strerror or error}); another App may be open there: give --port"
        ) from error
    with database_errors():
        session = fo.launch_app(fo.load_dataset(name), remote=True, address=address, port=port)
    host = f"[{address}]" if ":" in address else address
    return session, f"http://{host}:{port}/datasets/{name}"


@contextmanager
def database_errors() -> Iterator[None]:
    """What the database says when it fails, as one line.

    Raises:
        UsageError: in the place of the driver's errors.
    """
    from mongoengine.errors import OperationError
    from pymongo.errors import PyMongoError

    try:
        yield
    except (PyMongoError, OperationError) as error:
        raise UsageError(
            f"the database failed: {_line(error)}; what is loaded stays, the same command goes on from there"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split(", Timeout:")[0].split())[:200]


def _usable(folder: Path, problems: list[bench.Problem]) -> Iterator[Case]:
    """The cases that can be shown, in order, each id once."""
    seen: set[str] = set()
    for case in bench.read(folder, problems):
        try:
            if case.id in seen:
                raise InputError(case.id, "the id is there a second time")
            check(case, folder)
        except InputError as error:
            problems.append(bench.Problem(f"{error.file}{f': {error.field}' if error.field else ''}", error.reason))
            continue
        seen.add(case.id)
        yield case


def _count(folder: Path) -> int | None:
    path = folder / bench.CASES
    if not path.is_file():
        return None
    with open(path, "rb") as lines:
        return sum(1 for _ in lines)


def _batches(things: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(things, BATCH)):
        yield batch


def _place(dataset: Any) -> str | None:
    return dataset.info.get(INFO, {}).get("folder")


def _dataset(fo: Any, folder: Path, name: str) -> Any:
    """The data set of a benchmark with all its fields, made when it is not there or not finished."""
    dataset = fo.load_dataset(name) if fo.dataset_exists(name) else fo.Dataset(name, persistent=True)
    place = _place(dataset)
    if place is None and len(dataset):
        raise UsageError(f"the database has a data set {name!r} of another origin: give --name")
    if place not in (None, str(folder)) and Path(place).is_dir():
        raise UsageError(f"the data set {name!r} shows {place}: give --name")
    dataset.persistent = True
    dataset.info[INFO] = {**dataset.info.get(INFO, {}), "folder": str(folder)}
    dataset.save()
    app_schema.add_fields(fo, dataset)
    return dataset


def _kept(dataset: Any, only: Collection[str] | None = None) -> dict[str, Kept]:
    """Id of the case -> its samples; of ``only`` these cases when given."""
    from fiftyone import ViewField

    view = dataset.select_group_slices(_allow_mixed=True)
    if only is not None:
        view = view.match(ViewField("case_id").is_in(list(only)))
    rows = zip(*view.values(["case_id", "group.name", "id", "tags", "made_from", "agreed_tags"]), strict=True)
    found: dict[str, Kept] = {}
    for case_id, slice_name, sample, tags, made_from, agreed in rows:
        case = found.setdefault(case_id, Kept({}, {}, made_from, tuple(agreed or ())))
        case.ids[slice_name] = sample
        case.tags[slice_name] = list(tags or ())
        if made_from != case.made_from:  # the load that updated it was cut off between two images
            found[case_id] = Kept(case.ids, case.tags, "", case.agreed)
    return found


def _put(fo: Any, dataset: Any, folder: Path, batch: list[Case], kept: dict[str, Kept], result: Loaded) -> None:
    """Bring the samples of a few cases up to their records."""
    fresh, stale = [], []
    for case in batch:
        there = kept.get(case.id)
        complete = there is not None and sorted(there.ids) == sorted(slices_of(case))
        if there is not None and complete and there.made_from == sum_of(case, folder):
            result.same += 1
            continue
        now = case_tags.of(case)
        if there is None:
            result.added += 1
        else:
            result.updated += 1
        group = fo.Group()
        fields = images_of_case(fo, case, folder)
        if there is not None and complete:
            for name, values in fields.items():
                tags = case_tags.followed(there.tags[name], there.agreed, now)
                stale.append((there.ids[name], values | {"tags": sorted(tags)}))
            continue
        before = set(now)
        if there is not None:  # a group that a killed load left half, or a case with more images than before
            before = case_tags.followed(case_tags.merged(there.agreed, there.tags.values()), there.agreed, now)
            dataset.delete_samples(list(there.ids.values()))
        for name, values in fields.items():
            fresh.append(fo.Sample(group=group.element(name), tags=sorted(before), **values))
    if fresh:
        for name in sorted({sample.group.name for sample in fresh} - set(dataset.group_slices)):
            dataset.add_group_slice(name, "image")
        dataset.add_samples(fresh, expand_schema=False, batcher=False, progress=False)
    if stale:
        wanted = dict(stale)
        view = dataset.select_group_slices(_allow_mixed=True).select(list(wanted))
        for sample in view.iter_samples(autosave=True):
            for name, value in wanted[sample.id].items():
                sample[name] = value


def _tag(dataset: Any, there: Kept, tags: Collection[str], agreed: Collection[str]) -> None:
    for sample in dataset.select_group_slices(_allow_mixed=True).select(list(there.ids.values())):
        sample.tags = sorted(tags)
        sample["agreed_tags"] = sorted(agreed)
        sample.save()


def _show_models(fo: Any, dataset: Any, folder: Path, runs: predictions.Runs, result: Loaded) -> None:
    """Bring answers, saved views and the sidebar up to the records."""
    names = model_answers.names_of(dataset, INFO)
    everything = model_answers.stored(dataset, names) | runs
    if everything:
        ids = {case: there.ids for case, there in _kept(dataset).items()}
        result.models = model_answers.show(fo, dataset, everything, _usable(folder, []), ids)
        result.unknown = sum(case not in ids for answers in runs.values() for case in answers)
        names = {predictions.field_of(model): model for model in sorted(everything)}
        dataset.info[INFO] = {**dataset.info[INFO], "models": names}
        dataset.save()
    app_schema.arrange(fo, dataset, names)
