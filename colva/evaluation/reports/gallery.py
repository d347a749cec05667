"""The wrong answers of a report: images, the right answer, and what each model replied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from colva.evaluation.scoring.outcomes import Outcome, ScoredRun, type_name
from mmvm_data.core.errors import InputError
from mmvm_data.io import media
from mmvm_data.io.files import relative_link
from mmvm_data.io.thumbnails import webp_thumbnail

MAX_CASES = 200
"""Wrong cases that are shown, spread evenly over the benchmark when there are more."""
THUMB_SIZE = (440, 330)
"""Width and height of an image in pixels, at most."""

Runs = Sequence[tuple[Path, ScoredRun]]
"""(folder, run) each."""


@dataclass(frozen=True)
class Image:
    """An image of a card: a WebP as base64 (None when the file is gone), and a URL relative to the report."""

    data: str | None
    link: str


@dataclass(frozen=True)
class Answer:
    """What one model answered: the chosen option in words, its reply or why there is none, and its reason."""

    model: str
    is_right: bool
    choice: str
    text: str
    why: str | None


@dataclass(frozen=True)
class Card:
    """A case that at least one run got wrong.

    Attributes:
        id, source: names of the case and of its source.
        answer: the right option in words.
        types: abbreviations of the match types.
        candidates: their number as text, "?" when it is not known.
        images: in order.
        answers: of the runs that asked about the case.
        wrong_runs: positions of the runs that got it wrong.
        reasons: how they went wrong, sorted.
    """

    id: str
    source: str
    answer: str
    types: tuple[str, ...]
    candidates: str
    images: tuple[Image, ...]
    answers: tuple[Answer, ...]
    wrong_runs: tuple[int, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """The title, the names of the runs, and the cards, which are made while the page is written."""

    title: str
    names: tuple[str, ...]
    cards: Iterator[Card]


def make_gallery(
    scored: Runs,
    benches: Mapping[Path, Path],
    names: Sequence[str],
    report_folder: Path,
    pool: Executor,
    max_cases: int = MAX_CASES,
) -> Gallery:
    """Return the gallery of the cases that at least one run got wrong.

    Args:
        scored: the runs.
        benches: folder of a run -> its benchmark; an image that is gone shows as "picture missing".
        names: of the runs.
        report_folder: folder of the report, which links are relative to.
        pool: makes the thumbnails.
        max_cases: cases that are shown.
    """
    by_id = _outcomes_by_id(scored)
    order = list(dict.fromkeys(key for run in by_id for key in run))
    wrong = [key for key in order if any(key in run and not run[key].is_right for run in by_id)]
    kept = wrong if len(wrong) <= max_cases else [wrong[k * len(wrong) // max_cases] for k in range(max_cases)]
    rows = [[run.get(key) for run in by_id] for key in kept]
    is_complete = len(kept) == len(wrong)
    count = f"all {len(wrong)}" if is_complete else f"{len(kept)} of {len(wrong)}, spread over the benchmark"
    which = "that at least one model got wrong" if len(names) > 1 else "that were answered wrong"

    def cards() -> Iterator[Card]:
        images = pool.map(lambda row: _images(row, scored, benches, report_folder), rows)
        for row, files in zip(rows, images, strict=True):
            yield _card(row, files, names)

    return Gallery(f"Cases {which}: {count}", tuple(names), cards())


def make_examples(scored: Runs, benches: Mapping[Path, Path], names: Sequence[str], report_folder: Path) -> list[Card]:
    """Return a case that the last run got right and one that it got wrong, as far as there are any.

    Of the right ones, the first that most of the other runs got wrong.

    Args:
        scored: the runs over one benchmark.
        benches, names, report_folder: see `make_gallery`.
    """
    by_id = _outcomes_by_id(scored)
    right = [key for key, outcome in by_id[-1].items() if outcome.is_right]
    wrong = [key for key, outcome in by_id[-1].items() if not outcome.is_right]
    rows = {key: [run.get(key) for run in by_id] for key in by_id[-1]}
    hardest = sorted(right, key=lambda key: sum(o is not None and o.is_right for o in rows[key]))
    chosen = [rows[key] for key in (*hardest[:1], *wrong[:1])]
    return [_card(row, _images(row, scored, benches, report_folder), names) for row in chosen]


def _outcomes_by_id(scored: Runs) -> list[dict[str, Outcome]]:
    """Return the outcomes of each run by the id of the case, asked with its options in their first order."""
    return [{o.prediction.id: o for o in run.outcomes if o.prediction.variant == 0} for _, run in scored]


def _images(
    outcomes: Sequence[Outcome | None], scored: Runs, benches: Mapping[Path, Path], report_folder: Path
) -> tuple[Image, ...]:
    images = []
    for name in next(o for o in outcomes if o is not None).prediction.images:
        file = Path(name)
        for folder, _ in scored:
            bench = benches.get(folder, folder)
            roots = (folder, bench if bench.is_dir() else bench.parent)
            file = next((root / name for root in roots if (root / name).is_file()), file)
        try:
            data = webp_thumbnail(file, *media.read_image_size(file), THUMB_SIZE)
        except InputError:
            data = None
        link = relative_link(file, report_folder)
        images.append(Image(data, quote(link)))
    return tuple(images)


def _card(outcomes: Sequence[Outcome | None], images: tuple[Image, ...], names: Sequence[str]) -> Card:
    prediction = next(o for o in outcomes if o is not None).prediction
    wrong = [(k, o) for k, o in enumerate(outcomes) if o is not None and not o.is_right]
    return Card(
        id=prediction.id,
        source=prediction.source,
        answer=_label_with_text(prediction.answer, prediction.choices),
        types=tuple(type_name(number) for number in prediction.types),
        candidates="?" if prediction.candidates is None else str(prediction.candidates),
        images=images,
        answers=tuple(_answer(name, o) for name, o in zip(names, outcomes, strict=True) if o is not None),
        wrong_runs=tuple(k for k, _ in wrong),
        reasons=tuple(sorted({_failure(o) for _, o in wrong})),
    )


def _answer(model: str, outcome: Outcome) -> Answer:
    choice = _label_with_text(outcome.column, outcome.prediction.choices) + (" (judge)" if outcome.by_judge else "")
    return Answer(model, outcome.is_right, choice, outcome.error or outcome.prediction.reply, outcome.prediction.why)


def _label_with_text(label: str, choices: Mapping[str, str]) -> str:
    """Return "B. 2", or the label alone where it is its own text or no label."""
    text = "" if label.startswith("(") else choices.get(label, "")
    return f"{label}. {text}" if text and text != label else label


def _failure(outcome: Outcome) -> str:
    if outcome.error:
        return "no reply"
    if outcome.chosen is None:
        return "cut" if outcome.prediction.truncated else "unread"
    return (
        "refused"
        if outcome.chosen not in outcome.prediction.choices and outcome.prediction.choices
        else "another option"
    )
