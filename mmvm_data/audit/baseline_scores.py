"""What a benchmark gives away: scores of players that do not understand it.

Chance is what blind choosing would score: of a player that names a candidate, one over the offered candidates where
one of them is right (and nothing where none is); of one that says "none of the above", one over the options. A player
that beats it knows something, if only that answers are the largest, or that objects keep their place. Cases of one
video are alike, so intervals count videos more than cases: Wilson's interval (JASA 1927) at the size of the sample
over the design effect (Kish, "Survey Sampling", 1965, section 8.2). They hold with 95 % for all players together
(Bonferroni), so that eight players do not raise an alarm by their number.

Some players learn from the set itself which answer, size or place is right most often. They are scored on videos that
they have not learnt from, in ten parts, since any set fits its own commonest answer better than chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from statistics import NormalDist
from typing import Any

import numpy as np

from mmvm_data.cases import baselines
from mmvm_data.core.types import Case

LEARNED = ("most_common_answer", "size_rank", "place_rank")
"""Players that learn the rule that is right most often; see ``rules``."""
NAMES = (*baselines.PLAYERS, *LEARNED)
ALPHA = 0.05
PARTS = 10
_RANKS = 6  # largest to sixth largest, smallest to sixth smallest
_PLACES = 3
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Played:
    """One case as the players saw it.

    Attributes:
        video: whose cases are alike; the case's own id when the set does not say.
        answer: the right letter.
        none: letter of "none of the above", "" without one.
        options: number of options.
        offered: number of candidates among them.
        letters: player -> what it answered; without "nearest_colour" where an image cannot be read.
        rules: learned player -> what each of its rules answers.
    """

    video: str
    answer: str
    none: str
    options: int
    offered: int
    letters: dict[str, str]
    rules: dict[str, tuple[str, ...]]

    def chance(self, letter: str) -> float:
        """What blind choosing scores here on average, of players that answer such as ``letter`` (0..1)."""
        if letter == self.none:
            return 1 / self.options
        return 0.0 if self.answer == self.none else 1 / max(self.offered, 1)


@dataclass(frozen=True)
class Score:
    """What a player scored.

    Attributes:
        player: its name.
        cases: that it could answer.
        score, low, high: share of right answers, 0..1, and its interval.
        chance: what blind choosing would have scored.
        rule: of a player that learns: the rule that is right most often over the whole set.
    """

    player: str
    cases: int
    score: float
    low: float
    high: float
    chance: float
    rule: str | None = None

    def beats(self, margin: float = 0.0) -> bool:
        """Whether the whole interval lies above chance, by more than ``margin`` (0..1)."""
        return self.player != "random" and self.low > self.chance + margin

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, shares to six digits."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()} | {
            "beats_chance": self.beats()
        }


def play(case: Case, video: str, letters: dict[str, str]) -> Played:
    """A case as the players saw it.

    Args:
        case: with an option for its answer.
        video: see ``Played``.
        letters: what the players of ``players.PLAYERS`` answered.

    Raises:
        ValueError: no option stands for the answer.
    """
    return Played(
        video=video,
        answer=case.letter,
        none=baselines.letter_for(case, None) or "",
        options=len(case.options),
        offered=len(baselines.offered(case)),
        letters=letters,
        rules=rules(case),
    )


def rules(case: Case) -> dict[str, tuple[str, ...]]:
    """What each rule of the learned players answers, by player, in the order of ``rule_names``.

    A rule that does not apply (the fifth largest of three) takes the first option.
    """
    offered = baselines.offered(case)
    none = baselines.letter_for(case, None)
    letters = {option.letter for option in case.options}
    start = baselines.first(case)
    by_number = {option.number: option.letter for option in case.options}

    def ranked(key: list[float], count: int) -> tuple[str, ...]:
        order = sorted(range(len(offered)), key=lambda k: (key[k], offered[k].number))
        return tuple(by_number[offered[order[k]].number] if k < len(order) else start for k in range(count))

    sizes = [baselines.area(candidate.region) for candidate in offered]
    centers = [baselines.box_center(candidate.region) for candidate in offered]
    xs, ys = [x for x, _ in centers], [y for _, y in centers]
    frame = case.frames[-1]
    middle = [math.dist((x / frame.width, y / frame.height), (0.5, 0.5)) for x, y in centers]
    places = [ranked(key, _PLACES) for key in (xs, [-x for x in xs], ys, [-y for y in ys])]
    middles = (ranked(middle, 1), ranked([-m for m in middle], 1))
    return {
        "most_common_answer": (none or start, *(a if a in letters else start for a in _LETTERS)),
        "size_rank": ranked([-size for size in sizes], _RANKS) + ranked(sizes, _RANKS),
        "place_rank": tuple(chain(*places, *middles)),
    }


def rule_names() -> dict[str, list[str]]:
    """The rules of the learned players in words."""

    def ranks(words: str, count: int) -> list[str]:
        return [words if k == 0 else f"number {k + 1} of the {words}" for k in range(count)]

    sides = ("leftmost", "rightmost", "topmost", "lowest")
    return {
        "most_common_answer": ["none of the above", *_LETTERS],
        "size_rank": ranks("largest", _RANKS) + ranks("smallest", _RANKS),
        "place_rank": [
            *(name for side in sides for name in ranks(side, _PLACES)),
            "nearest to the centre",
            "farthest from the centre",
        ],
    }


def score(cases: Sequence[Played]) -> list[Score]:
    """What each player scored, in the order of NAMES; those without a case to answer are left out."""
    z = NormalDist().inv_cdf(1 - ALPHA / (2 * (len(NAMES) - 1)))
    found = [_random(cases, z)] if cases else []
    for name in NAMES:
        if name == "random":
            continue
        rule = None
        if name in LEARNED:
            picked, rule = _learned(cases, name)
        else:
            picked = [(case, case.letters[name]) for case in cases if name in case.letters]
        if picked:
            found.append(_scored(name, picked, rule, z))
    return found


def wilson(share: float, size: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share (0..1) of ``size`` observations at ``z`` standard deviations."""
    middle = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return max(0.0, middle - half), min(1.0, middle + half)


