"""Cues and rationales after a person has changed what they are about: recomputed, dropped, or marked for a second look.

What a program wrote for another answer is written again where the images suffice, and dropped otherwise. What a person
wrote is kept and marked.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mmvm_data.annotation.rationale.selection import digest_subject, new_rationale
from mmvm_data.annotation.rationale.text import TEMPLATE_VERSION, fill_template
from mmvm_data.cases import ocr
from mmvm_data.cases.claims import referenced_numbers
from mmvm_data.cases.consistency import (
    CUES,
    RATIONALE,
    cue_conflict,
    describe_answer,
    rationale_conflict,
    second_look,
    with_second_look,
)
from mmvm_data.cases.cues import ReadText, propose_cues
from mmvm_data.core.errors import InputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import MATCH_TYPES, Case, Cue
from mmvm_data.io import media


class Derived(NamedTuple):
    """A case whose derived fields agree with it or are marked.

    Attributes:
        case: the case.
        notes: what was written again, dropped or marked.
    """

    case: Case
    notes: tuple[str, ...]


class DerivedFields:
    """Brings cues and rationales of reviewed cases in line; what was measured is kept for the next call.

    Args:
        directory: the benchmark, for its clean images.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._measured: dict[str, tuple[bytes, tuple[Cue, ...] | str]] = {}
        self._text_reader: tuple[ReadText | None] | None = None

    def update(self, base: Case, current: Case, after: Case, is_typed: bool) -> Derived:
        """Return the case after a review with its derived fields brought in line.

        Args:
            base: the case as the reviewer saw it.
            current: the record before the review was applied.
            after: the record with the review applied; its cues are those of ``current``.
            is_typed: whether the reviewer wrote or changed the rationale.
        """
        notes: list[str] = []
        after, cue_mark = self._update_cues(current, after, notes)
        after, rationale_mark = self._update_rationale(base, current, after, is_typed, notes)
        marks = {CUES: cue_mark, RATIONALE: rationale_mark}
        notes += [f"{field}: needs a second look: {reason}" for field, reason in marks.items() if reason]
        return Derived(with_second_look(after, marks), tuple(notes))

    def _update_cues(self, current: Case, after: Case, notes: list[str]) -> tuple[Case, str | None]:
        """Return the case with new proposals where its subject changed, and why cues of a person need a look."""
        human = tuple(cue for cue in after.cues if cue.source == "human")
        proposed = tuple(cue for cue in after.cues if cue.source == "proposed")
        is_outdated = digest_subject(after) != digest_subject(current) or any(
            cue_conflict(after, cue) for cue in proposed
        )
        if proposed and is_outdated:
            measured = self._measure(after)
            if isinstance(measured, str):
                notes.append(f"cues: {pluralize(len(proposed), 'proposal')} dropped: {measured}")
                measured = ()
            else:
                gone = {cue.type for cue in proposed} - {cue.type for cue in measured}
                dropped = f", without {', '.join(MATCH_TYPES[n][0] for n in sorted(gone))}" if gone else ""
                source = "; `mmvm-data cues --root` also measures neighbors and motion" if gone else ""
                notes.append(f"cues: proposed again{dropped}{source}")
            types = {cue.type for cue in human}
            cues = (*human, *(cue for cue in measured if cue.type not in types))
            after = after.model_copy(update={"cues": cues})
        for cue in human:
            if reason := cue_conflict(after, cue):
                return after, f"{MATCH_TYPES[cue.type][0]} {reason}"
        if human and after.answer != current.answer:
            return after, f"were given for {describe_answer(current.answer)}"
        return after, None

    def _update_rationale(
        self, base: Case, current: Case, after: Case, is_typed: bool, notes: list[str]
    ) -> tuple[Case, str | None]:
        """Return the case with a rationale of its answer, and why the rationale needs a second look."""
        text = after.rationale
        if not text:
            return after, None
        conflict = rationale_conflict(after)
        if is_typed:
            return after, conflict
        is_current = text == current.rationale and text != base.rationale
        explained = current.answer if is_current else base.answer
        by = after.rationale_by
        if by == "template" and (conflict or explained != after.answer):
            new = fill_template(after, after.cues)
            if new is None:
                notes.append(f"rationale: the template's text for {describe_answer(explained)} is dropped")
                return after.model_copy(update={"rationale": None, "written": None}), None
            notes.append("rationale: the template is filled again")
            return new_rationale(after, after.cues, new, "template", TEMPLATE_VERSION).apply(after), None
        if explained != after.answer and (after.answer is None or after.answer not in referenced_numbers(text)):
            return after, conflict or f"was written for {describe_answer(explained)}"
        if is_current and explained == after.answer:
            return after, conflict or second_look(current).get(RATIONALE)
        return after, conflict

    def _measure(self, case: Case) -> tuple[Cue, ...] | str:
        """Return the proposals for a case, or why it cannot be measured."""
        known = self._measured.get(case.id)
        if known is not None and known[0] == digest_subject(case):
            return known[1]
        if self._text_reader is None:
            self._text_reader = (ocr.open_text_reader(),)
        result: tuple[Cue, ...] | str
        try:
            images = [media.read_frame_bgr(self._directory, frame) for frame in case.frames]
            result = propose_cues(case, images, None, self._text_reader[0])
        except (InputError, ValueError) as error:
            result = str(error)
        self._measured[case.id] = digest_subject(case), result
        return result
