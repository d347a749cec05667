"""Write rationales for the cases of a benchmark, with a model at an endpoint or from cues with a template.

Each reply is cached in ``.rationales`` as soon as it arrives, under a hash of the complete request, so that no reply is
paid for twice. The benchmark changes once, at the end, as a new revision: its lock is held for that moment only, and
what other commands have written meanwhile is kept.
"""

from __future__ import annotations

import json
from pathlib import Path

from mmvm_data.annotation.rationale.model_writer import ModelWriter, lock_cache
from mmvm_data.annotation.rationale.selection import (
    NewRationale,
    ProgressCallback,
    RationaleOptions,
    RationaleProgress,
    count_cases,
    load_or_propose_cues,
    new_rationale,
    select_cases,
)
from mmvm_data.annotation.rationale.text import SYSTEM, TEMPLATE_VERSION, build_user_prompt, fill_template
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats.revisions import Edit, open_revision

CACHE = ".rationales"
COMMAND = "mmvm-data rationale"
FAILURES = "rationale_failures.jsonl"


def write_rationales(
    directory: Path, options: RationaleOptions, on_progress: ProgressCallback = lambda _: None
) -> RationaleProgress:
    """Write the rationales of a benchmark. What a person wrote or accepted is kept.

    Args:
        directory: a benchmark with cases.jsonl.
        options: model or template, and which cases.
        on_progress: called after each case.

    Returns:
        counts, failures and ids of the changed cases.

    Raises:
        InputError: the benchmark cannot be read.
        UsageError: it has no cases.jsonl, another run works on it, the openai package is missing, or the endpoint
            rejects every request. Replies that arrived stay in the cache.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: after waiting for the pending requests.
    """
    progress = count_cases(directory, options)
    try:
        if options.endpoint is None:
            rationales = _write_by_template(directory, options, progress, on_progress)
        else:
            cache = options.cache or directory / CACHE
            writer = ModelWriter(directory, options, options.endpoint, cache, progress, on_progress)
            with lock_cache(cache):
                rationales = writer.write_all()
        _write_rationales(directory, options, rationales, progress)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    return progress


def _write_rationales(
    directory: Path, options: RationaleOptions, rationales: dict[str, NewRationale], progress: RationaleProgress
) -> None:
    """Merge the rationales into the records as they are now; those that no longer fit are dropped and reported."""
    dropped: dict[str, str] = {}

    def make_edit(rationale: NewRationale) -> Edit:
        def edit(current: Case) -> Case:
            if reason := rationale.outdated(current, options):
                dropped[current.id] = f"{reason}; the rationale that was written is dropped"
                return current
            return rationale.apply(current)

        return edit

    def write_failures() -> dict[str, str | None]:
        progress.written -= len(dropped)
        progress.failures += dropped.items()
        return {FAILURES: _failures_text(progress.failures)}

    with open_revision(directory, COMMAND) as revision:
        edits = {name: make_edit(rationale) for name, rationale in rationales.items()}
        progress.changed = revision.write(edits, write_failures)


def preview_prompt(directory: Path, options: RationaleOptions) -> str | None:
    """Return the prompt of the first case, without its images; None when there is no case to work on.

    Raises:
        InputError: as ``load_or_propose_cues``.
    """
    for case in select_cases(directory, options):
        image_lines, text = build_user_prompt(case, load_or_propose_cues(case, directory))
        return "\n".join([SYSTEM, "", *(f"{line} [image]" for line in image_lines), text])
    return None


def _write_by_template(
    directory: Path, options: RationaleOptions, progress: RationaleProgress, on_progress: ProgressCallback
) -> dict[str, NewRationale]:
    """Return the rationales by case id."""
    rationales = {}
    for case in select_cases(directory, options):
        try:
            cues = load_or_propose_cues(case, directory)
            text = fill_template(case, cues, options.seed)
        except InputError as error:
            progress.failures.append((case.id, str(error)))
        else:
            if text is not None:
                rationales[case.id] = new_rationale(case, cues, text, "template", TEMPLATE_VERSION)
                progress.written += 1
            elif case.answer is None:
                progress.failures.append((case.id, "no answer to explain"))
            else:
                progress.failures.append((case.id, "no cue distinguishes the answer from the other candidates"))
        on_progress(progress)
    return rationales


def _failures_text(failures: list[tuple[str, str]]) -> str | None:
    """The lines of the file of failures; None when there is none."""
    lines = (json.dumps({"case": case, "reason": reason}, ensure_ascii=False) for case, reason in sorted(failures))
    return "".join(f"{line}\n" for line in lines) or None