def _random(cases: Sequence[Played], z: float) -> Score:
    """The exact expectation over all options, and the spread of single tries around it."""
    shares = np.array([1 / case.options for case in cases])
    mean = float(shares.mean())
    spread = z * math.sqrt(float((shares * (1 - shares)).sum())) / len(cases)
    return Score("random", len(cases), mean, max(0.0, mean - spread), min(1.0, mean + spread), mean)


def _learned(cases: Sequence[Played], name: str) -> tuple[list[tuple[Played, str]], str | None]:
    """What a learning player answers, each part of the videos after learning from the others, and its best rule of
    all."""
    videos = {video: number % PARTS for number, video in enumerate(sorted({case.video for case in cases}))}
    if len(videos) < 2:
        return [], None
    parts = np.array([videos[case.video] for case in cases])
    gain = np.array([[(a == case.answer) - case.chance(a) for a in case.rules[name]] for case in cases])
    picked = []
    for part in range(min(PARTS, len(videos))):
        best = int(gain[parts != part].sum(axis=0).argmax())
        picked += [(cases[k], cases[k].rules[name][best]) for k in np.flatnonzero(parts == part)]
    return picked, rule_names()[name][int(gain.sum(axis=0).argmax())]


def _scored(name: str, picked: Sequence[tuple[Played, str]], rule: str | None, z: float) -> Score:
    hits = np.array([letter == case.answer for case, letter in picked], float)
    chances = np.array([case.chance(letter) for case, letter in picked])
    low, high = wilson(float(hits.mean()), _size(hits, chances, [case.video for case, _ in picked]), z)
    return Score(name, len(picked), float(hits.mean()), low, high, float(chances.mean()), rule)


def _size(hits: np.ndarray, chances: np.ndarray, videos: Sequence[str]) -> float:
    """How many independent cases would tell as much: their number over the design effect, never more than they are;
    the number of videos where all cases are hits or none is, which tells nothing about their spread."""
    _, groups = np.unique(np.array(videos), return_inverse=True)
    count = int(groups.max()) + 1
    if count < 2 or hits.min() == hits.max():
        return float(count)
    apart = hits - chances - (hits - chances).mean()
    alone = float((apart**2).sum())
    together = float((np.bincount(groups, apart) ** 2).sum()) * count / (count - 1)
    return len(hits) / max(1.0, together / alone)
