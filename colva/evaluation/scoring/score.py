"""Score the folder of a run: read its predictions, ask the judge, write ``scores.json`` and what other tools read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from colva.evaluation import runs
from colva.evaluation.runs import Record
from colva.evaluation.scoring import metrics
from colva.evaluation.scoring.extract import NONE, REFUSED
from colva.evaluation.scoring.judge import CACHE, Judged, judge
from colva.evaluation.scoring.metrics import Outcome, Scored
from colva.evaluation.scoring.statistics import RESAMPLES
from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import atomic_write
from mmvm_data.io.openai_client import Endpoint


def score_run(
    folder: Path,
    mode: str = "vlmevalkit",
    endpoint: Endpoint | None = None,
    workers: int = 8,
    seed: int = 0,
    facts: dict[str, Any] | None = None,
    show: Callable[[int, int], None] = lambda done, of: None,
) -> Scored:
    """Score a run and write ``scores.json`` and ``answers.jsonl`` into its folder.

    Args:
        folder: with ``predictions.jsonl``.
        mode: of extraction.
        endpoint: the judge; None: what the rule cannot read stays unread.
        workers: requests to the judge at a time.
        seed: of the bootstrap.
        facts: more for ``scores.json``, such as the size of the benchmark.
        show: called with (the judge's verdicts, of how many).

    Raises:
        InputError: a file of the run cannot be read.
        UsageError: the judge refuses everything.
    """
    records = list(runs.read_records(folder / runs.PREDICTIONS))
    judged = Judged()
    if endpoint is not None:
        unread = [r for r in records if metrics.read_label(r, mode) is None and r.reply.strip()]
        reasoned = [r for r in records if r.variant == 0 and r.rationale and (r.why or "").strip()]
        judged = judge(unread, reasoned, endpoint, folder / CACHE, workers, show)
    found = metrics.outcomes(records, read_faults(folder / runs.FAULTS), mode, judged.labels, judged.reasons)
    config = runs.read_json(folder / runs.RUN)
    summary = {
        "model": config.get("model", ""),
        "bench": Path(str(config.get("bench", ""))).name,
        "asked": config.get("asked", {}),
        "extraction": mode,
        "judge": None if endpoint is None else _judge_facts(endpoint, judged),
        "seed": seed,
        "resamples": RESAMPLES,
        **(facts or {}),
        **metrics.summarise(found, seed),
        "judged": judged.labels,
        "judged_reasons": judged.reasons,
    }
    with atomic_write(folder / runs.SCORES) as handle:
        handle.write(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    write_answers(found, folder / runs.ANSWERS)
    return Scored(found, summary)


def load_run(folder: Path) -> Scored:
    """A run as ``score_run`` has left it; nobody is asked anything.

    Raises:
        InputError: it is no run, or was not scored.
    """
    if not (folder / runs.SCORES).is_file():
        raise InputError(folder, f"holds no scored run: expected {runs.SCORES}; `colva eval` writes one")
    summary = runs.read_json(folder / runs.SCORES)
    found = metrics.outcomes(
        runs.read_records(folder / runs.PREDICTIONS),
        read_faults(folder / runs.FAULTS),
        summary.get("extraction", "vlmevalkit"),
        summary.get("judged", {}),
        summary.get("judged_reasons", {}),
    )
    return Scored(found, summary)


def read_faults(path: Path) -> list[metrics.Fault]:
    """Questions without a reply; none when there is no such file.

    Raises:
        InputError: a line is none of ours.
    """
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            position, reason = int(entry.pop("position")), str(entry.pop("reason"))
            found.append(metrics.Fault(position, Record.model_validate({**entry, "reply": ""}), reason))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(path, f"no question with a reason: {error}", f"line {number}") from error
    return found


def write_answers(found: Sequence[Outcome], path: Path) -> None:
    """The chosen letters, as ``mmvm-data browse --predictions`` reads them (``mmvm_data.viz.predictions``): of the
    questions as published that got a reply. A number is given as the letter that the case has for it; rows without
    known candidates belong to no case and are left out."""
    lines = [
        {"id": o.record.id, "model": o.record.model, "answer": _letter(o), "text": o.record.reply}
        for o in found
        if o.fault is None and o.record.variant == 0 and o.record.choices
    ]
    runs.write_lines(path, lines)


def _letter(outcome: Outcome) -> str | None:
    record = outcome.record
    if record.protocol == "mcq" or outcome.chosen in (None, REFUSED):
        return outcome.chosen
    numbers = [int(label) for label in record.choices if label.isdigit()]
    offered = prompts.build_options(numbers, None if record.answer == NONE else int(record.answer))
    return next((o.letter for o in offered if outcome.chosen == (NONE if o.number is None else str(o.number))), None)


def _judge_facts(endpoint: Endpoint, judged: Judged) -> dict[str, Any]:
    """Who judged; what it cost goes elsewhere, since it differs between a run and its repetition."""
    failures = [{"id": name, "reason": reason} for name, reason in judged.failures]
    return {"model": endpoint.model, "verdicts": len(judged.labels) + len(judged.reasons), "failures": failures}
