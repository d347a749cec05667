"""The output folder of a build on disk: what it may hold before, and the files that finish it.

.build/                          journal of an unfinished build
match_bench/, the tsv, cases.jsonl, rejects.jsonl, build.json
.replaced/                       the result that is replaced, until the new one is complete
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.redact import redact_urls
from mmvm_data.formats import bench, tsv
from mmvm_data.formats.build_files import BUILD, REJECTS
from mmvm_data.io.folder_lock import LOCK_FILE
from mmvm_data.io.json_files import read_json_object
from mmvm_data.io.set_aside import BOOKKEEPING, delete_replaced, restore_moving, restore_replaced, set_aside
from mmvm_data.io.transaction import open_transaction, recover
from mmvm_data.pipeline.journal import Journal
from mmvm_data.pipeline.options import BuildOptions, BuildResult
from mmvm_data.pipeline.reject_summary import find_common_reasons
from mmvm_data.pipeline.worker import library_versions

_JOURNAL_FOLDER = ".build"
_WORK_FOLDERS = ("annotation", tsv.REVISIONS)
"""Written by reviews, cues, rationales and what else changes a finished benchmark."""
_FINAL_FILES = (BUILD, bench.CASES, REJECTS, bench.TSV, tsv.MEASURES)
"""What finishes a build; without the first, the rest is none."""
_ADDED_OPTIONS = (
    "gone",
    "reappear_share",
    "variants",
    "embeddings",
    "min_seconds",
    "frame_rate",
    "min_share",
    "min_contrast",
    "moved_share",
)
"""Options that the first builds did not have."""
_RECORDED_NAMES = {"max_occlusion": "max_covered"}
"""Options that have another name in build.json, which keeps the keys of earlier builds."""


def describe_request(source: str, root: Path | str, options: BuildOptions) -> dict[str, Any]:
    """What decides the bytes of a build, as it is recorded in build.json; the number of workers does not.

    A password in the URL of the source is masked.
    """
    return {
        "source": source,
        "root": redact_urls(str(root)),
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
    sampling = replace(sampling, cases_per_video=sampling.max_cases_per_video)
    return {
        _RECORDED_NAMES.get(name, name): value
        for name, value in asdict(sampling).items()
        if name not in defaults or value != defaults[name]
    }


def index_folder(out: Path) -> Path:
    """Where the index of a source is kept between builds of one output folder: a hidden folder beside it."""
    return out.parent / f".{out.name}.index"


def create_folder(out: Path) -> None:
    """Create the output folder if it is missing.

    Raises:
        UsageError: it is a file.
        OutputError: it cannot be created.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; `out` must be a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.filename or out, error) from error


def open_journal(out: Path, request: dict[str, Any], options: BuildOptions) -> Journal | None:
    """Open the journal of a new or an unfinished build; None when the build was finished before.

    Args:
        out: the output folder, whose lock the caller holds.
        request: of ``describe_request``.
        options: of the build; ``existing`` says what to do with a build that is there.

    Raises:
        UsageError: the folder holds something that is not to be replaced, or a build with other options.
        OutputError: the folder cannot be written.
    """
    try:
        _complete_killed_step(out, options.keep_journal)
        journal_folder = out / _JOURNAL_FOLDER
        is_finished = (out / BUILD).is_file()
        if is_finished and _is_recipe(out / BUILD):  # has files and folders that a build does not know
            raise UsageError(f"{out}: holds the result of a recipe; choose another `out`, or delete it first")
        if is_finished and options.existing == "resume" and journal_folder.exists():
            for name in _FINAL_FILES:
                (out / name).unlink(missing_ok=True)
            is_finished = False
        if options.existing == "overwrite" and (journal_folder.exists() or is_finished):
            _check_no_work(out)
            set_aside(out, (_JOURNAL_FOLDER, bench.FOLDER, *_FINAL_FILES))
        elif any(name not in (LOCK_FILE, *BOOKKEEPING) for name in os.listdir(out)):
            if is_finished and options.existing == "resume":
                _check_same_request(out / BUILD, request)
                return None
            if not journal_folder.exists() or options.existing != "resume":
                raise UsageError(_refusal(out, is_finished, journal_folder.exists()))
        journal_folder.mkdir(exist_ok=True)  # first: after a kill it says that the rest is an unfinished build
        (out / bench.FOLDER).mkdir(exist_ok=True)
        return Journal.open(journal_folder, out / bench.FOLDER, request)
    except OSError as error:
        raise OutputError(error.filename or out, error) from error


