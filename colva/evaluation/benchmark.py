"""Benchmarks of any form as one lazy row of questions.

Read: the original folder with its table, our builds, the newer table with images inside (``formats.vlmevalkit``), and
data sets that were exported for the Hub. What cannot be asked about is left out and named; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from colva.evaluation.difficulty import at_level
from colva.evaluation.question import AskOptions, Question, of_case, of_item
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case
from mmvm_data.formats.bench_read import Problem
from mmvm_data.formats.open_benchmark import Benchmark, open_benchmark
from mmvm_data.formats.vlmevalkit import VlmEvalKitItem
from mmvm_data.io import media


@dataclass
class Reading:
    """What reading a benchmark has found so far.

    Attributes:
        cases: that were asked about.
        left_out: cases that could not be, and why; ``cases`` and these make the whole set.
        notes: cases with parts that were left out (polygons, match types).
    """

    cases: int = 0
    left_out: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    @property
    def whole(self) -> int:
        """Cases of the set."""
        return self.cases + len(self.left_out)


def questions(path: Path, options: AskOptions, into: Path, reading: Reading | None = None) -> Iterator[Question]:
    """The questions of a benchmark in its order, one case in memory at a time.

    A case is left out when its row, regions or images cannot be read, its answer is no option, its index or name was
    there before, or people rejected it.

    Args:
        path: of any form, see ``mmvm_data.formats.open_benchmark``.
        options: how cases are asked about.
        into: folder for images that lie in no file of their own: of the newer table, and of fewer candidates.
        reading: gets what was found.

    Raises:
        InputError: the benchmark as a whole cannot be read.
        UsageError: it has no options to choose from, or no regions, and the options need them.
        OutputError: an image cannot be written.
    """
    reading = reading if reading is not None else Reading()
    benchmark = open_benchmark(path, cache_dir=into)
    if not benchmark.has_regions and (options.protocol == "mcq" or options.difficulty):
        wants = "--protocol mcq" if options.protocol == "mcq" else "--difficulty"
        raise UsageError(f"{path}: holds neither options nor regions, so {wants} cannot be had; it is for vqa")
    if options.protocol == "vqa" and options.shuffles > 1:
        raise UsageError("--shuffle-options: questions that are answered by a number have no options to move")
    indices: dict[str, str] = {}
    names: set[str] = set()
    for number, item in enumerate(_items(benchmark, reading)):
        index = item.index if isinstance(item, VlmEvalKitItem) else str(item.extra.get("index", number))
        name = item.index if isinstance(item, VlmEvalKitItem) else item.id
        try:
            if index in indices:
                raise InputError(name, f"index {index} is that of {indices[index]} already", field="index")
            indices[index] = name
            if isinstance(item, Case) and item.review.state == "rejected":
                raise InputError(name, f"rejected in review: {item.review.reason or 'no reason given'}")
            found = _asked(item, options, index, into)
            for image in found[0].images:
                media.read_image_size(image)
        except InputError as error:
            reading.left_out.append(Problem(name, _within(path, str(error))))
            continue
        reading.cases += 1
        yield from (_named(question, names) for question in found)


def _asked(item: Case | VlmEvalKitItem, options: AskOptions, index: str, into: Path) -> list[Question]:
    if isinstance(item, VlmEvalKitItem):
        return [of_item(item, options)]
    if options.difficulty and len(item.candidates) > options.difficulty:
        case, images = at_level(item, options.difficulty, into)
        return of_case(case, options, index, images)
    return of_case(item, options, index)


def _items(benchmark: Benchmark, reading: Reading) -> Iterator[Case | VlmEvalKitItem]:
    items, problems = iter(benchmark), benchmark.problems
    while True:
        item = next(items, None)
        for problem in problems:  # of rows before this one and of its own
            (reading.left_out if _is_row(problem) else reading.notes).append(problem)
        problems.clear()
        if item is None:
            return
        yield item


def _is_row(problem: Problem) -> bool:
    """Whether a problem of a reader is a row that it left out, not a part of one."""
    return ": line " in problem.where and not problem.where.endswith(": match_type")


def _named(question: Question, names: set[str]) -> Question:
    """The question under a name that no other one has: a folder that two rows share gives two cases."""
    if question.id in names:
        question = replace(question, id=f"{question.id}@{question.index}", case=f"{question.case}@{question.index}")
    names.add(question.id)
    return question


def _within(path: Path, text: str) -> str:
    """A message whose files are relative to the benchmark."""
    return text.replace(f"{path if path.is_dir() else path.parent}/", "")
