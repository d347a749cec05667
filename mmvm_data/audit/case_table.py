"""What blind baselines answer to many cases, and the features of their options, as arrays.

Letters, videos and sources are numbers that count from 1 and 0 in the order in which names were first seen; 0 is no
letter. A case takes about 200 bytes and its features, which lie in a file where they are many, where objects of its own
would take several kilobytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from mmvm_data.audit.baseline_answers import answer_cases, apply_rules
from mmvm_data.audit.case_measures import MeasuredCases
from mmvm_data.audit.feature_rows import FeatureRows, FeatureRowsBuilder
from mmvm_data.audit.inspected_case import InspectedCase
from mmvm_data.audit.option_features import measure_options
from mmvm_data.cases.baselines import random_letter
from mmvm_data.core.compact import Numbering

_BATCH_SIZE = 256  # cases that are answered together


@dataclass(frozen=True)
class CaseAnswers:
    """What the baselines answer to one case.

    Attributes:
        video: name of the video, whose cases are alike; the case's own id when the set does not say.
        answer: the right letter.
        none: letter of "none of the above", "" without one.
        options: number of options.
        offered: number of candidates among them.
        letters: baseline -> its answer; without "nearest_color" where an image cannot be read.
        rules: learned baseline -> the answer of each of its rules.
    """

    video: str
    answer: str
    none: str
    options: int
    offered: int
    letters: Mapping[str, str]
    rules: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class LearnedCase:
    """What baselines answer to one case, and what the learned one reads of it.

    Attributes:
        answers: the right letter, the video and the answers.
        source: where the case comes from.
        letters: of the options.
        features: float32 [options, columns], see ``option_features``.
    """

    answers: CaseAnswers
    source: str
    letters: tuple[str, ...]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class CaseTable:
    """Cases as arrays.

    Attributes:
        names: of letters by their number; the first stands for no letter.
        video_names, source_names: by number.
        videos, sources: of the cases, int32 [cases].
        right, none: letters, int16 [cases].
        options, offered: see ``CaseAnswers``, int32 [cases].
        answers: baseline -> letters, int16 [cases].
        rules: learned baseline -> letters, int16 [cases, rules].
        start: first option of each case, int64 [cases].
        letters: of the options of all cases, int16 [options].
        features: of these.
    """

    names: tuple[str, ...]
    video_names: tuple[str, ...]
    source_names: tuple[str, ...]
    videos: NDArray[np.int32]
    sources: NDArray[np.int32]
    right: NDArray[np.int16]
    none: NDArray[np.int16]
    options: NDArray[np.int32]
    offered: NDArray[np.int32]
    answers: Mapping[str, NDArray[np.int16]]
    rules: Mapping[str, NDArray[np.int16]]
    start: NDArray[np.int64]
    letters: NDArray[np.int16]
    features: FeatureRows

    @classmethod
    def from_cases(cls, cases: Iterable[LearnedCase]) -> CaseTable:
        """The table of cases, which can be dropped one by one."""
        builder = CaseTableBuilder()
        for case in cases:
            builder.add(case)
        return builder.build()

    @classmethod
    def from_inspected(cls, cases: Iterable[InspectedCase]) -> CaseTable:
        """The table of cases with their measures, which can be dropped one by one; those without are left out."""
        builder = CaseTableBuilder()
        for case in cases:
            builder.add_inspected(case)
        return builder.build()

    @classmethod
    def from_answers(cls, answers: Iterable[CaseAnswers]) -> CaseTable:
        """The table of cases whose options are not known: the baselines that do not read them can be scored."""
        builder = CaseTableBuilder()
        for own in answers:
            builder.add_answers(own)
        return builder.build()

    def __len__(self) -> int:
        return len(self.right)

    @property
    def is_none(self) -> NDArray[np.bool_]:
        """Whether "none of the above" is right, bool [cases]."""
        result: NDArray[np.bool_] = self.right == self.none
        return result

    @property
    def option_counts(self) -> NDArray[np.int64]:
        """Number of options of each case that the table holds, int64 [cases]."""
        return np.diff(self.start, append=len(self.letters))

    @property
    def option_cases(self) -> NDArray[np.int64]:
        """Number of the case of each option, int64 [options]."""
        return np.repeat(np.arange(len(self)), self.option_counts)

    @property
    def is_right_option(self) -> NDArray[np.bool_]:
        """Which options are right, bool [options]."""
        is_right: NDArray[np.bool_] = self.letters == np.repeat(self.right, self.option_counts)
        return is_right

    @property
    def is_candidate(self) -> NDArray[np.bool_]:
        """Which options are not "none of the above", bool [options]."""
        is_candidate: NDArray[np.bool_] = self.letters != np.repeat(self.none, self.option_counts)
        return is_candidate

    def chances(self, letters: NDArray[np.int16]) -> NDArray[np.float64]:
        """Expected score (0..1) of blind choosing among answers of the kind of a letter: candidates, or options.

        Args:
            letters: one for each case, int [cases].
        """
        of_candidates = np.where(self.is_none, 0.0, 1 / np.maximum(self.offered, 1))
        return np.where(letters == self.none, 1 / self.options, of_candidates)

    def residuals(self, letters: NDArray[np.int16], right: NDArray[np.int16] | None = None) -> NDArray[np.float64]:
        """Hit minus chance of one letter for each case, float [cases]; 0 where there is none.

        Args:
            letters: int16 [cases].
            right: letters that stand for the right ones, int16 [cases].
        """
        gains = (letters == (self.right if right is None else right)) - self.chances(letters)
        return np.where(letters == 0, 0.0, gains)

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """The table of some cases, bool [cases]."""
        is_own = np.repeat(chosen, self.option_counts)
        counts = self.option_counts[chosen]
        return replace(
            self,
            videos=self.videos[chosen],
            sources=self.sources[chosen],
            right=self.right[chosen],
            none=self.none[chosen],
            options=self.options[chosen],
            offered=self.offered[chosen],
            answers={name: letters[chosen] for name, letters in self.answers.items()},
            rules={name: letters[chosen] for name, letters in self.rules.items()},
            start=np.cumsum(counts) - counts,
            letters=self.letters[is_own],
            features=self.features.take(np.flatnonzero(is_own)) if len(self.features) else self.features,
        )


class CaseTableBuilder:
    """Adds cases to a table one by one."""

    def __init__(self) -> None:
        self._names, self._videos, self._sources = Numbering({"\0": 0}), Numbering[str](), Numbering[str]()
        self._of_cases: dict[str, array[int]] = {
            name: array("i") for name in ("videos", "sources", "right", "none", "options", "offered", "counts")
        }
        self._answers: dict[str, array[int]] = {}
        self._rules: dict[str, array[int]] = {}
        self._letters = array("h")
        self._features = FeatureRowsBuilder()
        self._cases = 0
        self._waiting: list[InspectedCase] = []

    def add_inspected(self, case: InspectedCase) -> None:
        """Add what baselines answer to a case; one without measures is left out. Many are answered together."""
        if case.measures is not None:
            self._waiting.append(case)
            if len(self._waiting) == _BATCH_SIZE:
                self._add_waiting()

    def add(self, case: LearnedCase) -> None:
        """Add a case whose answers are known."""
        self.add_answers(case.answers, case.source, case.letters)
        self._features.add(case.features)

    def add_answers(self, answers: CaseAnswers, source: str = "", letters: Sequence[str] = ()) -> None:
        """Add a case whose features are not known."""
        self._add_waiting()
        self._add_facts(answers.video, source, answers.answer, answers.none, answers.options, answers.offered, letters)
        for name, letter in answers.letters.items():
            own = self._answers.setdefault(name, array("h"))
            self._pad(own)
            own.append(self._names[letter])
        for name, rule_letters in answers.rules.items():
            self._rules.setdefault(name, array("h")).extend(map(self._names.__getitem__, rule_letters))
        self._cases += 1

    def build(self) -> CaseTable:
        """The table of all cases, whose arrays share the memory of this builder."""
        self._add_waiting()
        columns = {name: np.frombuffer(values, np.int32) for name, values in self._of_cases.items()}
        for own in self._answers.values():
            self._pad(own)
        counts = columns["counts"].astype(np.int64)
        return CaseTable(
            names=tuple(self._names),
            video_names=tuple(self._videos),
            source_names=tuple(self._sources),
            videos=columns["videos"],
            sources=columns["sources"],
            right=columns["right"].astype(np.int16),
            none=columns["none"].astype(np.int16),
            options=columns["options"],
            offered=columns["offered"],
            answers={name: np.frombuffer(own, np.int16) for name, own in self._answers.items()},
            rules={
                name: np.frombuffer(own, np.int16).reshape(self._cases, -1)
                for name, own in self._rules.items()
                if len(own)
            },
            start=np.cumsum(counts) - counts,
            letters=np.frombuffer(self._letters, np.int16),
            features=self._features.build(),
        )

    def _add_waiting(self) -> None:
        """Answer the cases that wait, and add them."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        measured = MeasuredCases([case.measures for case in waiting if case.measures is not None])
        for case, own in zip(waiting, measured.cases, strict=True):
            options, offered = len(own.letters), len(own.regions) - 1
            self._add_facts(case.video_name, case.source, own.answer, own.none, options, offered, own.letters)
        pairs = zip(waiting, measured.cases, strict=True)
        at_random = np.array([random_letter(case.id, own.letters) for case, own in pairs])
        for name, letters in {"random": at_random, **answer_cases(measured)}.items():
            column = self._answers.setdefault(name, array("h"))
            self._pad(column)
            column.frombytes(self._number_letters(letters).tobytes())
        for name, letters in apply_rules(measured).items():
            self._rules.setdefault(name, array("h")).frombytes(self._number_letters(letters).tobytes())
        self._features.add(measure_options(measured))
        self._cases += len(waiting)

    def _add_facts(
        self, video: str, source: str, answer: str, none: str, options: int, offered: int, letters: Sequence[str]
    ) -> None:
        number_of, columns = self._names.__getitem__, self._of_cases
        columns["videos"].append(self._videos[video])
        columns["sources"].append(self._sources[source])
        columns["right"].append(number_of(answer))
        columns["none"].append(number_of(none))
        columns["options"].append(options)
        columns["offered"].append(offered)
        columns["counts"].append(len(letters))
        self._letters.extend(map(number_of, letters))

    def _number_letters(self, letters: NDArray[np.str_]) -> NDArray[np.int16]:
        """Numbers of letters, int16 of the same shape; 0 for ""."""
        known = np.array(list(self._names))  # where the first name, "\0", is ""
        order = np.argsort(known, kind="stable")
        return order[np.searchsorted(known, letters, sorter=order)].astype(np.int16)

    def _pad(self, letters: array[int]) -> None:
        """Give the cases that a baseline did not answer no letter."""
        letters.frombytes(bytes(letters.itemsize * (self._cases - len(letters))))
