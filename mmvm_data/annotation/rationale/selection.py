"""Options and progress of a run, and the cases that it works on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mmvm_data.cases.consistency import RATIONALE, describe_answer, needs_second_look, with_second_look
from mmvm_data.cases.cues import propose_cues
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import options
from mmvm_data.core.types import Case, Cue, RationaleAuthor
from mmvm_data.formats import bench
from mmvm_data.formats.bench_read import require_benchmark
from mmvm_data.io import media
from mmvm_data.io.openai_client import Endpoint


@options
class RationaleOptions:
    """How rationales are written.

    Attributes:
        endpoint: the model; None fills a template from cues.
        concurrency: maximum number of concurrent requests.
        limit: maximum number of cases, including those whose reply is cached.
        replace: also replace rationales of a model.
        retry_failed: send a request again when the check rejects its cached reply.
        cache: folder of the replies; None: ``.rationales`` in the benchmark.
        seed: of the template's phrasings.

    Raises:
        OptionError: an argument is not valid.
    """

    endpoint: Endpoint | None = None
    concurrency: Annotated[int, Field(ge=1)] = 8
    limit: Annotated[int, Field(ge=1)] | None = None
    replace: bool = False
    retry_failed: bool = False
    cache: Path | None = None
    seed: int = 0


@dataclass
class RationaleProgress:
    """Counts and results of a run, updated while it works.

    Attributes:
        cases: number of cases of the benchmark.
        human, present, rejected: number of cases that are skipped: a person wrote or accepted the rationale, a model
            wrote it, or the case was rejected.
        total: number of cases to work on.
        written: number of rationales that passed the check.
        cached: number of replies from the cache.
        requests: number of requests sent, including further attempts.
        tokens_in, tokens_out: of the replies of this run, as counted by the endpoint.
        failures: (case id, reason).
        changed: ids of the cases that changed.
    """

    cases: int = 0
    human: int = 0
    present: int = 0
    rejected: int = 0
    total: int = 0
    written: int = 0
    cached: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Number of cases that are finished, with or without a rationale."""
        return self.written + len(self.failures)


ProgressCallback = Callable[[RationaleProgress], None]


def count_cases(directory: Path, options: RationaleOptions) -> RationaleProgress:
    """Count the cases that ``write_rationales`` would work on and skip, without changing anything."""
    progress = RationaleProgress()
    for case in read_cases(directory):
        progress.cases += 1
        reason = skip_reason(case, options)
        if reason is None:
            progress.total += 1
        else:
            setattr(progress, reason, getattr(progress, reason) + 1)
    if options.limit is not None:
        progress.total = min(progress.total, options.limit)
    return progress


def read_cases(directory: Path) -> Iterator[Case]:
    """Return the cases of a benchmark.

    Raises:
        InputError: it is no benchmark.
        UsageError: it has no cases.jsonl.
    """
    require_benchmark(directory)
    if not (directory / bench.CASES).is_file():
        raise UsageError(f"{directory}: has no {bench.CASES}; `mmvm-data import DIR` writes one")
    return bench.read(directory)


def skip_reason(case: Case, options: RationaleOptions) -> Literal["rejected", "human", "present"] | None:
    """Return the field of ``RationaleProgress`` that counts a skipped case; None for a case to work on."""
    author = case.rationale_by
    if case.review.state == "rejected":
        return "rejected"
    if author in ("model", "template") and needs_second_look(case):
        return None  # a program's text for another answer
    if author == "human" or (author and case.review.state not in ("proposed", "unsure")):
        return "human"
    if author == "model" and (options.endpoint is None or not options.replace):
        return "present"
    return None


def select_cases(directory: Path, options: RationaleOptions) -> Iterator[Case]:
    """Yield the cases to work on, at most ``options.limit``."""
    selected = 0
    for case in read_cases(directory):
        if options.limit is not None and selected >= options.limit:
            return
        if skip_reason(case, options) is None:
            selected += 1
            yield case


def load_or_propose_cues(case: Case, directory: Path) -> tuple[Cue, ...]:
    """Return the cues of a case; they are proposed from the images when it has none.

    Raises:
        InputError: an image cannot be read, or a mask does not fit it.
    """
    if case.cues or case.answer is None:
        return case.cues
    try:
        return propose_cues(case, [media.read_frame_bgr(directory, frame) for frame in case.frames])
    except ValueError as error:
        raise InputError(case.id, str(error)) from error


@dataclass(frozen=True)
class NewRationale:
    """A rationale that a program has written for a case as it was when it was read.

    Attributes:
        subject: what it is about, see ``digest_subject``.
        answer: of the case then.
        cues: that it used.
        text: of the rationale.
        author: of the text.
    """

    subject: bytes
    answer: int | None
    cues: tuple[Cue, ...]
    text: str
    author: RationaleAuthor

    def apply(self, current: Case) -> Case:
        """Return the record with this rationale and its author, and with the cues where it has none.

        Args:
            current: the record as it is now; ``outdated`` accepts it.
        """
        update = {"cues": current.cues or self.cues, "rationale": self.text, "written": self.author}
        return with_second_look(current.model_copy(update=update), {RATIONALE: None})

    def outdated(self, current: Case, options: RationaleOptions) -> str | None:
        """Return why the rationale no longer fits the record as it is now; None when it does."""
        if current.review.state == "rejected":
            return "the case was rejected meanwhile"
        if current.answer != self.answer:
            return (
                f"the answer was changed meanwhile from {describe_answer(self.answer)} "
                f"to {describe_answer(current.answer)}"
            )
        if digest_subject(current) != self.subject:
            return "the objects of the case were changed meanwhile"
        if skip_reason(current, options) == "human":
            return "a person wrote or accepted a rationale meanwhile"
        if skip_reason(current, options) is not None:
            return "another command wrote a rationale meanwhile"
        return None


def digest_subject(case: Case) -> bytes:
    """Return a digest of what cues and rationales are about: images, objects, answer and options.

    32 bytes a case are kept until the benchmark is written, instead of all cases.
    """
    subject = case.model_dump_json(include={"frames", "query", "candidates", "answer", "options"})
    return hashlib.sha256(subject.encode()).digest()


def new_rationale(
    case: Case,
    cues: tuple[Cue, ...],
    text: str,
    by: Literal["model", "template"],
    version: str,
    model: str | None = None,
) -> NewRationale:
    """Return a rationale of a program for a case."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    author = RationaleAuthor(by=by, model=model, version=version, digest=digest)
    return NewRationale(digest_subject(case), case.answer, cues, text, author)
