"""Score the folder of a run: read its predictions, ask the judge, write ``scores.json`` and what other tools read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from colva.evaluation import runs
from colva.evaluation.runs import Prediction
from colva.evaluation.scoring.extract import NONE, REFUSED
from colva.evaluation.scoring.judge import CACHE_DIR, Verdicts, judge_predictions
from colva.evaluation.scoring.metrics import summarize
from colva.evaluation.scoring.outcomes import FailedQuestion, Outcome, ScoredRun, collect_outcomes, read_label
from colva.evaluation.scoring.scores_file import read_scores
from colva.evaluation.scoring.statistics import RESAMPLES
from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import parse_json, read_file, read_json_object
from mmvm_data.io.openai_client import Endpoint

OnVerdict = Callable[[int, int], None]


def score_run(
    run_dir: Path,
    mode: str = "vlmevalkit",
    judge: Endpoint | None = None,
    workers: int = 8,
    seed: int = 0,
    extra: dict[str, Any] | None = None,
    on_verdict: OnVerdict = lambda done, total: None,
) -> ScoredRun:
    """Score a run, and write ``scores.json`` and ``answers.jsonl`` into its folder.

    Args:
        run_dir: with ``predictions.jsonl``.
        mode: of extraction.
        judge: the judge; None: what the rule cannot read stays unread.
        workers: requests to the judge at a time.
        seed: of the bootstrap.
        extra: more for ``scores.json``, such as the size of the benchmark.
        on_verdict: called with (the judge's verdicts, of how many).

    Raises:
        InputError: a file of the run cannot be read.
        UsageError: the judge refuses everything.
    """
    predictions = list(runs.read_predictions(run_dir / runs.PREDICTIONS))
    verdicts = Verdicts()
    if judge is not None:
        unread = [p for p in predictions if read_label(p, mode) is None and p.reply.strip()]
        with_reason = [p for p in predictions if p.variant == 0 and p.rationale and (p.why or "").strip()]
        verdicts = judge_predictions(unread, with_reason, judge, run_dir / CACHE_DIR, workers, on_verdict)
    failed = read_failed_questions(run_dir / runs.ERRORS)
    outcomes = collect_outcomes(predictions, failed, mode, verdicts.labels, verdicts.reasons)
    config = read_json_object(run_dir / runs.RUN)
    summary = {
        "model": config.get("model", ""),
        "bench": Path(str(config.get("bench", ""))).name,
        "ask_options": config.get("ask_options", {}),
        "extraction": mode,
        "judge": None if judge is None else _judge_facts(judge, verdicts),
        "seed": seed,
        "resamples": RESAMPLES,
        **(extra or {}),
        **summarize(outcomes, seed),
        "judged": verdicts.labels,
        "judged_reasons": verdicts.reasons,
    }
    with atomic_write(run_dir / runs.SCORES) as handle:
        handle.write(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    write_answers(outcomes, run_dir / runs.ANSWERS)
    return ScoredRun(outcomes, summary)


def load_run(run_dir: Path) -> ScoredRun:
    """Return a run as ``score_run`` has left it; no model and no judge is asked.

    Raises:
        InputError: it is no run, or was not scored.
    """
    if not (run_dir / runs.SCORES).is_file():
        raise InputError(run_dir, f"holds no scored run: expected {runs.SCORES}; `colva eval` writes one")
    summary = read_scores(run_dir / runs.SCORES)
    outcomes = collect_outcomes(
        runs.read_predictions(run_dir / runs.PREDICTIONS),
        read_failed_questions(run_dir / runs.ERRORS),
        summary.get("extraction", "vlmevalkit"),
        summary.get("judged", {}),
        summary.get("judged_reasons", {}),
    )
    return ScoredRun(outcomes, summary)


def read_failed_questions(path: Path) -> list[FailedQuestion]:
    """Return the questions without a reply, in their order; none when there is no such file.

    Raises:
        InputError: a line is no question with a reason.
    """
    if not path.is_file():
        return []
    failed = []
    for number, line in enumerate(read_file(path).splitlines(), 1):
        try:
            entry = parse_json(line, path, f"line {number}")
            position, reason = int(entry.pop("position")), str(entry.pop("reason"))
            failed.append(FailedQuestion(position, Prediction.model_validate({**entry, "reply": ""}), reason))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(path, f"no question with a reason: {error}", f"line {number}") from error
    return failed


def write_answers(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the chosen letters, as ``mmvm-data browse --predictions`` reads them: of the questions as published that
    got a reply. A number is written as the letter that the case has for it; questions without known candidates are
    left out."""
    lines = [
        {"id": o.prediction.id, "model": o.prediction.model, "answer": _letter(o), "text": o.prediction.reply}
        for o in outcomes
        if o.error is None and o.prediction.variant == 0 and o.prediction.choices
    ]
    runs.write_json_lines(path, lines)


def _letter(outcome: Outcome) -> str | None:
    prediction = outcome.prediction
    if prediction.protocol == "mcq" or outcome.chosen in (None, REFUSED):
        return outcome.chosen
    numbers = [int(label) for label in prediction.choices if label.isdigit()]
    options = prompts.build_options(numbers, None if prediction.answer == NONE else int(prediction.answer))
    return next((o.letter for o in options if outcome.chosen == (NONE if o.number is None else str(o.number))), None)


def _judge_facts(judge: Endpoint, verdicts: Verdicts) -> dict[str, Any]:
    """Return who judged. What it cost is not part of it, since that differs between a run and its repetition."""
    failures = [{"id": name, "reason": reason} for name, reason in verdicts.failures]
    return {"model": judge.model, "verdicts": len(verdicts.labels) + len(verdicts.reasons), "failures": failures}
