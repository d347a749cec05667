"""The wrong answers of a report: pictures, what is right, and what each model said."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from html import escape
from pathlib import Path
from urllib.parse import quote

from colva.evaluation.scoring.metrics import Outcome, Scored, type_name
from mmvm_data.core.errors import InputError
from mmvm_data.io import media
from mmvm_data.viz.report import thumbnail

MOST = 200
"""Wrong cases that are shown, spread evenly over the benchmark when there are more."""
THUMB = (440, 330)
"""Pixels of a picture, at most."""

Runs = Sequence[tuple[Path, Scored]]
"""(folder, run) each."""
_Card = tuple[Outcome, list[Outcome | None]]


def pieces(
    scored: Runs, benches: Mapping[Path, Path], names: Sequence[str], place: Path, pool: Executor, most: int = MOST
) -> Iterator[str]:
    """The gallery as pieces of HTML.

    Args:
        scored: the runs.
        benches: folder of a run -> its benchmark; a picture that is gone shows as "picture missing".
        names: of the runs.
        place: folder of the report, which links are relative to.
        pool: makes the small pictures.
        most: cases that are shown.
    """
    cards, wrong = _chosen(scored, most)
    yield _head(len(cards), wrong, names)
    pictures = pool.map(lambda card: _pictures(card[0], scored, benches, place), cards)
    for (_, answers), images in zip(cards, pictures, strict=True):
        yield _card(answers, images, names)
    yield "</div></section>"


def _chosen(scored: Runs, most: int) -> tuple[list[_Card], int]:
    """Cases that a run got wrong, as published, with what each run said; and how many there are in all."""
    by_id = [{o.record.id: o for o in run.outcomes if o.record.variant == 0} for _, run in scored]
    order = list(dict.fromkeys(key for run in by_id for key in run))
    wrong = [key for key in order if any(key in run and not run[key].hit for run in by_id)]
    kept = wrong if len(wrong) <= most else [wrong[k * len(wrong) // most] for k in range(most)]
    cards = []
    for key in kept:
        answers = [run.get(key) for run in by_id]
        cards.append((next(a for a in answers if a is not None), answers))
    return cards, len(wrong)


def _pictures(shown: Outcome, scored: Runs, benches: Mapping[Path, Path], place: Path) -> list[tuple[str | None, str]]:
    """(thumbnail as base64 or None, link) of each image."""
    found = []
    for name in shown.record.images:
        file = Path(name)
        for folder, _ in scored:
            bench = benches.get(folder, folder)
            roots = (folder, bench if bench.is_dir() else bench.parent)
            file = next((root / name for root in roots if (root / name).is_file()), file)
        try:
            data = thumbnail(file, *media.read_image_size(file), THUMB)
        except InputError:
            data = None
        found.append((data, quote(os.path.relpath(file.resolve(), place.resolve()).replace(os.sep, "/"))))
    return found


def _head(shown: int, wrong: int, names: Sequence[str]) -> str:
    which = f"all {wrong}" if shown == wrong else f"{shown} of {wrong}, spread over the benchmark"
    whose = "that at least one model got wrong" if len(names) > 1 else "that were answered wrong"
    runs_ = "".join(f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(names))
    by_run = f'<label>wrong for <select id="by-run"><option value="">any</option>{runs_}</select></label>'
    return (
        f"<section id='gallery'><h2>Cases {whose}: {which}</h2>"
        f"<div class='filters'>{by_run if len(names) > 1 else ''}"
        "<label>type <select id='by-type'><option value=''>any</option></select></label>"
        "<label>why <select id='by-why'><option value=''>any</option></select></label>"
        "<span id='shown' role='status'></span></div><div class='cards'>"
    )


def _why(outcome: Outcome) -> str:
    if outcome.fault:
        return "no reply"
    if outcome.chosen is None:
        return "unread"
    return "refused" if outcome.chosen not in outcome.record.choices and outcome.record.choices else "another option"


def _card(answers: Sequence[Outcome | None], images: Sequence[tuple[str | None, str]], names: Sequence[str]) -> str:
    record = next(a for a in answers if a is not None).record
    pair = "".join(
        f'<a href="{link}"><img loading="lazy" alt="image {k}" src="data:image/webp;base64,{data}"></a>'
        if data
        else '<span class="gone">picture missing</span>'
        for k, (data, link) in enumerate(images, 1)
    )
    types = " ".join(type_name(number) for number in record.types)
    right = record.choices.get(record.answer, record.answer)
    said = []
    for name, outcome in zip(names, answers, strict=True):
        if outcome is None:
            continue
        label = outcome.cell
        text = record.choices.get(label, "") if not label.startswith("(") else ""
        chosen = f"{label}. {text}" if text and text != label else label
        body = outcome.fault or outcome.record.reply
        why = f"<pre class='why'>{escape(outcome.record.why)}</pre>" if outcome.record.why else ""
        mark = "right" if outcome.hit else "wrong"
        judge = " (judge)" if outcome.by_judge else ""
        said.append(
            f"<div class='said {mark}'><b>{escape(name)}</b> <span>{escape(chosen + judge)}</span>"
            f"<pre>{escape(body)}</pre>{why}</div>"
        )
    wrong = " ".join(str(k) for k, a in enumerate(answers) if a is not None and not a.hit)
    why_ = "|".join(sorted({_why(a) for a in answers if a is not None and not a.hit}))
    answer = f"{record.answer}. {right}" if right != record.answer else right
    return (
        f'<article class="card" data-case="{escape(record.id)}" data-wrong="{wrong}" data-types="{types}" '
        f'data-why="{escape(why_)}"><div class="pair">{pair}</div>'
        f'<div class="text"><div class="first"><b>{escape(record.id)}</b>'
        f"<span>{escape(record.source)}</span></div><div class='facts'><span>right: {escape(answer)}</span>"
        f"<span>{escape(types)}</span><span>{record.candidates if record.candidates is not None else '?'} candidates"
        f"</span></div>{''.join(said)}</div></article>"
    )
