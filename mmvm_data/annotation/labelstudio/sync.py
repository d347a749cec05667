"""Tasks of a Label Studio project kept in step with a folder: what review and track drawing share.

Each task holds in its data the name of what it shows (a case, a shot) and a ``revision``, a hash of everything else in
them. Push compares names and revisions with what is on the server, so one that was stopped continues, and one that is
repeated changes nothing. Pull reads every annotation, keeps all of them in a history, and returns of each task the
latest that was not applied before.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from mmvm_data.annotation.labelstudio.client import Client, OutcomeUnknown, Project, RequestRejected, ServerError
from mmvm_data.annotation.labelstudio.history import History, author, submitted_annotations, timestamp
from mmvm_data.annotation.labelstudio.project import SETTLE_SECONDS
from mmvm_data.core.errors import InputError
from mmvm_data.core.plurals import pluralize

Item = TypeVar("Item")
Reading = TypeVar("Reading")
Task = dict[str, Any]
"""A task as JSON: ``data``, and on the way to the server ``predictions``."""
Problem = tuple[str, str]
"""What is left out, and why."""
Interpret = Callable[[dict[str, Any], str], Reading]
"""An annotation and its author -> what it means; raises ValueError with what is wrong with the annotation."""

BATCH_TASKS: Final = 100
BATCH_BYTES: Final = 4_000_000
_ATTEMPTS: Final = 5
_COUNTS: Final = "id,data,total_annotations,cancelled_annotations,draft_exists"


@dataclass
class PushResult:
    """What a push did.

    Attributes:
        project: where the tasks are.
        created, updated, unchanged: tasks that are new, were changed, or were there as they are.
        annotated: tasks that people have worked on; they are left as they are.
        duplicates: second copies of tasks that were deleted; lost answers leave some.
        skipped: items for which no task is wanted.
        problems: name of an item, and why it was left out.
    """

    project: Project
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    annotated: int = 0
    duplicates: int = 0
    skipped: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass
class PullResult:
    """What a pull did.

    Attributes:
        tasks, annotations: that were read; ``skipped``: tasks that people passed over.
        changed: names of the items that became different.
        new: annotations that are new in the history.
        problems: task, and why its item was left as it is.
    """

    tasks: int = 0
    annotations: int = 0
    skipped: int = 0
    changed: list[str] = field(default_factory=list)
    new: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class ServerTask:
    """A task that is on the server.

    Attributes:
        id: its number.
        revision: of its data.
        has_work: whether people have annotated it, skipped it or started a draft.
    """

    id: int
    revision: str
    has_work: bool


@dataclass(frozen=True)
class _EncodedTask:
    """A task as it is sent: its name and its JSON."""

    name: str
    payload: bytes


def data_revision(data: dict[str, Any]) -> str:
    """The revision of a task's data: 16 hexadecimal digits of the SHA-256 of their JSON."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def push_tasks(
    client: Client,
    project: Project,
    name_key: str,
    items: Iterable[tuple[str, Item]],
    build_task: Callable[[Item], Task],
    is_wanted: Callable[[Item], bool] = lambda item: True,
    progress: Callable[[int], None] | None = None,
) -> PushResult:
    """Create the tasks that are missing, and update those whose revision differs unless people have worked on them.

    Args:
        client, project: where.
        name_key: under which key of a task's data its name is.
        items: what is pushed, under unique names.
        build_task: a task of an item; raises InputError for an item that cannot be pushed.
        is_wanted: whether a task is created for an item that has none.
        progress: called with the number of items that were looked at.

    Raises:
        ServerError: the server refuses everything or cannot be reached.
    """
    result = PushResult(project)
    server_tasks, result.duplicates = list_server_tasks(client, project.id, name_key)

    def missing_tasks() -> Iterator[_EncodedTask | None]:
        """The tasks to create; None after every item, for progress."""
        for name, item in items:
            existing = server_tasks.get(name)
            try:
                if existing is None and not is_wanted(item):
                    result.skipped += 1
                elif existing is not None and existing.has_work:
                    result.annotated += 1
                else:
                    task = build_task(item)
                    if existing is None:
                        yield _EncodedTask(name, json.dumps(task).encode())
                    elif existing.revision == task["data"]["revision"]:
                        result.unchanged += 1
                    elif update_task(client, existing.id, task):
                        result.updated += 1
                    else:
                        result.annotated += 1
            except InputError as error:
                result.problems.append((name, str(error)))
            yield None

    with ThreadPoolExecutor(1) as sender:  # the next batch is built while the server stores the last
        pending: Future[int] | None = None
        for batch in _make_batches(missing_tasks(), progress):
            if pending is not None:
                result.created += pending.result()
            pending = sender.submit(import_tasks, client, project.id, batch, name_key, result.problems)
        if pending is not None:
            result.created += pending.result()
    return result


