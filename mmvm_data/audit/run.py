"""One pass over a benchmark's records and images: what players answer, and what its frames look like."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mmvm_data.audit import baseline_scores as scores
from mmvm_data.audit import duplicates
from mmvm_data.audit import perceptual_hash as hashes
from mmvm_data.audit.baseline_scores import Played, Score
from mmvm_data.audit.duplicates import Frames, Likeness
from mmvm_data.cases import baselines
from mmvm_data.core import masks
from mmvm_data.core.case_facts import source_name, video_id
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Region
from mmvm_data.formats.bench_read import CASES, Problem, parse_record
from mmvm_data.formats.build_files import read_cases
from mmvm_data.io import process_pool

Progress = Callable[[int], None]
"""Called with the number of cases that were looked at so far."""

_BATCH = 16  # cases that travel to a worker together
Item = TypeVar("Item")


@dataclass(frozen=True)
class Options:
    """What is looked at.

    Attributes:
        workers: processes.
        pixels: whether images are opened; without, the player of colours and the search for frames are left out.
        margin: how far above chance a player's interval may begin without a warning, 0..1.
        accept: players that may beat chance.
    """

    workers: int = 1
    pixels: bool = True
    margin: float = 0.0
    accept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leak:
    """What a set shares with another.

    Attributes:
        against: folder of the other.
        cases: how many the other has.
        videos: names (source and id) that both have.
        same_ids: ids of videos that both have under different sources: the same video, or two of one name.
        frames: frames that both have, or None without pixels.
    """

    against: Path
    cases: int
    videos: tuple[str, ...]
    same_ids: tuple[str, ...]
    frames: Likeness | None


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        directory: of the benchmark.
        cases: that were looked at; rejected ones are left out.
        scores: of the players.
        repeated: groups of cases that ask the same of the same images.
        frames: videos that share frames, or None without pixels.
        leak: see ``Leak``; None without another set.
        problems: what could not be read.
        options: what was asked for.
    """

    directory: Path
    cases: int
    scores: tuple[Score, ...]
    repeated: tuple[tuple[str, ...], ...]
    frames: Likeness | None
    leak: Leak | None
    problems: tuple[Problem, ...]
    options: Options

    @property
    def shortcuts(self) -> list[Score]:
        """Scores of the players that beat chance and were not accepted."""
        return [s for s in self.scores if s.beats(self.options.margin) and s.player not in self.options.accept]

    @property
    def warnings(self) -> list[str]:
        """Each finding that someone should look at, in one sentence."""
        found = [
            f"{s.player} scores {s.score:.1%} (at least {s.low:.1%}), chance is {s.chance:.1%}"
            + (f": the answer is often {_in_words(s)}" if s.rule else "")
            for s in self.shortcuts
        ]
        if self.repeated:
            found.append(f"{sum(map(len, self.repeated)) - len(self.repeated)} cases ask what another one asks")
        if self.frames and self.frames.videos:
            found.append(f"{self.frames.videos} videos share frames with another video")
        if self.leak and self.leak.videos:
            found.append(f"{len(self.leak.videos)} videos are in {self.leak.against} too")
        if self.leak and self.leak.frames and self.leak.frames.shared:
            number = self.leak.frames.shared
            found.append(f"{number} frames of {self.leak.frames.videos} videos are in {self.leak.against} too")
        if self.problems:
            found.append(f"{len(self.problems)} cases could not be read as a whole")
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; at most 1,000 pairs of videos are listed."""
        plain: dict[str, Any] = {
            "cases": self.cases,
            "players": [s.to_json() for s in self.scores],
            "shortcuts": [s.player for s in self.shortcuts],
            "repeated_cases": [list(group) for group in self.repeated],
            "near_duplicates": _plain(self.frames),
            "leak": None,
            "problems": [list(problem) for problem in self.problems],
            "warnings": self.warnings,
        }
        if self.leak:
            plain["leak"] = {
                "against": str(self.leak.against),
                "cases": self.leak.cases,
                "videos": list(self.leak.videos),
                "same_ids": list(self.leak.same_ids),
                "frames": _plain(self.leak.frames),
            }
        return plain


@dataclass(frozen=True)
class Looked:
    """One case: what the players answered, its images' hashes (DTYPE bytes, None when blank), what it asks."""

    name: str
    source: str
    video: str | None
    played: Played | None
    hashes: tuple[tuple[int, bytes | None], ...]
    asks: bytes
    problems: tuple[Problem, ...] = ()


