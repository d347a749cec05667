"""The interface between the questions of a benchmark and anything that answers them.

A model is any object with the attributes and the method of ``ModelAdapter``. To add a kind of model, write a module
with ``open_model(name, options)`` and list it in ``registry.MODELS``. A model gets a ``Question``: drawn image files,
the text, the choices, and (``question.source_case``) the case with masks and clean images, for models that use regions.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, field_validator

from colva.evaluation.question import Question
from mmvm_data.core.options import OptionError, options

AnswerBy = Literal["generation", "likelihood"]
DEFAULT_MAX_TOKENS = 512
_RESERVED = {"model", "messages", "stream"}


@dataclass(frozen=True)
class Reply:
    """A model's reply to one question.

    Attributes:
        text: as generated; for likelihoods the label of the best option.
        scores: label -> log-likelihood of the option, natural logarithm; None for generated text.
        why: reply to the second turn; None when it was not asked.
        truncated: the text, or that of the second turn, ended at the limit of tokens.
        withheld: the model, or a filter in front of it, refused to answer; the text may say why.
        tokens_in, tokens_out: 0 when the model does not count them.
        error: why there is no reply at all (an endpoint that failed, a prompt longer than the context). Such a
            question is not recorded as answered, counts as wrong, and is asked again by the next run.
        retryable: the error is of the endpoint, not of the question; many in a row stop the run.
        rejected: the endpoint works, but rejects the request; many in a row stop the run, since the reason is probably
            the same for all questions.
    """

    text: str
    scores: Mapping[str, float] | None = None
    why: str | None = None
    truncated: bool = False
    withheld: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    error: str | None = None
    retryable: bool = False
    rejected: bool = False


class ModelAdapter(Protocol):
    """Anything that answers questions.

    Attributes:
        name: as tables show it.
        fingerprint: plain JSON values: everything about the model that can change a reply (weights, decoding,
            prompt, seed). Two models with one fingerprint count as the same. A limit of tokens is under the name
            ``max_tokens``, 0 for none: a run can be resumed with a larger one.
        batch: questions that it prefers to get at once.
        workers: calls of ``answer`` that may run at once, each in a thread of its own.
    """

    name: str
    fingerprint: Mapping[str, Any]
    batch: int
    workers: int

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Return one reply for each question, in their order. A reply must not depend on which questions come together.

        Raises:
            InputError: an image cannot be read.
            UsageError: the model cannot answer at all (an endpoint refuses its key).
        """
        ...


def require_limit(options: ModelOptions, default: int = DEFAULT_MAX_TOKENS) -> int:
    """Return the limit of tokens of a local model; `default` where the options have none.

    Raises:
        OptionError: there is none: a model that repeats itself would not end.
    """
    if options.max_tokens is None:
        return default
    if not options.max_tokens:
        raise OptionError("max_tokens", "must be at least 1 for local models, got 0")
    return options.max_tokens


@options
class ModelOptions:
    """Options of all kinds of models; each kind uses those that concern it.

    Attributes:
        seed: of everything that is drawn at random.
        answer_by: answers are generated text, or the option of the highest likelihood.
        batch: questions at once, for local models.
        max_tokens: of a reply; 0: none is sent to an endpoint, and local models do not take it; None: 512, or the
            published evaluation's for a model with its prompts.
        device: for local models: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
        dtype: of the weights of local models; ``auto``: as they are saved.
        base_url: of an endpoint; None: OPENAI_API_BASE.
        concurrency: requests at a time.
        rpm: requests a minute, at most; 0: no limit.
        timeout: of a request, in seconds.
        retries: attempts after the first.
        backoff: seconds before the second attempt; doubles with each further one.
        body: more of each request, such as ``{"temperature": 0}``.
        max_side: longer side of the images that are sent, in pixels; 0: files as they are.
        env: file with the keys.
        stop: set when the run ends early, so that waiting models stop.
    """

    seed: int = 0
    answer_by: AnswerBy = "generation"
    batch: Annotated[int, Field(ge=1)] = 8
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    base_url: str | None = None
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 48
    rpm: Annotated[int, Field(ge=0)] = 0
    timeout: Annotated[float, Field(gt=0)] = 120.0
    retries: Annotated[int, Field(ge=0)] = 5
    backoff: Annotated[float, Field(ge=0)] = 1.0
    body: Mapping[str, Any] = field(default_factory=dict)
    max_side: Annotated[int, Field(ge=0)] = 0
    env: Path = Path(".env")
    stop: threading.Event = field(default_factory=threading.Event, compare=False)

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
            raise ValueError(f"must be auto, cpu, mps, cuda or cuda:N, got {device!r}")
        return device

    @field_validator("body")
    @classmethod
    def _check_body(cls, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if reserved := sorted(_RESERVED & body.keys()):
            raise ValueError(f"must not set {', '.join(reserved)}: the request has its own")
        return body
