"""Questions of benchmarks of any form (see ``mmvm_data.formats.open_benchmark``), read lazily.

What cannot be asked about is left out and listed with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from colva.evaluation.difficulty import keep_hardest
from colva.evaluation.question import AskOptions, Protocol, Question, make_case_questions, make_item_question
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case
from mmvm_data.formats.bench_read import Problem
from mmvm_data.formats.open_benchmark import Benchmark, open_benchmark
from mmvm_data.formats.vlmevalkit import VlmEvalKitItem
from mmvm_data.io import media


@dataclass
class LoadReport:
    """Counts and problems of the cases that were read so far.

    Attributes:
        cases: number of cases that were asked about.
        left_out: cases that could not be, and why.
        notes: parts of cases that were left out (polygons, match types), and why.
    """

    cases: int = 0
    left_out: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Cases of the benchmark, those left out included."""
        return self.cases + len(self.left_out)


def default_protocol(path: Path) -> Protocol:
    """Return ``mcq`` for a benchmark with regions and options, ``vqa`` for one of questions and images alone.

    Raises:
        InputError: there is no benchmark at the path.
    """
    return "mcq" if open_benchmark(path).has_regions else "vqa"


def load_questions(
    path: Path, ask_options: AskOptions, cache_dir: Path, report: LoadReport | None = None
) -> Iterator[Question]:
    """Yield the questions of a benchmark in its order, one case in memory at a time.

    A case is left out when its row, regions or images cannot be read, its answer is no option, its index or name
    occurred before, or it was rejected in review.

    Args:
        path: of any form, see ``mmvm_data.formats.open_benchmark``.
        ask_options: how cases are asked about.
        cache_dir: folder for images that lie in no file of their own: of the newer table, and of fewer candidates.
        report: filled with counts and problems.

    Raises:
        InputError: the benchmark as a whole cannot be read.
        UsageError: it has no options to choose from, or no regions, and ``ask_options`` need them.
        OutputError: an image cannot be written.
    """
    report = report if report is not None else LoadReport()
    benchmark = open_benchmark(path, cache_dir=cache_dir)
    if not benchmark.has_regions and (ask_options.protocol == "mcq" or ask_options.difficulty):
        argument = "`protocol='mcq'`" if ask_options.protocol == "mcq" else "`difficulty`"
        raise UsageError(f"{path}: holds neither options nor regions, which {argument} needs; use `protocol='vqa'`")
    names_by_index: dict[str, str] = {}
    names: set[str] = set()
    for number, item in enumerate(_read_items(benchmark, report)):
        index = item.index if isinstance(item, VlmEvalKitItem) else str(item.extra.get("index", number))
        name = item.index if isinstance(item, VlmEvalKitItem) else item.id
        try:
            if index in names_by_index:
                raise InputError(name, f"index {index} is that of {names_by_index[index]} already", field="index")
            names_by_index[index] = name
            if isinstance(item, Case) and item.review.state == "rejected":
                raise InputError(name, f"rejected in review: {item.review.reason or 'no reason given'}")
            questions = _make_questions(item, ask_options, index, cache_dir)
            for image in questions[0].images:
                media.read_image_size(image)
        except InputError as error:
            report.left_out.append(Problem(name, _with_relative_paths(path, str(error))))
            continue
        report.cases += 1
        yield from (_with_unique_name(question, names) for question in questions)


def _make_questions(
    item: Case | VlmEvalKitItem, ask_options: AskOptions, index: str, cache_dir: Path
) -> list[Question]:
    if isinstance(item, VlmEvalKitItem):
        return [make_item_question(item, ask_options)]
    if ask_options.difficulty and len(item.candidates) > ask_options.difficulty:
        case, images = keep_hardest(item, ask_options.difficulty, cache_dir)
        return make_case_questions(case, ask_options, index, images)
    return make_case_questions(item, ask_options, index)


def _read_items(benchmark: Benchmark, report: LoadReport) -> Iterator[Case | VlmEvalKitItem]:
    items, problems = iter(benchmark), benchmark.problems
    while True:
        item = next(items, None)
        for problem in problems:  # of rows before this one and of its own
            (report.left_out if _is_row_problem(problem) else report.notes).append(problem)
        problems.clear()
        if item is None:
            return
        yield item


def _is_row_problem(problem: Problem) -> bool:
    """Return whether a reader left out the whole row, not a part of it."""
    return ": line " in problem.where and not problem.where.endswith(": match_type")


def _with_unique_name(question: Question, names: set[str]) -> Question:
    """Return the question under a name that no other has: a folder that two rows share gives two cases."""
    if question.id in names:
        question = replace(question, id=f"{question.id}@{question.index}", case=f"{question.case}@{question.index}")
    names.add(question.id)
    return question


def _with_relative_paths(path: Path, text: str) -> str:
    """Return a message whose files are relative to the benchmark."""
    return text.replace(f"{path if path.is_dir() else path.parent}/", "")