@dataclass
class _Set:
    """What is kept of one set while it is read."""

    cases: int = 0
    played: list[Played] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    videos: set[tuple[str, str]] = field(default_factory=set)
    asked: dict[bytes, list[str]] = field(default_factory=dict)


def audit(
    directory: Path, against: Path | None = None, options: Options | None = None, progress: Progress | None = None
) -> Audit:
    """Look at a benchmark, and at what it shares with another.

    Args:
        directory: the benchmark.
        against: another one, such as the set that a model was trained on.
        options: what to look at.
        progress: called now and then.

    Raises:
        InputError: a benchmark cannot be read. What is wrong with one case is a problem of the result.
    """
    options = options or Options()
    frames, both = Frames(), Frames()
    mine = _Set()
    for looked in _look_all(directory, options, mine.problems, players_too=True, progress=progress):
        _take(mine, looked)
        _frames_of(looked, frames, 0)
        if against:
            _frames_of(looked, both, 0)
    leak = None
    if against:
        other = _Set()
        done = mine.cases
        for looked in _look_all(against, options, other.problems, players_too=False, progress=None):
            _take(other, looked)
            _frames_of(looked, both, 1)
            if progress:
                progress(done + other.cases)
        mine.problems += other.problems
        named = mine.videos & other.videos
        ids = {video for _, video in mine.videos - named} & {video for _, video in other.videos - named}
        leak = Leak(
            against=against,
            cases=other.cases,
            videos=tuple(sorted(f"{source} {video}" for source, video in named)),
            same_ids=tuple(sorted(ids)),
            frames=duplicates.between(both) if options.pixels else None,
        )
    return Audit(
        directory=directory,
        cases=mine.cases,
        scores=tuple(scores.score(mine.played)),
        repeated=tuple(tuple(names) for names in mine.asked.values() if len(names) > 1),
        frames=duplicates.within(frames) if options.pixels else None,
        leak=leak,
        problems=tuple(mine.problems),
        options=options,
    )


def _take(kept: _Set, looked: Looked) -> None:
    kept.cases += 1
    kept.problems += looked.problems
    if looked.played:
        kept.played.append(looked.played)
    if looked.video is not None:
        kept.videos.add((looked.source, looked.video))
    kept.asked.setdefault(looked.asks, []).append(looked.name)


def _frames_of(looked: Looked, frames: Frames, side: int) -> None:
    frames.add_case(looked.name, _video_name(looked.source, looked.video, looked.name), side)
    for image, hashed in looked.hashes:
        frames.add(image, hashed)


def _look_all(
    directory: Path, options: Options, problems: list[Problem], players_too: bool, progress: Progress | None
) -> Iterator[Looked]:
    """Every case that is not rejected; ``problems`` gets those of a set of another origin that cannot be read."""
    batches = _batched(_lines(directory, problems))
    done = 0
    for _, found in process_pool.map_ordered(
        batches, _open, (directory, options.pixels, players_too), _look_batch, options.workers
    ):
        if isinstance(found, process_pool.WorkerDied):
            raise InputError(directory, f"a batch of cases cannot be looked at: {found}")
        yield from found
        done += len(found)
        if progress:
            progress(done)


def _lines(directory: Path, problems: list[Problem]) -> Iterator[tuple[int, bytes]]:
    """The records with the numbers of their lines; a set of another origin is read here."""
    path = directory / CASES
    if path.is_file():
        try:
            with open(path, "rb") as lines:
                yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        except OSError as error:
            raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
        return
    for number, case in enumerate(read_cases(directory, problems), 1):
        yield number, case.model_dump_json().encode()


def _batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while batch := list(islice(left, _BATCH)):
        yield batch


def _open(directory: Path, pixels: bool, players_too: bool) -> _Looker:
    return _Looker(directory, pixels, players_too)


def _look_batch(looker: _Looker, batch: list[tuple[int, bytes]]) -> list[Looked]:
    cases = [parse_record(looker.directory / CASES, line, number).with_root(looker.directory) for number, line in batch]
    return [looker.look(case) for case in cases if case.review.state != "rejected"]


