"""Every annotation that was pulled, one line each, so that none is brought twice and none is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import ijson

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.io.files import atomic_write

FOLDER: Final = "annotation"
HISTORY: Final = "history.jsonl"


@dataclass
class History:
    """The annotations that were seen.

    Attributes:
        path: of the file.
        entries: by number and time of the annotation, in the order in which they came.
        new: how many are not in the file yet.
    """

    path: Path
    entries: dict[str, dict[str, Any]]
    new: int = 0

    @classmethod
    def read(cls, path: Path) -> History:
        """The history in a file; an empty one when it is not there.

        Raises:
            InputError: a line is no annotation.
        """
        found: dict[str, dict[str, Any]] = {}
        try:
            with open(path, "rb") as lines:
                for number, line in enumerate(lines, start=1):
                    try:
                        entry = json.loads(line)
                        found[entry["key"]] = entry
                        entry["applied"] = bool(entry["applied"])
                    except (ValueError, KeyError, TypeError) as error:
                        raise InputError(
                            path, "expected an annotation with key and applied", f"line {number}"
                        ) from error
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
        return cls(path, found)

    def keep(
        self,
        task: dict[str, Any],
        name: Any,
        annotation: dict[str, Any],
        by: str,
        applied: bool,
        what: str = "case",
    ) -> bool:
        """Put an annotation in; whether it was applied before.

        Args:
            task: as the server gives it.
            name: of the case or the shot that it is about.
            annotation: as the server gives it.
            by: who made it.
            applied: whether it is applied now.
            what: the key for ``name``.
        """
        key = f"{annotation.get('unique_id') or annotation.get('id')}@{annotation.get('updated_at')}"
        before = self.entries.get(key)
        if before is not None and (before["applied"] or not applied):
            return bool(before["applied"])
        self.entries[key] = {
            "key": key,
            what: name,
            "project": annotation.get("project") or task.get("project"),
            "task": task.get("id"),
            "annotation": annotation.get("id"),
            "by": by,
            "at": utc(annotation.get("updated_at")),
            "seconds": annotation.get("lead_time"),
            "applied": applied,
            "result": annotation.get("result"),
        }
        self.new += 1
        return False

    def write(self) -> None:
        """Write the file when something is new; each line is one annotation.

        Raises:
            OutputError: it cannot be written.
        """
        if not self.new:
            return
        try:
            self.path.parent.mkdir(exist_ok=True)
            with atomic_write(self.path) as out:
                out.writelines(json.dumps(line, sort_keys=True) + "\n" for line in self.entries.values())
        except OSError as error:
            raise OutputError(error.filename or self.path, error) from error


def tasks_of(
    client: Client | None, project: Project | None, export: Path | None, size: int
) -> tuple[Iterator[dict[str, Any]], dict[int, str]]:
    """The tasks of a project with their annotations, and the people by their numbers (an export holds them itself).

    Args:
        client, project: the server, or None with ``export``.
        export: a JSON export instead.
        size: tasks to a request.

    Raises:
        InputError: the export cannot be read.
        UsageError: the server cannot be used.
    """
    if export is not None:
        return exported(export), {}
    assert client is not None and project is not None
    people = client.people()
    return client.tasks(project.id, "id,data,annotations", size=size), people


def done_of(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations of a task that were submitted, oldest first."""
    return sorted((a for a in task.get("annotations") or [] if not a.get("was_cancelled")), key=when)


def who(annotation: dict[str, Any], people: dict[int, str]) -> str:
    """E-mail address of the annotator, as far as it is known."""
    person = annotation.get("completed_by")
    if isinstance(person, dict):
        return str(person.get("email") or person.get("id"))
    return people.get(person, f"user {person}") if isinstance(person, int) else "unknown"


def when(annotation: dict[str, Any]) -> tuple[str, int]:
    """By what annotations are ordered: time of the last change, then number."""
    return str(annotation.get("updated_at") or ""), int(annotation.get("id") or 0)


def utc(time: Any) -> str | None:
    """A time of the server in UTC, to the second; None when it is none."""
    try:
        return (
            datetime.fromisoformat(str(time).replace("Z", "+00:00"))
            .astimezone(timezone.utc)
            .strftime("%Y-%m-%dT%H:%M:%SZ")
        )
    except ValueError:
        return None


def exported(path: Path) -> Iterator[dict[str, Any]]:
    """The tasks of Label Studio's JSON export.

    Raises:
        InputError: it is none.
    """
    try:
        with open(path, "rb") as handle:
            for task in ijson.items(handle, "item", use_float=True):
                if not isinstance(task, dict):
                    raise InputError(path, "expected a list of tasks, as Label Studio's export JSON has them")
                yield task
    except ijson.JSONError as error:
        raise InputError(path, f"not JSON: {error}") from error
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
