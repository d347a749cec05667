"""Evaluation from Python: ``evaluate`` does what the command ``colva eval`` does, and returns the report as a value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from colva.evaluation import runs
from colva.evaluation.ask import FailedRequest, OnProgress, Progress, ask_questions
from colva.evaluation.benchmark import default_protocol
from colva.evaluation.environment import describe_environment
from colva.evaluation.models.base import ModelAdapter, ModelOptions
from colva.evaluation.models.registry import open_model
from colva.evaluation.question import AskOptions
from colva.evaluation.reports import charts
from colva.evaluation.reports.report import write_report
from colva.evaluation.reports.texts import summary_sentence
from colva.evaluation.scoring.outcomes import ScoredRun
from colva.evaluation.scoring.score_run import OnVerdict, score_run
from colva.evaluation.scoring.statistics import Share
from colva.evaluation.vlmevalkit_predictions import write_vlmevalkit_predictions
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError, options
from mmvm_data.formats.open_benchmark import Benchmark
from mmvm_data.io.env import env_value
from mmvm_data.io.openai_client import NO_KEY, Endpoint
from mmvm_data.io.pages import render
from mmvm_data.io.set_aside import delete_replaced

_MAX_JUDGE_WORKERS = 32
_JUDGE_TOKENS = 1024
"""Limit of a verdict, which is one word; judges that reason need more before it."""


@options
class EvaluationOptions:
    """Options of an evaluation beside those of the questions and of the model.

    Attributes:
        limit: maximal number of cases, counted from the first; None: all.
        extraction: rule from text to option, see ``scoring.extract``.
        judge: name of a model at an endpoint that reads what the rule cannot; None: no judge.
        judge_url: its API; None: OPENAI_API_BASE.
        xlsx: write predictions for VLMEvalKit as xlsx, too.
        overwrite: replace another run in the folder.
        resume: continue a run in the folder whose ``max_tokens`` was smaller: what was cut there is asked again, and
            nothing else.
    """

    limit: Annotated[int, Field(ge=1)] | None = None
    extraction: Literal["vlmevalkit", "strict"] = "vlmevalkit"
    judge: str | None = None
    judge_url: str | None = None
    xlsx: bool = False
    overwrite: bool = False
    resume: bool = False


@dataclass(frozen=True)
class EvaluationReport:
    """The result of an evaluation; a notebook shows it as a table.

    Attributes:
        run_dir: folder of the run.
        scored: outcome of each question, and everything in ``scores.json``.
        progress: counts of this process, cases that were left out, questions without a reply.
    """

    run_dir: Path
    scored: ScoredRun
    progress: Progress

    @property
    def summary(self) -> Mapping[str, Any]:
        """What ``scores.json`` holds, see ``scoring.metrics.summarize``."""
        return self.scored.summary

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.summary["model"])

    @property
    def overall(self) -> Share:
        """The share of right answers over all cases, with its intervals."""
        return Share(**self.summary["overall"])

    @property
    def accuracy(self) -> float | None:
        """The share of right answers, 0..1; None without cases."""
        return self.overall.value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % bootstrap interval of the accuracy, 0..1; None without cases."""
        overall = self.overall
        return None if overall.low is None or overall.high is None else (overall.low, overall.high)

    @property
    def by_type(self) -> dict[str, Share]:
        """Abbreviation of the match type -> share of right answers over its cases."""
        return self.by("type")

    def by(self, group: Literal["type", "candidates", "source", "difficulty"]) -> dict[str, Share]:
        """Return group -> share of right answers over its cases."""
        return {name: Share(**share) for name, share in self.summary["by"][group].items()}

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """Cases that could not be asked about: (name, why)."""
        return [(problem.where, problem.what) for problem in self.progress.report.left_out]

    @property
    def failed(self) -> list[FailedRequest]:
        """Questions without a reply."""
        return self.progress.failed

    @property
    def html_path(self) -> Path:
        """The report as a page."""
        return self.run_dir / runs.REPORT

    def __str__(self) -> str:
        return f"{self.model}: {summary_sentence(self.summary)}"

    def _repr_html_(self) -> str:
        """Return the overall share and those of the match types as a table, for notebooks."""
        shares = {"overall": self.summary["overall"], **self.summary["by"]["type"]}
        return render(
            "colva.evaluation.reports/notebook_report.html",
            model=self.model,
            bench=self.summary["bench"],
            sentence=summary_sentence(self.summary),
            table=charts.make_group_table("match type", [self.model], [shares]),
            path=str(self.html_path),
            sizes=charts,
        )