class _Looker:
    """Looks at cases one after the other; a frame that several cases of a video share is opened once."""

    def __init__(self, directory: Path, pixels: bool, players_too: bool) -> None:
        self.directory = directory
        self._pixels = pixels
        self._players = players_too
        self._video: tuple[str, str | None] = ("", None)
        self._hashed: dict[object, bytes | None] = {}

    def look(self, case: Case) -> Looked:
        source, video = source_name(case), video_id(case)
        if video is None or (source, video) != self._video:
            self._video, self._hashed = (source, video), {}
        problems: list[Problem] = []
        try:
            _check(case)
        except ValueError as error:
            broken = (Problem(case.id, str(error)),)
            return Looked(case.id, source, video, None, (), case.id.encode(), broken)
        small: dict[int, np.ndarray] = {}
        found: list[tuple[int, bytes | None]] = []
        asks = hashlib.sha256()
        if self._pixels:
            found = self._hash(case, small, asks, problems)
        elif case.provenance:
            asks.update(repr([(f.path, f.video_frame) for f in case.provenance.frames]).encode())
        else:
            asks.update(case.id.encode())
        shapes = sorted(_shape(candidate.region) for candidate in case.candidates)
        asks.update(repr((source, video, [_shape(region) for region in case.query], shapes)).encode())
        played = None
        if self._players:
            played = scores.play(case, _video_name(source, video, case.id), self._letters(case, small))
        return Looked(case.id, source, video, played, tuple(found), asks.digest(), tuple(problems))

    def _hash(
        self, case: Case, small: dict[int, np.ndarray], asks: Any, problems: list[Problem]
    ) -> list[tuple[int, bytes | None]]:
        """Opens the images into ``small``. A frame whose hash is known from a case before is not listed again."""
        listed = []
        for position in range(len(case.frames)):
            key = _frame_key(case, position)
            known = key is not None and key in self._hashed
            try:
                small[position] = baselines.small_image(case, position)
            except InputError as error:
                problems.append(Problem(case.id, str(error)))
                asks.update(f"{case.id} {position}".encode())
                continue
            if known:
                hashed = self._hashed[key]
            else:
                made = hashes.hashes(small[position])
                hashed = None if made is None else made.tobytes()
                listed.append((position, hashed))
                if key is not None:
                    self._hashed[key] = hashed
            asks.update(hashed or b"blank")
        return listed

    def _letters(self, case: Case, small: dict[int, np.ndarray]) -> dict[str, str]:
        letters = {name: play(case) for name, play in baselines.PLAYERS.items() if name != "nearest_colour"}
        if self._pixels and len(small) == len(case.frames):
            letters["nearest_colour"] = baselines.nearest_colour(case, small)
        return letters


def _check(case: Case) -> None:
    """What players take for granted.

    Raises:
        ValueError: no option stands for the answer, or a mask is broken or not of its image's size.
    """
    _ = case.letter
    shown = [*zip(case.query, case.frames, strict=False), *((c.region, case.frames[-1]) for c in case.candidates)]
    for region, frame in shown:
        if region.mask is None:
            continue
        if region.mask.size != (frame.height, frame.width):
            found = f"{region.mask.size[1]} x {region.mask.size[0]}"
            raise ValueError(f"mask of object {region.id!r} is {found}, its image {frame.width} x {frame.height}")
        try:
            masks.spans(region.mask)
        except ValueError as error:
            raise ValueError(f"mask of object {region.id!r} is broken: {error}") from error


def _shape(region: Region) -> tuple[object, ...]:
    return (region.mask.size, region.mask.counts) if region.mask else (region.box or ())


def _frame_key(case: Case, position: int) -> object:
    if case.provenance is None or position >= len(case.provenance.frames):
        return None
    frame = case.provenance.frames[position]
    return frame.path, frame.video_frame


def _video_name(source: str, video: str | None, case: str) -> str:
    return f"{source} {video}" if video is not None else case


def _in_words(score: Score) -> str:
    if score.player == "most_common_answer" and score.rule and len(score.rule) == 1:
        return f"letter {score.rule}"
    return score.rule if score.rule == "none of the above" else f"the {score.rule}"


def _plain(found: Likeness | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "frames": found.frames,
        "blank": found.blank,
        "videos": found.videos,
        "shared_frames": found.shared,
        "pairs": [pair.to_json() for pair in found.alike[:1000]],
        "pairs_not_listed": max(0, len(found.alike) - 1000),
    }
