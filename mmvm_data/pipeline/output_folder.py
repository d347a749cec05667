"""The output folder of a build on disk: what it may hold before, and the files that finish it.

.build/                          journal of an unfinished build
match_bench/, the tsv, cases.jsonl, rejects.jsonl, build.json
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.build_files import BUILD, REJECTS
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import read_json_object
from mmvm_data.io.transaction import JOURNAL
from mmvm_data.pipeline.journal import Journal
from mmvm_data.pipeline.options import BuildOptions, BuildResult
from mmvm_data.pipeline.reject_summary import find_common_reasons
from mmvm_data.pipeline.worker import library_versions

_JOURNAL_FOLDER = ".build"
_ADDED_OPTIONS = ("gone", "reappear_share", "variants", "embeddings")
"""Options that the first builds did not have."""
_RECORDED_NAMES = {"max_occlusion": "max_covered"}
"""Options that have another name in build.json, which keeps the keys of earlier builds."""


def describe_request(source: str, root: Path | str, options: BuildOptions) -> dict[str, Any]:
    """What decides the bytes of a build, as it is recorded in build.json; the number of workers does not."""
    return {
        "source": source,
        "root": str(root),
        "sampling": _record_sampling(options.sampling),
        "max_cases": options.max_cases,
        "quality": options.quality,
        "proposals": str(options.proposals) if options.proposals else None,
        "versions": library_versions(),
    }


def _record_sampling(sampling: SamplingOptions) -> dict[str, Any]:
    """The sampling options by their recorded name.

    Those that were added after the first builds are left out where they have their default, so that these builds can
    still be resumed and compared.
    """
    defaults = {f.name: f.default for f in fields(sampling) if f.name in _ADDED_OPTIONS}
    return {
        _RECORDED_NAMES.get(name, name): value
        for name, value in asdict(sampling).items()
        if name not in defaults or value != defaults[name]
    }


def open_journal(out: Path, request: dict[str, Any], options: BuildOptions) -> Journal | None:
    """Open the journal of a new or an unfinished build; None when the build was finished before.

    Args:
        out: the output folder, created if it is missing.
        request: of ``describe_request``.
        options: of the build; ``existing`` says what to do with a build that is there.

    Raises:
        UsageError: the folder holds something that is not to be replaced, or a build with other options.
        OutputError: the folder cannot be written.
    """
    try:
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out}: is a file; `out` must be a folder")
        journal_folder = out / _JOURNAL_FOLDER
        is_finished = (out / BUILD).is_file()
        if options.existing == "overwrite" and (journal_folder.exists() or is_finished):
            _remove_build(out)
            is_finished = False
        elif out.exists() and any(out.iterdir()):
            if is_finished and options.existing == "resume":
                shutil.rmtree(journal_folder, ignore_errors=True)
                _check_same_request(out / BUILD, request)
                return None
            if not journal_folder.exists() or options.existing != "resume":
                raise UsageError(_refusal(out, is_finished, journal_folder.exists()))
        (out / bench.FOLDER).mkdir(parents=True, exist_ok=True)
        return Journal.open(journal_folder, out / bench.FOLDER, request)
    except OSError as error:
        raise OutputError(error.filename or out, error) from error


def _refusal(out: Path, is_finished: bool, is_unfinished: bool) -> str:
    if is_finished:
        return f"{out}: holds a finished build; `existing='overwrite'` replaces it, another `out` keeps both"
    if is_unfinished:
        return (
            f"{out}: holds an unfinished build; `existing='resume'` continues it, `existing='overwrite'` starts again"
        )
    return f"{out}: is not empty and holds no build; choose another `out`"


def _remove_build(out: Path) -> None:
    """Delete what a build writes, and nothing else."""
    for name in (JOURNAL, _JOURNAL_FOLDER, bench.FOLDER):
        if (out / name).exists():
            shutil.rmtree(out / name)
    for name in (BUILD, bench.CASES, REJECTS, bench.TSV):
        (out / name).unlink(missing_ok=True)


def _check_same_request(build_file: Path, request: dict[str, Any]) -> None:
    earlier = read_json_object(build_file).get("request", {})
    if not isinstance(earlier, dict):
        raise InputError(build_file, f"expected an object, found {type(earlier).__name__}", "request")
    changed = [key for key in request if earlier.get(key) != request[key]]
    if changed:
        raise UsageError(
            f"{build_file.parent}: was built with other options ({', '.join(changed)}); "
            "`existing='overwrite'` replaces it"
        )


def finish_build(journal: Journal, out: Path, request: dict[str, Any], videos: int, started: float) -> BuildResult:
    """Write the files that need all cases; ``build.json`` comes last and marks the build as finished.

    Files are written in the journal's folder and moved, so that a kill leaves no half of one beside the result.

    Args:
        journal: of the build; it is deleted.
        out: the output folder.
        request: of ``describe_request``.
        videos: number of videos of the source.
        started: ``time.monotonic()`` at the start of this process's part.
    """
    cases = journal.release_records(bench.CASES, out)
    journal.release_records(REJECTS, out)
    with open(cases, "rb") as lines:
        bench.write_tsv((Case.model_validate_json(line) for line in lines), journal.folder / bench.TSV)
    (journal.folder / bench.TSV).rename(out / bench.TSV)
    totals = journal.totals
    seconds = journal.earlier_seconds + time.monotonic() - started
    record = {
        "request": request,
        "versions": request["versions"],
        "counts": {
            "videos": videos,
            "videos_read": totals.units,
            "cases": totals.cases,
            "none_cases": totals.none_cases,
            "rejects": totals.rejects,
            "bad_inputs": totals.bad_inputs,
        },
        "times": {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds"), "seconds": round(seconds, 3)},
    }
    with atomic_write(journal.folder / BUILD) as handle:
        handle.write(json.dumps(record, indent=1) + "\n")
    (journal.folder / BUILD).rename(out / BUILD)
    journal.remove()
    return replace(result_of(out, record), common_reasons=find_common_reasons(out / REJECTS))


def read_finished(out: Path) -> BuildResult:
    """The result of a build that was finished before."""
    record = read_json_object(out / BUILD)
    result = result_of(out, record, already_done=True)
    return replace(result, common_reasons=find_common_reasons(out / REJECTS)) if (out / REJECTS).is_file() else result


def result_of(out: Path | str, record: dict[str, Any], already_done: bool = False) -> BuildResult:
    """The result that a build.json records.

    Raises:
        InputError: it does not have the counts and times of a build.
    """
    counts, times = record.get("counts"), record.get("times")
    names = ("cases", "none_cases", "rejects", "bad_inputs", "videos_read")
    if not (isinstance(counts, dict) and all(type(counts.get(name)) is int for name in names)):
        raise InputError(f"{out}/{BUILD}", f"expected numbers: {', '.join(names)}", "counts")
    if not (isinstance(times, dict) and isinstance(times.get("seconds"), (int, float))):
        raise InputError(f"{out}/{BUILD}", "expected a number of seconds", "times")
    return BuildResult(
        out=out,
        cases=counts["cases"],
        none_cases=counts["none_cases"],
        rejects=counts["rejects"],
        bad_inputs=counts["bad_inputs"],
        videos=counts["videos_read"],
        seconds=float(times["seconds"]),
        already_done=already_done,
    )
