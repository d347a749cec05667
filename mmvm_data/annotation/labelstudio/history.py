"""Every annotation that was pulled, one line each, so that none is applied twice and none is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.io.files import atomic_write, open_regular
from mmvm_data.io.json_files import parse_json
from mmvm_data.io.json_lists import iter_json_list

FOLDER: Final = "annotation"
HISTORY: Final = "history.jsonl"


@dataclass
class History:
    """The annotations that were pulled.

    Attributes:
        path: of the file.
        entries: by number and time of the annotation, in the order in which they came.
        added: those that are not in the file yet, or differ there.
    """

    path: Path
    entries: dict[str, dict[str, Any]]
    added: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> History:
        """The history in a file; an empty one when there is no file.

        Raises:
            InputError: a line is not an annotation.
        """
        entries: dict[str, dict[str, Any]] = {}
        try:
            with open_regular(path) as lines:
                for number, line in enumerate(lines, start=1):
                    try:
                        entry = parse_json(line, path, f"line {number}")
                        entries[entry["key"]] = entry
                        entry["applied"] = bool(entry["applied"])
                    except (KeyError, TypeError) as error:
                        raise InputError(
                            path, "expected an annotation with key and applied", f"line {number}"
                        ) from error
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
        return cls(path, entries)

    def add(
        self,
        task: dict[str, Any],
        name: Any,
        annotation: dict[str, Any],
        by: str,
        applied: bool,
        noun: str,
    ) -> bool:
        """Put an annotation in and return whether it was applied before.

        Args:
            task: as the server gives it.
            name: of the case or the shot that it is about.
            annotation: as the server gives it.
            by: its author.
            applied: whether it is applied now.
            noun: the key for ``name``, "case" or "shot".
        """
        key = annotation_key(annotation)
        earlier = self.entries.get(key)
        if earlier is not None and (earlier["applied"] or not applied):
            return bool(earlier["applied"])
        self.entries[key] = self.added[key] = {
            "key": key,
            noun: name,
            "project": annotation.get("project") or task.get("project"),
            "task": task.get("id"),
            "annotation": annotation.get("id"),
            "by": by,
            "at": utc_time(annotation.get("updated_at")),
            "seconds": annotation.get("lead_time"),
            "applied": applied,
            "result": annotation.get("result"),
        }
        return False

    @property
    def new(self) -> int:
        """How many entries are not in the file yet."""
        return len(self.added)

    def merge(self, added: dict[str, dict[str, Any]]) -> None:
        """Put in what another reading of the file has added; what was applied stays so."""
        for key, entry in added.items():
            earlier = self.entries.get(key)
            if earlier is None or (entry["applied"] and not earlier["applied"]):
                self.entries[key] = self.added[key] = entry

    def to_text(self) -> str:
        """The content of the file; each line is one annotation."""
        return "".join(json.dumps(line, sort_keys=True) + "\n" for line in self.entries.values())

    def write(self) -> None:
        """Write the file when something is new. The caller holds the lock of the folder since it was read.

        Raises:
            OutputError: it cannot be written.
        """
        if not self.new:
            return
        try:
            self.path.parent.mkdir(exist_ok=True)
            with atomic_write(self.path) as out:
                out.write(self.to_text())
        except OSError as error:
            raise OutputError(error.filename or self.path, error) from error


def annotation_key(annotation: dict[str, Any]) -> str:
    """The key of an annotation in the history: its number and the time of its last change."""
    return f"{annotation.get('unique_id') or annotation.get('id')}@{annotation.get('updated_at')}"


def read_tasks(
    client: Client | None, project: Project | None, export: Path | None, page_size: int
) -> tuple[Iterator[dict[str, Any]], dict[int, str]]:
    """The tasks of a project with their annotations, and the users' e-mail addresses by number.

    Args:
        client, project: the server, or None with ``export``.
        export: a JSON export instead; users are known by what its annotations hold.
        page_size: tasks of one request.

    Raises:
        InputError: the export cannot be read.
        UsageError: the server cannot be used.
    """
    if export is not None:
        return read_export(export), {}
    assert client is not None and project is not None
    users = client.list_users()
    return client.iter_tasks(project.id, "id,data,annotations", page_size), users


def submitted_annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations of a task that were submitted, oldest first."""
    annotations = task.get("annotations") or []
    if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
        raise UsageError(f"task {task.get('id')!r:.40}: expected a list of annotations, as Label Studio writes it")
    return sorted((a for a in annotations if not a.get("was_cancelled")), key=timestamp)


def author(annotation: dict[str, Any], users: dict[int, str]) -> str:
    """E-mail address of the annotator, as far as it is known."""
    user = annotation.get("completed_by")
    if isinstance(user, dict):
        return str(user.get("email") or user.get("id"))
    return users.get(user, f"user {user}") if isinstance(user, int) else "unknown"


def timestamp(annotation: dict[str, Any]) -> tuple[str, int]:
    """The order of annotations: time of the last change, then number."""
    return str(annotation.get("updated_at") or ""), int(annotation.get("id") or 0)


def utc_time(time: Any) -> str | None:
    """A time of the server in UTC, to the second; None for a value that is not a time."""
    try:
        moment = datetime.fromisoformat(str(time).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_export(path: Path) -> Iterator[dict[str, Any]]:
    """The tasks of Label Studio's JSON export.

    Raises:
        InputError: the file cannot be read, or is not such an export.
    """
    for task in iter_json_list(path):
        if not isinstance(task, dict):
            raise InputError(path, "expected a list of tasks, as Label Studio's export JSON has them")
        yield task
