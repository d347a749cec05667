"""How two builds differ: options, versions, counts, and their cases, field by field.

A case is identified by its origin (source, video, ordinal, variant), since its number depends on all cases before it;
without provenance, by its id. Only digests of the first benchmark are held in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from mmvm_data.core.errors import InputError
from mmvm_data.core.options import options
from mmvm_data.core.types import Case
from mmvm_data.formats.build_files import read_build, read_cases
from mmvm_data.formats.tsv import FOLDER, shorten
from mmvm_data.io.files import open_regular

FIELDS = tuple(name for name in Case.model_fields if name not in ("version", "id"))
_COMPARED_RECORDS = ("request", "versions", "counts")
_CHUNK_BYTES = 1 << 20


@options
class DiffOptions:
    """How two builds are compared.

    Attributes:
        compare_files: whether to compare the files of the case folders byte for byte.
        max_changes: number of changes to keep with their values.
    """

    compare_files: bool = False
    max_changes: Annotated[int, Field(ge=0)] = 50


@dataclass(frozen=True)
class FieldChange:
    """A change of one field of one case.

    Attributes:
        case: id in the second benchmark.
        field: of ``Case``, or ``files`` for the bytes of a file in the case folder.
        before, after: the values, shortened; for ``files``, the name of the file.
    """

    case: str
    field: str
    before: str
    after: str


@dataclass
class BuildDiff:
    """The differences of two builds.

    Attributes:
        settings: "request.seed" and the like -> value before and after, of build.json.
        cases: number of cases of each.
        added, removed: ids of cases that only the second or only the first has.
        renumbered: number of cases that both have under different ids.
        changed: number of cases with changes.
        fields: field -> number of cases in which it changed.
        changes: the first changes, up to ``DiffOptions.max_changes``.
    """

    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    cases: tuple[int, int] = (0, 0)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    renumbered: int = 0
    changed: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    changes: list[FieldChange] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Whether the cases are the same under the same numbers; options may differ."""
        return not (self.added or self.removed or self.renumbered or self.changed)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "same": self.is_same,
            "settings": {name: list(values) for name, values in self.settings.items()},
            "cases": list(self.cases),
            "added": self.added,
            "removed": self.removed,
            "renumbered": self.renumbered,
            "changed": self.changed,
            "fields": dict(sorted(self.fields.items())),
            "changes": [vars(change) for change in self.changes],
        }


class _CaseDigest(NamedTuple):
    """A case of the first benchmark: its id, digests of its fields in the order of FIELDS, and its position."""

    id: str
    digests: tuple[bytes, ...]
    position: int


class _PendingChange(NamedTuple):
    """A changed case whose old values are still to be read: its new id, its new values, and the changed fields."""

    id: str
    values: tuple[str, ...]
    fields: list[str]


def compare_builds(before: Path, after: Path, options: DiffOptions | None = None) -> BuildDiff:
    """Compare two benchmarks.

    Args:
        before, after: their folders.
        options: how to compare.

    Raises:
        InputError: one of them cannot be read, or two of its cases have one origin.
    """
    options = options or DiffOptions()
    diff = BuildDiff(settings=_diff_settings(read_build(before) or {}, read_build(after) or {}))
    old_cases: dict[tuple[object, ...], _CaseDigest] = {}
    for position, case in enumerate(read_cases(before)):
        key = _origin_key(case)
        if key in old_cases:
            raise InputError(before, f"cases {old_cases[key].id} and {case.id} have one origin", field="provenance")
        old_cases[key] = _CaseDigest(case.id, tuple(_digest(value) for value in _field_values(case)), position)
    pending: dict[int, _PendingChange] = {}
    new_keys: set[tuple[object, ...]] = set()
    for case in read_cases(after):
        key = _origin_key(case)
        if key in new_keys:
            raise InputError(after, f"case {case.id} has the origin of an earlier one", field="provenance")
        new_keys.add(key)
        old = old_cases.get(key)
        if old is None:
            diff.added.append(case.id)
            continue
        diff.renumbered += old.id != case.id
        values = _field_values(case)
        fields = [n for n, v, d in zip(FIELDS, values, old.digests, strict=True) if _digest(v) != d]
        changed_files = list(_changed_files(before, after, old.id, case.id)) if options.compare_files else []
        if fields or changed_files:
            diff.changed += 1
            diff.fields.update([*fields, *(["files"] if changed_files else [])])
            if len(diff.changes) + sum(len(change.fields) for change in pending.values()) < options.max_changes:
                pending[old.position] = _PendingChange(case.id, tuple(values), fields)
                diff.changes += [FieldChange(case.id, "files", name, name) for name in changed_files]
    diff.cases = len(old_cases), len(new_keys)
    diff.removed = [old.id for key, old in old_cases.items() if key not in new_keys]
    diff.changes = [*_read_old_values(before, pending), *diff.changes][: options.max_changes]
    return diff