def evaluate(
    bench: str | Path | Benchmark, model: str | Path | ModelAdapter, out: str | Path, **options: Any
) -> EvaluationReport:
    """Ask a model all questions of a benchmark, score its answers, and write a report, as ``colva eval`` does.

    A run that was stopped continues when it is called again with the same arguments: what was answered is not asked
    again.

    Args:
        bench: a folder or tsv of any form (see ``mmvm_data.open_benchmark``), or an opened benchmark.
        model: ``random``, ``openai:NAME``, a folder … (see ``models.registry.MODELS``), or any object with the
            attributes and the method of ``models.base.ModelAdapter``.
        out: folder of the run, created when it is missing.
        options: fields of ``AskOptions`` (``protocol`` is "vqa" by default for a benchmark without regions), of
            ``ModelOptions``, and of ``EvaluationOptions``.

    Raises:
        OptionError: an unknown option, or a value that is not valid.
        InputError: the benchmark cannot be read.
        UsageError: no such model, or ``out`` holds something else.
        OutputError: ``out`` cannot be written.
        EndpointError: ten questions in a row got no reply.
    """
    path = bench.path if isinstance(bench, Benchmark) else Path(bench)
    ask_options, model_options, evaluation_options = split_options(options, path)
    return run_evaluation(path, model, Path(out), ask_options, model_options, evaluation_options)


def split_options(values: Mapping[str, Any], bench: Path) -> tuple[AskOptions, ModelOptions, EvaluationOptions]:
    """Return the three groups of options from their fields by name. Without ``protocol`` (or with None) it is the
    benchmark's own.

    Raises:
        OptionError: an unknown option, or a value that is not valid.
        InputError: there is no benchmark at the path.
    """
    groups = (AskOptions, ModelOptions, EvaluationOptions)
    names = [{field.name for field in dataclasses.fields(group)} for group in groups]
    if unknown := sorted(values.keys() - set().union(*names)):
        raise OptionError(unknown[0], "is an unknown option")
    asked, for_model, for_evaluation = ({name: values[name] for name in values if name in group} for group in names)
    if asked.get("protocol") is None:
        asked["protocol"] = default_protocol(bench)
    return AskOptions(**asked), ModelOptions(**for_model), EvaluationOptions(**for_evaluation)


def run_evaluation(
    bench: Path,
    model: str | Path | ModelAdapter,
    run_dir: Path,
    ask_options: AskOptions,
    model_options: ModelOptions,
    evaluation_options: EvaluationOptions,
    on_progress: OnProgress = lambda _: None,
    on_verdict: OnVerdict = lambda done, total: None,
) -> EvaluationReport:
    """Do what ``evaluate`` does, with options as values and with callbacks.

    Args:
        on_progress: called after each call's replies.
        on_verdict: called with (the judge's verdicts, of how many).
    """
    judge = _open_judge(evaluation_options, model_options)
    spec = str(model) if isinstance(model, (str, Path)) else model.name
    adapter = open_model(spec, model_options) if isinstance(model, (str, Path)) else model
    config = runs.run_config(bench, ask_options, adapter)
    with runs.open_run(run_dir, config, evaluation_options.overwrite, evaluation_options.resume):
        environment = describe_environment(spec)
        limit = evaluation_options.limit
        progress = ask_questions(adapter, bench, ask_options, run_dir, limit, model_options, on_progress)
        report = progress.report
        scored = score_run(
            run_dir,
            evaluation_options.extraction,
            judge,
            workers=min(model_options.concurrency, _MAX_JUDGE_WORKERS),
            seed=model_options.seed,
            extra={
                "benchmark": {
                    "cases": report.cases,
                    "left_out": len(report.left_out),
                    "notes": len(report.notes),
                    "complete": progress.is_complete,
                }
            },
            on_verdict=on_verdict,
        )
        environment.write(run_dir / runs.ENVIRONMENT, progress)
        write_report([(run_dir, scored)], run_dir / runs.REPORT, {run_dir: bench})
        if not progress.failed:
            delete_replaced(run_dir)
        # last: a spreadsheet that cannot hold a reply is an error, and everything else is written by then
        write_vlmevalkit_predictions(scored, run_dir, xlsx=evaluation_options.xlsx)
    return EvaluationReport(run_dir, scored, progress)


def _open_judge(evaluation_options: EvaluationOptions, model_options: ModelOptions) -> Endpoint | None:
    if not evaluation_options.judge:
        return None
    url = evaluation_options.judge_url or env_value("OPENAI_API_BASE", model_options.env)
    if not url:
        raise UsageError("`judge` needs `judge_url`, or OPENAI_API_BASE in the environment or in .env")
    return Endpoint(
        url=url,
        model=evaluation_options.judge,
        key=env_value("OPENAI_API_KEY", model_options.env) or NO_KEY,
        max_tokens=_JUDGE_TOKENS,
        body={"temperature": 0},
        timeout=model_options.timeout,
        retries=model_options.retries,
        backoff=model_options.backoff,
    )
