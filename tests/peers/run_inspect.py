"""Runs a task file in Inspect: ``FILE REPLIES OUT``; the file has the name of the task.

REPLIES is JSON, digest of a question's text and image files -> reply, which a model without weights gives. OUT becomes
JSON: the metrics, and the score of each sample.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from inspect_ai import eval as inspect_eval
from inspect_ai.model import ModelAPI, ModelOutput, get_model, modelapi


def digest(message: Any) -> str:
    """Return SHA-256 over the text and the bytes of the images of a message, in order."""
    total = hashlib.sha256()
    for part in message.content:
        if part.type == "text":
            total.update(part.text.encode())
        elif part.image.startswith("data:"):
            total.update(base64.b64decode(part.image.partition(",")[2]))
        else:
            total.update(Path(part.image).read_bytes())
    return total.hexdigest()


def main(task: Path, replies: Path, out: Path) -> None:
    """Evaluate."""
    known = json.loads(replies.read_text())

    @modelapi(name="scripted")
    class Scripted(ModelAPI):
        async def generate(self, input: list[Any], *_: Any, **__: Any) -> ModelOutput:
            return ModelOutput.from_content(self.model_name, known[digest(input[-1])])

    model, name = get_model("scripted/planted"), f"{task}@{task.stem}"
    [log] = inspect_eval(name, model=model, display="none", log_dir=str(out.parent))
    assert log.status == "success", log.error and log.error.message
    metrics = {name: metric.value for score in log.results.scores for name, metric in score.metrics.items()}
    hits = {sample.id: sample.scores["match"].value for sample in log.samples}
    out.write_text(json.dumps({"metrics": metrics, "hits": hits, "task": log.eval.task}))


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
