"""How two builds differ: options, versions, counts, and their cases, field by field.

A case is known by where it comes from (source, video, ordinal, variant), since its number depends on all that come
before it; without provenance, by its id. Only digests of the first benchmark are in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case
from mmvm_data.formats.build_files import read_build, read_cases
from mmvm_data.formats.tsv import shorten

FIELDS = tuple(name for name in Case.model_fields if name not in ("version", "id"))
_RECORDS = ("request", "versions", "counts")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Change:
    """One field of one case.

    Attributes:
        case: id in the second benchmark.
        field: of ``Case``, or ``files`` for the bytes of a file of its folder.
        before, after: the values, shortened; of ``files`` the name of the file.
    """

    case: str
    field: str
    before: str
    after: str


@dataclass
class Difference:
    """What differs.

    Attributes:
        settings: "request.seed" and the like -> value before and after, of build.json.
        cases: how many each has.
        added, removed: ids of cases that only the second or only the first has.
        renumbered: cases that both have under different ids.
        changed: cases with changes.
        fields: field -> number of cases in which it changed.
        changes: the first so many changes.
    """

    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    cases: tuple[int, int] = (0, 0)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    renumbered: int = 0
    changed: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether the cases are the same under the same numbers; options may differ."""
        return not (self.added or self.removed or self.renumbered or self.changed)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "same": self.same,
            "settings": {name: list(values) for name, values in self.settings.items()},
            "cases": list(self.cases),
            "added": self.added,
            "removed": self.removed,
            "renumbered": self.renumbered,
            "changed": self.changed,
            "fields": dict(sorted(self.fields.items())),
            "changes": [vars(change) for change in self.changes],
        }


@dataclass(frozen=True)
class _Known:
    """A case of the first benchmark: its id, digests of its fields in the order of FIELDS, its number."""

    id: str
    digests: tuple[bytes, ...]
    number: int


def diff(before: Path, after: Path, files: bool = False, most: int = 50) -> Difference:
    """Compare two benchmarks.

    Args:
        before, after: their folders.
        files: also compare the files of the case folders byte for byte.
        most: changes to keep with their values.

    Raises:
        InputError: one of them cannot be read, or names a case twice.
    """
    found = Difference(settings=_settings(read_build(before) or {}, read_build(after) or {}))
    known: dict[tuple[object, ...], _Known] = {}
    for number, case in enumerate(read_cases(before)):
        if _key(case) in known:
            raise InputError(before, f"cases {known[_key(case)].id} and {case.id} have one origin", field="provenance")
        known[_key(case)] = _Known(case.id, tuple(_digest(v) for v in _values(case)), number)
    wanted: dict[int, tuple[str, tuple[str, ...], list[str]]] = {}
    seen: set[tuple[object, ...]] = set()
    for case in read_cases(after):
        key = _key(case)
        if key in seen:
            raise InputError(after, f"case {case.id} has the origin of an earlier one", field="provenance")
        seen.add(key)
        old = known.get(key)
        if old is None:
            found.added.append(case.id)
            continue
        found.renumbered += old.id != case.id
        values = _values(case)
        fields = [n for n, v, d in zip(FIELDS, values, old.digests, strict=True) if _digest(v) != d]
        changed_files = list(_changed_files(before, after, old.id, case.id)) if files else []
        if fields or changed_files:
            found.changed += 1
            found.fields.update([*fields, *(["files"] if changed_files else [])])
            if len(found.changes) + sum(len(names) for _, _, names in wanted.values()) < most:
                wanted[old.number] = case.id, tuple(values), fields
                found.changes += [Change(case.id, "files", name, name) for name in changed_files]
    found.cases = len(known), len(seen)
    found.removed = [old.id for key, old in known.items() if key not in seen]
    found.changes = [*_with_values(before, wanted), *found.changes][:most]
    return found


def _key(case: Case) -> tuple[object, ...]:
    origin = case.provenance
    if origin is None:
        return (case.id,)
    return origin.source, origin.video, origin.ordinal, str(origin.extra.get("variant", ""))


def _values(case: Case) -> list[str]:
    """The fields as JSON, without the number of the case in the paths of its images."""
    plain = case.model_dump(mode="json")
    for frame in plain["frames"]:
        frame["path"] = frame["path"].replace(f"/{case.id}/", "/*/")
    return [json.dumps(plain[name], sort_keys=True, ensure_ascii=False) for name in FIELDS]


def _digest(value: str) -> bytes:
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _with_values(before: Path, wanted: dict[int, tuple[str, tuple[str, ...], list[str]]]) -> Iterator[Change]:
    """A second look at the first benchmark, for the values of the fields that changed."""
    if not wanted:
        return
    for number, case in enumerate(read_cases(before)):
        if number in wanted:
            name, after, fields = wanted[number]
            for field_, old, new in zip(FIELDS, _values(case), after, strict=True):
                if field_ in fields:
                    yield Change(name, field_, *_apart(old, new))


def _apart(old: str, new: str) -> tuple[str, str]:
    """Two different values, shortened around where they begin to differ."""
    if max(len(old), len(new)) <= 60:
        return old, new
    at = next((k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, at - 20)
    return tuple(("…" if start else "") + shorten(text[start:])[1:-1] for text in (old, new))  # type: ignore[return-value]


def _settings(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Facts of build.json that differ, times left out."""
    flat = [dict(_flat({k: record.get(k) for k in _RECORDS if k in record}, "")) for record in (before, after)]
    names = [*flat[0], *(name for name in flat[1] if name not in flat[0])]
    found = {name: (flat[0].get(name), flat[1].get(name)) for name in names}
    # the versions are in the request too
    return {n: v for n, v in found.items() if v[0] != v[1] and not n.startswith("request.versions.")}


def _flat(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def _changed_files(before: Path, after: Path, old: str, new: str) -> Iterator[str]:
    """Names of the files of a case's folder that one of both lacks, or that differ."""
    from mmvm_data.formats.tsv import FOLDER

    one, two = before / FOLDER / old, after / FOLDER / new
    names = [{p.name for p in folder.iterdir()} if folder.is_dir() else set() for folder in (one, two)]
    for name in sorted(names[0] | names[1]):
        if name not in names[0] & names[1] or not _equal(one / name, two / name):
            yield name


def _equal(one: Path, two: Path) -> bool:
    try:
        if one.stat().st_size != two.stat().st_size:
            return False
        with open(one, "rb") as a, open(two, "rb") as b:
            while chunk := a.read(_CHUNK):
                if chunk != b.read(_CHUNK):
                    return False
    except OSError as error:
        raise InputError(error.filename or one, f"file cannot be read: {error.strerror or error}") from error
    return True