def _make_batches(
    tasks: Iterable[_EncodedTask | None], progress: Callable[[int], None] | None
) -> Iterator[list[_EncodedTask]]:
    batch: list[_EncodedTask] = []
    size = items = 0
    for task in tasks:
        if task is not None:
            batch.append(task)
            size += len(task.payload)
            continue
        items += 1
        if len(batch) >= BATCH_TASKS or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        if progress:
            progress(items)
    if batch:
        yield batch


def list_server_tasks(client: Client, project: int, name_key: str) -> tuple[dict[str, ServerTask], int]:
    """The tasks of a project by name, and how many second copies were deleted: of two with one name, the later one
    goes, or the one that nobody has worked on."""
    tasks: dict[str, ServerTask] = {}
    duplicates = 0
    for task in client.iter_tasks(project, _COUNTS):
        name = task["data"].get(name_key)
        if not isinstance(name, str):
            continue
        current = ServerTask(task["id"], str(task["data"].get("revision")), has_work(task))
        earlier = tasks.get(name)
        if earlier is None:
            tasks[name] = current
            continue
        keep, drop = (earlier, current) if earlier.has_work or not current.has_work else (current, earlier)
        tasks[name] = keep
        if not drop.has_work:
            client.delete_task(drop.id)
            duplicates += 1
    return tasks, duplicates


def has_work(task: Task) -> bool:
    """Whether people have worked on a task: annotations, skips, drafts."""
    return bool(task["total_annotations"] or task["cancelled_annotations"] or task["draft_exists"])


def update_task(client: Client, number: int, task: Task) -> bool:
    """Replace the predictions and the data of a task, unless somebody has started to work on it.

    The data come last, so that a push that is stopped in between repeats the update.

    Returns:
        whether it was updated.
    """
    for _ in range(_ATTEMPTS):
        current = client.get_task(number)
        if current["annotations"] or current["drafts"]:
            return False
        for prediction in current["predictions"]:
            client.delete_prediction(prediction["id"])
        try:
            for prediction in task.get("predictions", ()):
                client.create_prediction(number, prediction["model_version"], prediction["result"])
        except OutcomeUnknown:  # begin again with the predictions that are there now
            time.sleep(SETTLE_SECONDS)
            continue
        client.update_task_data(number, task["data"])
        return True
    raise ServerError(f"{client.url} lost the prediction of task {number} {_ATTEMPTS} times; push again later")


def import_tasks(
    client: Client, project: int, tasks: list[_EncodedTask], name_key: str, problems: list[Problem]
) -> int:
    """Create tasks. Of a batch that is refused, the bad tasks are found by halving. After a lost answer, the tasks that
    are there are looked up before the rest is sent again.

    Args:
        client, project: where.
        tasks: one or more.
        name_key: under which key of a task's data its name is.
        problems: gets the tasks that the server refuses.

    Returns:
        how many were created.
    """
    created = 0
    for _ in range(_ATTEMPTS):
        try:
            client.import_tasks(project, b"[" + b",".join(task.payload for task in tasks) + b"]")
            return created + len(tasks)
        except OutcomeUnknown:
            time.sleep(SETTLE_SECONDS)
            existing = {task["data"].get(name_key) for task in client.iter_tasks(project, "id,data")}
            missing = [task for task in tasks if task.name not in existing]
            created += len(tasks) - len(missing)
            tasks = missing
            if not tasks:
                return created
        except RequestRejected as error:
            if error.status != 400:
                raise
            if len(tasks) == 1:
                problems.append((tasks[0].name, str(error)))
                return created
            half = len(tasks) // 2
            return created + sum(
                import_tasks(client, project, part, name_key, problems) for part in (tasks[:half], tasks[half:])
            )
    raise ServerError(f"{client.url} lost the same {pluralize(len(tasks), 'task')} {_ATTEMPTS} times; push again later")


@dataclass(frozen=True)
class ReadAnnotation(Generic[Reading]):
    """An annotation of a task.

    Attributes:
        annotation: as the server gives it.
        by: its author.
        reading: what it means; None when it was not read or cannot be used.
        problem: why it cannot be used; "" when it can.
    """

    annotation: dict[str, Any]
    by: str
    reading: Reading | None
    problem: str