def _origin_key(case: Case) -> tuple[object, ...]:
    origin = case.provenance
    if origin is None:
        return (case.id,)
    return origin.source, origin.video, origin.ordinal, str(origin.extra.get("variant", ""))


def _field_values(case: Case) -> list[str]:
    """The fields as JSON, without the number of the case in the paths of its images."""
    record = case.model_dump(mode="json")
    for frame in record["frames"]:
        frame["path"] = frame["path"].replace(f"/{case.id}/", "/*/")
    return [json.dumps(record[name], sort_keys=True, ensure_ascii=False) for name in FIELDS]


def _digest(value: str) -> bytes:
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _read_old_values(before: Path, pending: dict[int, _PendingChange]) -> Iterator[FieldChange]:
    """Read the first benchmark again, for the old values of the changed fields; ``pending`` is by position."""
    if not pending:
        return
    for position, case in enumerate(read_cases(before)):
        if position in pending:
            change = pending[position]
            for name, old, new in zip(FIELDS, _field_values(case), change.values, strict=True):
                if name in change.fields:
                    yield FieldChange(change.id, name, *_shorten_around_difference(old, new))


def _shorten_around_difference(old: str, new: str) -> tuple[str, str]:
    """Two different values, shortened around the place where they begin to differ."""
    if max(len(old), len(new)) <= 60:
        return old, new
    index = next((k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, index - 20)
    prefix = "…" if start else ""
    return prefix + shorten(old[start:])[1:-1], prefix + shorten(new[start:])[1:-1]


def _diff_settings(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Values of build.json that differ, times left out."""
    old, new = (
        dict(_flatten({name: build[name] for name in _COMPARED_RECORDS if name in build}, ""))
        for build in (before, after)
    )
    names = [*old, *(name for name in new if name not in old)]
    pairs = {name: (old.get(name), new.get(name)) for name in names}
    # the versions are in the request too
    return {n: pair for n, pair in pairs.items() if pair[0] != pair[1] and not n.startswith("request.versions.")}


def _flatten(record: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested dict."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _changed_files(before: Path, after: Path, old_id: str, new_id: str) -> Iterator[str]:
    """Names of the files of a case folder that only one of the two has, or that differ."""
    old_folder, new_folder = before / FOLDER / old_id, after / FOLDER / new_id
    old_names, new_names = (
        {path.name for path in folder.iterdir()} if folder.is_dir() else set() for folder in (old_folder, new_folder)
    )
    for name in sorted(old_names | new_names):
        if name not in old_names & new_names or not _has_equal_bytes(old_folder / name, new_folder / name):
            yield name


def _has_equal_bytes(old: Path, new: Path) -> bool:
    try:
        if old.stat().st_size != new.stat().st_size:
            return False
        with open_regular(old) as a, open_regular(new) as b:
            while chunk := a.read(_CHUNK_BYTES):
                if chunk != b.read(_CHUNK_BYTES):
                    return False
    except OSError as error:
        raise InputError(error.filename or old, f"file cannot be read: {error.strerror or error}") from error
    return True