def _complete_killed_step(out: Path, keep_journal: bool) -> None:
    """Complete, or undo, what a killed build or another command was about to do with the whole folder."""
    recover(out)
    restore_moving(out)
    if (out / BUILD).is_file():
        delete_replaced(out)
        if (out / _JOURNAL_FOLDER).exists() and not keep_journal:
            shutil.rmtree(out / _JOURNAL_FOLDER)
    elif not (out / _JOURNAL_FOLDER).exists():
        restore_replaced(out)


def _refusal(out: Path, is_finished: bool, is_unfinished: bool) -> str:
    if is_finished:
        return f"{out}: holds a finished build; `existing='overwrite'` replaces it, another `out` keeps both"
    if is_unfinished:
        return (
            f"{out}: holds an unfinished build; `existing='resume'` continues it, `existing='overwrite'` starts again"
        )
    return f"{out}: is not empty and holds no build; choose another `out`"


def _read_request(build_file: Path) -> dict[str, Any]:
    request = read_json_object(build_file).get("request", {})
    if not isinstance(request, dict):
        raise InputError(build_file, f"expected an object, found {type(request).__name__}", "request")
    return request


def _check_no_work(out: Path) -> None:
    """Check that no other command has added anything to the cases, which would be lost, or be taken for that of others.

    Raises:
        UsageError: there are annotations or earlier records.
    """
    found = [name for name in _WORK_FOLDERS if (out / name).exists()]
    if found:
        raise UsageError(
            f"{out}: was reviewed or changed since it was built ({', '.join(found)}); choose another `out`, "
            "or move or delete it first"
        )


def _is_recipe(build_file: Path) -> bool:
    try:
        return "recipe" in _read_request(build_file)
    except InputError:  # what cannot be read may be replaced
        return False


def _check_same_request(build_file: Path, request: dict[str, Any]) -> None:
    earlier = _read_request(build_file)
    changed = [key for key in request if earlier.get(key) != request[key]]
    if changed:
        raise UsageError(
            f"{build_file.parent}: was built with other options ({', '.join(changed)}); "
            "`existing='overwrite'` replaces it"
        )


def finish_build(
    journal: Journal,
    out: Path,
    request: dict[str, Any],
    videos: int,
    started: float,
    keep_journal: bool = False,
    with_measures: bool = False,
) -> BuildResult:
    """Write the files that need all cases, in one step: after a kill all of them are there, or none.

    Args:
        journal: of the build.
        out: the output folder.
        request: of ``describe_request``.
        videos: number of videos of the source.
        started: ``time.monotonic()`` at the start of this process's part.
        keep_journal: whether the journal stays; otherwise it is deleted.
        with_measures: whether what was measured of the cases becomes part of the folder.
    """
    totals = journal.totals
    with open_transaction(out) as transaction:
        cases = transaction.stage(bench.CASES)
        journal.link_records(bench.CASES, cases)
        journal.link_records(REJECTS, transaction.stage(REJECTS))
        if with_measures:
            journal.link_records(tsv.MEASURES, transaction.stage(tsv.MEASURES))
        with open(cases, "rb") as records:
            tsv.write_lines(
                (
                    tsv.format_row(tsv.TableRecord.model_validate_json(record)) if row is None else row
                    for record, row in zip(records, journal.iter_rows(), strict=True)
                ),
                transaction.stage(bench.TSV),
            )
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
            "times": {
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
            },
        }
        transaction.stage(BUILD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if not keep_journal:
        journal.remove()
    delete_replaced(out)
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
