"""Options and findings of an audit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mmvm_data.audit.baseline_scores import GRADIENT_BOOSTING, BaselineName, BaselineScore
from mmvm_data.audit.duplicates import DuplicateFrames
from mmvm_data.audit.gradient_boosting import MIN_VIDEOS, LearnedScore, describe_shortage
from mmvm_data.core.options import options
from mmvm_data.core.plurals import pluralize
from mmvm_data.formats.bench_read import Problem

_MAX_PAIRS = 1000  # pairs of videos that are listed in JSON


@options
class AuditOptions:
    """What an audit looks at.

    Attributes:
        workers: processes.
        pixels: whether to open images; without, the baseline of colors and the search for duplicate frames are left
            out.
        margin: how far above chance a baseline's interval may begin without a warning, 0..1.
        accept: baselines that may beat chance.
    """

    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    pixels: bool = True
    margin: Annotated[float, Field(ge=0, le=1)] = 0.0
    accept: tuple[BaselineName, ...] = ()


@dataclass(frozen=True)
class Leakage:
    """What a benchmark shares with another set.

    Attributes:
        against: folder of the other set.
        cases: number of its cases.
        videos: names (source and id) of videos that both have.
        same_ids: ids of videos that both have under different sources: the same video, or two of one name.
        frames: frames that both have, or None without pixels.
    """

    against: Path
    cases: int
    videos: tuple[str, ...]
    same_ids: tuple[str, ...]
    frames: DuplicateFrames | None


@dataclass(frozen=True)
class AuditResult:
    """The findings of an audit.

    Attributes:
        directory: folder of the benchmark.
        cases: number of cases; rejected ones are left out.
        scores: scores of the baselines.
        learned: details of the last of them, which learns from the set.
        judged_videos: number of videos whose cases the baselines answered.
        repeated: groups of cases that ask the same question about the same images.
        frames: videos that share frames, or None without pixels.
        leak: what the benchmark shares with another set; None if there is no other set.
        problems: what could not be read.
        options: options of the audit.
    """

    directory: Path
    cases: int
    scores: tuple[BaselineScore, ...]
    learned: LearnedScore
    judged_videos: int
    repeated: tuple[tuple[str, ...], ...]
    frames: DuplicateFrames | None
    leak: Leakage | None
    problems: tuple[Problem, ...]
    options: AuditOptions

    @property
    def shortcuts(self) -> list[BaselineScore]:
        """Scores of the baselines that beat chance and are not accepted."""
        accepted = self.options.accept
        return [s for s in self.scores if s.beats_chance(self.options.margin) and s.baseline not in accepted]

    def _is_explained(self, score: BaselineScore) -> bool:
        return score.baseline == GRADIENT_BOOSTING and bool(self.learned.importance)

    @property
    def shortage(self) -> str:
        """That there are too few videos to judge the set by its baselines, in one sentence; "" if there are enough."""
        return describe_shortage(self.judged_videos) if self.judged_videos < MIN_VIDEOS else ""

    @property
    def warnings(self) -> list[str]:
        """Each finding that a person should look at, in one sentence."""
        warnings = [
            f"{s.baseline} scores {s.score:.1%} (at least {s.low:.1%}), chance is {s.chance:.1%}"
            + (f": the answer is often {_describe_rule(s)}" if s.rule else "")
            + (f": mostly from {self.learned.importance[0][0]}" if self._is_explained(s) else "")
            for s in self.shortcuts
        ]
        reasons = dict(self.learned.importance_by_source)
        if GRADIENT_BOOSTING not in self.options.accept:
            warnings += [
                f"{GRADIENT_BOOSTING} scores {s.score:.1%} (at least {s.low:.1%}) on {source}, chance is {s.chance:.1%}"
                + (f": mostly from {reasons[source][0][0]}" if reasons.get(source) else "")
                for source, s in self.learned.by_source
                if s.beats_chance(self.options.margin)
            ]
        if self.repeated:
            count = sum(map(len, self.repeated)) - len(self.repeated)
            warnings.append(f"{pluralize(count, 'case')} with the question of another case")
        if self.frames and self.frames.videos:
            warnings.append(f"{pluralize(self.frames.videos, 'video')} with frames of another video")
        if self.leak and self.leak.videos:
            warnings.append(f"{pluralize(len(self.leak.videos), 'video')} also in {self.leak.against}")
        if self.leak and self.leak.frames and self.leak.frames.shared:
            shared = pluralize(self.leak.frames.shared, "frame")
            warnings.append(f"{shared} of {pluralize(self.leak.frames.videos, 'video')} also in {self.leak.against}")
        if self.problems:
            warnings.append(f"{pluralize(len(self.problems), 'case')} that could not be read completely")
        return warnings

    def to_json(self) -> dict[str, Any]:
        """JSON values; at most 1,000 pairs of videos are listed."""
        report: dict[str, Any] = {
            "cases": self.cases,
            "baselines": [s.to_json() for s in self.scores],
            "learned_baseline": self.learned.to_json(),
            "judged_videos": self.judged_videos,
            "shortage": self.shortage,
            "shortcuts": [s.baseline for s in self.shortcuts],
            "repeated_cases": [list(group) for group in self.repeated],
            "near_duplicates": _duplicates_to_json(self.frames),
            "leak": None,
            "problems": [list(problem) for problem in self.problems],
            "warnings": self.warnings,
        }
        if self.leak:
            report["leak"] = {
                "against": str(self.leak.against),
                "cases": self.leak.cases,
                "videos": list(self.leak.videos),
                "same_ids": list(self.leak.same_ids),
                "frames": _duplicates_to_json(self.leak.frames),
            }
        return report


def _describe_rule(score: BaselineScore) -> str | None:
    """The rule of a learned baseline, as it stands in a warning."""
    if score.baseline == "most_common_answer" and score.rule and len(score.rule) == 1:
        return f"letter {score.rule}"
    return score.rule if score.rule == "none of the above" else f"the {score.rule}"


def _duplicates_to_json(frames: DuplicateFrames | None) -> dict[str, Any] | None:
    if frames is None:
        return None
    return {
        "frames": frames.frames,
        "blank": frames.blank,
        "videos": frames.videos,
        "shared_frames": frames.shared,
        "pairs": [pair.to_json() for pair in frames.pairs[:_MAX_PAIRS]],
        "pairs_not_listed": max(0, len(frames.pairs) - _MAX_PAIRS),
    }
