"""Set operations on finished benchmarks: merge, split, filter, sample. Sources are never changed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any, Literal

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Case
from mmvm_data.formats.bench_read import CASES
from mmvm_data.formats.case_filter import FIELDS, parse_filter
from mmvm_data.formats.set_files import SetPart, read_set, read_set_ids, write_sets
from mmvm_data.io.files import real_path

Progress = Callable[[int], None]
VideoName = tuple[str, str]
"""Names of a source and of a video in it."""
_MAX_LISTED = 5


def merge_sets(
    sources: Sequence[str | Path], out: str | Path, fresh_ids: bool = False, progress: Progress | None = None
) -> int:
    """Write the cases of several benchmarks as one, in order, and return their number.

    Args:
        sources: benchmarks with cases.jsonl.
        out: a new folder.
        fresh_ids: number the cases from ``case_000000``; origins.jsonl has their former ids. Otherwise ids are kept.
        progress: called with the number of cases written.

    Raises:
        UsageError: one source twice, ids that clash (without ``fresh_ids``), or ``out`` exists.
        InputError: a source is no benchmark or is broken.
        OutputError: the folder cannot be written.
    """
    folders = [Path(source) for source in sources]
    seen: dict[Path, Path] = {}
    for folder in folders:
        if (real := real_path(folder)) in seen:
            raise UsageError(f"{folder}: is the same benchmark as {seen[real]}")
        seen[real] = folder
    ids_of = {folder: _unique_ids(folder) for folder in folders}
    counts = Counter(name for ids in ids_of.values() for name in ids)
    clashing = [name for name, count in counts.items() if count > 1]
    if clashing and not fresh_ids:
        listed = ", ".join(clashing[:_MAX_LISTED]) + (", …" if len(clashing) > _MAX_LISTED else "")
        raise UsageError(f"{len(clashing)} case ids are in more than one benchmark ({listed}); use `fresh_ids`")
    parts, number = [], 0
    for folder, ids in ids_of.items():
        parts.append(
            SetPart(folder, {name: f"case_{number + k:06d}" if fresh_ids else name for k, name in enumerate(ids)})
        )
        number += len(ids)
    write_sets(Path(out), {".": parts}, "merge", {"fresh_ids": fresh_ids}, keep_rejects=True, progress=progress)
    return number


def split_set(
    source: str | Path,
    out: str | Path,
    by: Literal["video", "source"] = "video",
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    group_of: Mapping[VideoName, VideoName] | None = None,
) -> dict[str, int]:
    """Write a benchmark as several, one folder of ``out`` each, and return the number of cases of each.

    ``out`` appears in one step: all parts are there, or none.

    Args:
        source: a benchmark with cases.jsonl.
        out: a new folder for the parts.
        by: ``video``: all cases of a video are in one part; ``source``: one part for each source.
        shares: by video: name of each part -> its share of the cases; they sum to 1.
        seed: by video: decides, with the names of the videos alone, which video goes where.
        progress: called with the number of cases written.
        group_of: by video: each video -> the first of those that come to one part with it; None: none stay together.

    Raises:
        OptionError: shares are missing, not positive, or do not sum to 1.
        UsageError: fewer videos than parts, or ``out`` is not empty.
        InputError: a case does not say where it is from, or the source is broken.
        OutputError: the folder cannot be written.
    """
    source, out = Path(source), Path(out)
    groups: dict[VideoName, list[str]] = defaultdict(list)
    for case in _read_unique(source):
        video = video_name(case, source)
        groups[video if group_of is None else group_of[video]].append(case.id)
    if by == "source":
        if shares is not None:
            raise OptionError("shares", "must not be used with by='source'")
        part_of = {key: key[0] for key in groups}
    elif by == "video":
        part_of = assign_videos(groups, check_shares(shares), seed, source)
    else:
        raise OptionError("by", f"must be 'video' or 'source', got {by!r}")
    ids_of: dict[str, dict[str, str]] = defaultdict(dict)
    for key, ids in groups.items():
        ids_of[part_of[key]].update({name: name for name in ids})
    for name in ids_of:
        if not name.strip(".") or name.startswith(".") or set(name) & set("/\\\0\n"):
            raise OptionError("shares" if by == "video" else "by", f"must give names for folders, got {name!r}")
    parts_of = {name: [SetPart(source, ids_of[name])] for name in sorted(ids_of)}
    options: dict[str, Any] = {"by": by, "shares": dict(shares) if shares else None, "seed": seed}
    if group_of is not None:
        options["tied"] = [[*video, *first] for video, first in sorted(group_of.items()) if video != first]
    write_sets(out, parts_of, "split", options, progress=progress)
    return {name: len(ids_of[name]) for name in sorted(ids_of)}


def filter_set(source: str | Path, out: str | Path, where: str, progress: Progress | None = None) -> int:
    """Write the cases of a benchmark that an expression is true for, and return their number; see ``case_filter``.

    Raises:
        OptionError: ``where`` is no such expression.
        UsageError: no case fits, values have no order, or ``out`` exists.
        InputError, OutputError: as ``merge_sets``.
    """
    is_wanted = parse_filter(where)
    source = Path(source)
    ids = {case.id: case.id for case in _read_unique(source) if is_wanted(case)}
    if not ids:
        raise UsageError(f"{source}: no case fits `where` {where!r}")
    write_sets(Path(out), {".": [SetPart(source, ids)]}, "filter", {"where": where}, progress=progress)
    return len(ids)


def sample_set(
    source: str | Path,
    out: str | Path,
    n: int,
    balance: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Write ``n`` cases of a benchmark, drawn at random from those that are not rejected, and return their number.

    Args:
        source: a benchmark with cases.jsonl.
        out: a new folder.
        n: number of cases.
        balance: fields (see ``case_filter.FIELDS``) whose values are to be equally frequent, as far as there are cases.
        seed: decides, with the ids of the cases alone, which are drawn.
        progress: called with the number of cases written.

    Raises:
        OptionError: fewer than ``n`` such cases, or an unknown field.
        UsageError, InputError, OutputError: as ``merge_sets``.
    """
    unknown = [name for name in balance if name not in FIELDS]
    if unknown:
        raise OptionError("balance", f"must be of {', '.join(sorted(FIELDS))}, got {unknown[0]!r}")
    source = Path(source)
    strata: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for case in _read_unique(source):
        if case.review.state != "rejected":  # the table would leave them out
            strata[tuple(FIELDS[name](case) for name in balance)].append(case.id)
    total = sum(map(len, strata.values()))
    if not 1 <= n <= total:
        raise OptionError("n", f"must be in 1..{total}, the cases of {source} that are not rejected, got {n}")
    ids = {name: name for name in _draw_balanced(strata, n, seed)}
    options = {"n": n, "balance": list(balance), "seed": seed}
    write_sets(Path(out), {".": [SetPart(source, ids)]}, "sample", options, progress=progress)
    return n