def choose_latest(name: str, annotations: Sequence[ReadAnnotation[Reading]]) -> ReadAnnotation[Reading]:
    """The annotation that counts where one person's does: the latest."""
    return annotations[-1]


@dataclass(frozen=True)
class AnnotationReader(Generic[Reading]):
    """What the annotations of a kind of project mean.

    Attributes:
        noun: what a task shows, "case" or "shot": the word of messages, and the key of its name in the history.
        name_key: under which key of a task's data its name is.
        open_task: checks the name and the data of a task, and returns how its annotations are interpreted;
            raises ValueError with what is wrong with the task.
        reads_all: whether every annotation is interpreted, or only the latest of each task.
        must_apply: whether an annotation that was applied before is applied again, by name and reading.
        choose: which annotation of a task counts, by name and all of them, oldest first; None when none does yet. What
            cannot be used is reported for the one that counts, or for each when none does.
    """

    noun: str
    name_key: str
    open_task: Callable[[str, dict[str, Any]], Interpret[Reading]]
    reads_all: bool = False
    must_apply: Callable[[str, Reading], bool] = lambda name, reading: False
    choose: Callable[[str, Sequence[ReadAnnotation[Reading]]], ReadAnnotation[Reading] | None] = choose_latest


def pull_annotations(
    tasks: Iterable[Task],
    users: dict[int, str],
    history: History,
    reader: AnnotationReader[Reading],
    result: PullResult,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Reading]:
    """Put every annotation into the history, and read those that were not applied before.

    Args:
        tasks: with their annotations, as the server or an export has them.
        users: e-mail addresses by number.
        history: gets the annotations; the caller writes it once the readings are on disk.
        reader: what annotations mean.
        result: gets the counts and the problems.
        progress: called with the number of tasks that were read.

    Returns:
        by name, the annotation of each item that counts, where it is to be applied.
    """
    latest: dict[str, tuple[tuple[str, int], Reading]] = {}
    for task in tasks:
        result.tasks += 1
        annotations = submitted_annotations(task)
        result.annotations += len(annotations)
        result.skipped += bool(task.get("annotations") and not annotations)
        if annotations:
            applied = _read_task(task, annotations, users, history, reader, result)
            if applied is not None:
                name, chosen, reading = applied
                order = timestamp(chosen)
                if name not in latest or latest[name][0] <= order:  # two tasks may show one item
                    latest[name] = order, reading
        if progress:
            progress(result.tasks)
    result.new = history.new
    return {name: reading for name, (_, reading) in latest.items()}


def _read_task(
    task: Task,
    annotations: list[dict[str, Any]],
    users: dict[int, str],
    history: History,
    reader: AnnotationReader[Reading],
    result: PullResult,
) -> tuple[str, Task, Reading] | None:
    """The name of a task, its annotation that counts and what that means, if it is to be applied."""
    data = task.get("data") or {}
    name = data.get(reader.name_key)
    where = f"task {task.get('id')}" + (f" ({name})" if isinstance(name, str) and name else "")
    interpret: Interpret[Reading] | None = None
    task_problem = ""
    try:
        interpret = reader.open_task(str(name or ""), data)
    except ValueError as error:
        task_problem = str(error)
    read: list[ReadAnnotation[Reading]] = []
    for annotation in annotations:
        by, reading, problem = author(annotation, users), None, task_problem
        if interpret is not None and (annotation is annotations[-1] or reader.reads_all):
            try:
                reading = interpret(annotation, by)
            except ValueError as error:
                problem = f"the annotation of {by} {error}"
        read.append(ReadAnnotation(annotation, by, reading, problem))
    chosen = read[-1] if interpret is None else reader.choose(str(name), read)
    was_applied = False
    for entry in read:
        is_applied = entry is chosen and entry.reading is not None
        known = history.add(task, name, entry.annotation, entry.by, applied=is_applied, noun=reader.noun)
        was_applied |= is_applied and known
    for entry in read if chosen is None else (chosen,):
        if entry.reading is None and entry.problem:
            result.problems.append((where, f"{entry.problem}; the {reader.noun} is left as it is"))
    if chosen is None or chosen.reading is None or (was_applied and not reader.must_apply(str(name), chosen.reading)):
        return None
    return str(name), chosen.annotation, chosen.reading
