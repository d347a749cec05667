"""Runs a task file in lighteval: ``FILE REPLIES OUT``; the file has the name of the task.

REPLIES is JSON, digest of a question's text and pixels -> reply, which a model without weights gives. OUT becomes JSON:
the metrics with their standard errors, those of each question by id, and how many questions a second run asked again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import types
from pathlib import Path
from typing import Any

from lighteval.logging.evaluation_tracker import EvaluationTracker
from lighteval.models.abstract_model import LightevalModel, ModelConfig
from lighteval.models.model_output import ModelResponse
from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters
from lighteval.tasks.requests import SamplingMethod
from lighteval.utils.cache_management import SampleCache, cached


def digest(doc: Any) -> str:
    """Return SHA-256 over the text and the pixels of a document."""
    total = hashlib.sha256(doc.query.encode())
    for image in doc.images:
        total.update(f"{image.size}".encode() + image.convert("RGB").tobytes())
    return total.hexdigest()


class Scripted(LightevalModel):
    """Answers what a table holds for a question; replies are cached as those of lighteval's own models are."""

    tokenizer = None
    add_special_tokens = False
    max_length = 8192

    def __init__(self, config: ModelConfig, replies: dict[str, str]) -> None:
        self.config, self.replies, self.asked = config, replies, 0
        self._cache = SampleCache(config)

    @cached(SamplingMethod.GENERATIVE)
    def greedy_until(self, docs: list[Any]) -> list[ModelResponse]:
        self.asked += len(docs)
        return [ModelResponse(text=[self.replies[digest(doc)]]) for doc in docs]

    def loglikelihood(self, docs: list[Any]) -> list[ModelResponse]:
        raise NotImplementedError

    def loglikelihood_rolling(self, docs: list[Any]) -> list[ModelResponse]:
        raise NotImplementedError


def main(task: Path, replies: Path, out: Path) -> None:
    """Evaluate."""
    known = json.loads(replies.read_text())
    # one of lighteval's own tasks, which downloads when it is imported
    unused = "lighteval.tasks.tasks.tiny_benchmarks"
    sys.modules[unused] = types.ModuleType(unused)
    for second in (False, True):
        model = Scripted(ModelConfig(model_name="scripted", cache_dir=str(out.parent / "cache")), known)
        pipeline = Pipeline(
            tasks=f"{task.stem}|0",
            pipeline_parameters=PipelineParameters(
                launcher_type=ParallelismManager.NONE, custom_tasks_directory=str(task)
            ),
            evaluation_tracker=EvaluationTracker(output_dir=str(out.parent / "results"), save_details=True),
            model=model,
        )
        pipeline.evaluate()
        pipeline.save_and_push_results()
        if second:
            break
        first = pipeline.get_results()["results"]
        details = pipeline.get_details()[f"{task.stem}|0"]
    content = {
        "results": first[f"{task.stem}:0"],
        "hits": {detail.doc.specific["id"]: detail.metric for detail in details},
        "asked_again": model.asked,
        "same": pipeline.get_results()["results"] == first,
    }
    out.write_text(json.dumps(content))


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
