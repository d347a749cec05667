"""Write rationales for the cases of a benchmark, with a model at an endpoint or from cues with a template.

Each reply is cached in ``.rationales`` as soon as it arrives, under a hash of the complete request, so that no reply is
paid for twice. The benchmark changes once, at the end, as a new revision.
"""

from __future__ import annotations

import json
from pathlib import Path

from mmvm_data.annotation.rationale.model_writer import ModelWriter, lock_cache
from mmvm_data.annotation.rationale.selection import (
    ProgressCallback,
    RationaleOptions,
    RationaleProgress,
    count_cases,
    load_or_propose_cues,
    select_cases,
    with_rationale,
)
from mmvm_data.annotation.rationale.text import SYSTEM, TEMPLATE_VERSION, build_user_prompt, fill_template
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats.revisions import revise
from mmvm_data.io.files import atomic_write

CACHE = ".rationales"
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
            changed = _write_by_template(directory, options, progress, on_progress)
        else:
            cache = options.cache or directory / CACHE
            writer = ModelWriter(directory, options, options.endpoint, cache, progress, on_progress)
            with lock_cache(cache):
                changed = writer.write_all()
        _write_failures(directory / FAILURES, progress.failures)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    progress.changed = revise(directory, changed)
    return progress


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
) -> dict[str, Case]:
    """Return the changed cases by id."""
    changed = {}
    for case in select_cases(directory, options):
        try:
            cues = load_or_propose_cues(case, directory)
            text = fill_template(case, cues)
        except InputError as error:
            progress.failures.append((case.id, str(error)))
        else:
            if text is not None:
                changed[case.id] = with_rationale(case, cues, text, "template", TEMPLATE_VERSION)
                progress.written += 1
            elif case.answer is None:
                progress.failures.append((case.id, "no answer to explain"))
            else:
                progress.failures.append((case.id, "no cue distinguishes the answer from the other candidates"))
        on_progress(progress)
    return changed


def _write_failures(path: Path, failures: list[tuple[str, str]]) -> None:
    if failures:
        with atomic_write(path) as lines:
            for case, reason in sorted(failures):
                lines.write(json.dumps({"case": case, "reason": reason}, ensure_ascii=False) + "\n")
    else:
        path.unlink(missing_ok=True)
