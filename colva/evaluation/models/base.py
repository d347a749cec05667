"""What plays: the interface between the questions of a benchmark and anything that answers them.

A player is any object of the form of ``Player``. To add one, write a module with ``open_player(name, options)`` and put
it into ``models.PLAYERS``; nothing else has to know. What a player gets is a ``Question``: drawn image files, the text,
the choices, and (``question.record``) the case with masks and clean images for players that look at regions.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from colva.evaluation.question import Question


@dataclass(frozen=True)
class Reply:
    """What a player said to one question.

    Attributes:
        text: as it came; for likelihoods the label of the best option.
        scores: label -> log-likelihood of the option, natural logarithm; None for generated text.
        why: reply to the second turn; None when it was not asked.
        cut: the text ended at the limit of tokens.
        tokens_in, tokens_out: 0 when the player does not count.
        fault: why there is no reply at all (an endpoint that failed, a prompt longer than the context). Such a question
            is not recorded as answered, counts as wrong, and is asked again by the next run.
        passing: the fault is one of the endpoint, not of the question; many in a row stop the run.
    """

    text: str
    scores: Mapping[str, float] | None = None
    why: str | None = None
    cut: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    fault: str | None = None
    passing: bool = False


class Player(Protocol):
    """Anything that answers.

    Attributes:
        name: as tables show it.
        fingerprint: plain JSON values: everything about the player that can change a reply (weights, decoding,
            prompt, seed). Two players with one fingerprint are taken for the same.
        batch: questions that it likes to get at once.
        workers: calls of ``answer`` that may be under way at once, each in a thread of its own.
    """

    name: str
    fingerprint: Mapping[str, Any]
    batch: int
    workers: int

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply for each question, in their order. A reply must not depend on which questions come together.

        Raises:
            InputError: an image cannot be read.
            UsageError: the player cannot go on at all (an endpoint refuses its key).
        """
        ...


@dataclass(frozen=True)
class PlayerOptions:
    """What can be set for players; each takes what concerns it.

    Attributes:
        seed: for all that is drawn at random.
        by: answers come as generated text, or as the option of the highest likelihood.
        batch: questions at once, for local models.
        max_tokens: of a reply.
        device, dtype: for local models: ``cpu``, ``cuda``…; ``auto``, ``float32``, ``bfloat16``, ``float16``.
        base_url: of an endpoint; None: OPENAI_API_BASE.
        concurrency: requests under way at a time.
        rpm: requests a minute, at most; 0: any number.
        timeout, retries, backoff: see ``annotation.chat.Endpoint``.
        body: more of each request, such as ``{"temperature": 0}``.
        max_side: longer side of the images that are sent, in pixels; 0: files as they are.
        env: file with the keys.
        stop: set when the run ends early: waiting players give up.
    """

    seed: int = 0
    by: Literal["generation", "likelihood"] = "generation"
    batch: int = 8
    max_tokens: int = 512
    device: str = "auto"
    dtype: str = "auto"
    base_url: str | None = None
    concurrency: int = 48
    rpm: int = 0
    timeout: float = 120.0
    retries: int = 5
    backoff: float = 1.0
    body: Mapping[str, Any] = field(default_factory=dict)
    max_side: int = 0
    env: Path = Path(".env")
    stop: threading.Event = field(default_factory=threading.Event, compare=False)