def _read_unique(source: Path) -> Iterable[Case]:
    seen: set[str] = set()
    for case in read_set(source):
        _add_new(seen, case.id, source)
        yield case


def _unique_ids(source: Path) -> list[str]:
    ids, seen = list(read_set_ids(source)), set[str]()
    for name in ids:
        _add_new(seen, name, source)
    return ids


def _add_new(seen: set[str], name: str, source: Path) -> None:
    if name in seen:
        raise InputError(source / CASES, f"case id {name!r} repeats", field="id")
    seen.add(name)


def video_name(case: Case, source: Path) -> VideoName:
    """The names of a case's source and video.

    Args:
        case: of the benchmark.
        source: the benchmark.

    Raises:
        InputError: the case does not say them.
    """
    dataset, video = FIELDS["source"](case), FIELDS["video"](case)
    if not dataset or not video:
        raise InputError(source / CASES, f"case {case.id!r} does not say which video it is from", "provenance")
    return str(dataset), str(video)


def check_shares(shares: Mapping[str, float] | None) -> Mapping[str, float]:
    """The shares of the parts of a split.

    Raises:
        OptionError: there are none, one is not positive, or they do not sum to 1.
    """
    if not shares or any(not share > 0 for share in shares.values()):
        raise OptionError("shares", "must give each part a share above 0, such as train=0.8 and test=0.2")
    if not isclose(total := sum(shares.values()), 1, abs_tol=1e-6):
        raise OptionError("shares", f"must sum to 1, got {total:g}")
    return shares


def assign_videos(
    groups: Mapping[tuple[str, str], Sequence[Any]], shares: Mapping[str, float], seed: int, source: Path
) -> dict[tuple[str, str], str]:
    """Give each video to the part that lacks most cases of its share; every part gets a video.

    Args:
        groups: names of a video -> its cases.
        shares: name of each part -> its share of the cases.
        seed: decides, with the names, which video goes where.
        source: for the message.

    Raises:
        UsageError: fewer videos than parts.
    """
    if len(groups) < len(shares):
        raise UsageError(
            f"{source}: the {len(shares)} parts of `shares` need a video each; of its videos, {len(groups)} are not "
            "kept together with another"
        )
    total = sum(map(len, groups.values()))
    order = sorted(groups, key=lambda key: (keyed_hash(seed, *key), key))
    missing = {name: share * total for name, share in shares.items()}
    empty = set(shares)
    part_of = {}
    for position, key in enumerate(order):
        remaining = len(order) - position
        open_parts = empty if remaining <= len(empty) else set(shares)
        part = max(sorted(open_parts), key=lambda name: missing[name])
        part_of[key] = part
        missing[part] -= len(groups[key])
        empty.discard(part)
    return part_of


def _draw_balanced(strata: Mapping[tuple[object, ...], Sequence[str]], n: int, seed: int) -> list[str]:
    """Draw from the stratum whose values are rarest so far, again and again."""
    left = {key: sorted(ids, key=lambda name: (keyed_hash(seed, name), name)) for key, ids in strata.items()}
    keys = sorted(left, key=lambda key: (keyed_hash(seed, repr(key)), repr(key)))
    counts: Counter[tuple[int, object]] = Counter()
    drawn: list[str] = []
    while len(drawn) < n:
        key = min((key for key in keys if left[key]), key=lambda key: _mean_count(key, counts))
        drawn.append(left[key].pop())
        counts.update(value for values in _balanced_values(key) for value in values)
    return drawn


def _balanced_values(key: tuple[object, ...]) -> list[list[tuple[int, object]]]:
    """The values of each field; a list of values, such as match types, counts for each of them."""
    return [
        [(k, item) for item in value or (None,)] if isinstance(value, tuple) else [(k, value)]
        for k, value in enumerate(key)
    ]


def _mean_count(key: tuple[object, ...], counts: Counter[tuple[int, object]]) -> float:
    return sum(sum(counts[value] for value in values) / len(values) for values in _balanced_values(key))


def keyed_hash(seed: int, *names: str) -> bytes:
    """Return 32 bytes that decide a draw: a function of the seed and of what is drawn."""
    return hashlib.sha256("\0".join((str(seed), *names)).encode("utf-8", "surrogatepass")).digest()
