"""Runs a task folder in a checkout of lmms-eval: ``CHECKOUT FOLDER REPLIES OUT``.

REPLIES is JSON, id of a question -> reply, which a model without weights gives. OUT becomes JSON: the results of the
task with their standard errors, and of each question the prompt and the pixels that the model got.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def main(checkout: Path, folder: Path, replies: Path, out: Path) -> None:
    """Evaluate."""
    sys.path.insert(0, str(checkout))
    from lmms_eval.api.model import lmms
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    known = json.loads(replies.read_text())
    seen: dict[str, Any] = {}

    class Scripted(lmms):
        def generate_until(self, requests: list[Any]) -> list[str]:
            answers = []
            for request in requests:
                text, _, visual, number, task, split = request.args
                doc = self.task_dict[task][split][number]
                images = [
                    [image.size, hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()] for image in visual(doc)
                ]
                seen[doc["id"]] = {"text": text, "images": images}
                answers.append(known[doc["id"]])
            return answers

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            raise NotImplementedError

        def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
            raise NotImplementedError

    manager = TaskManager(include_path=str(folder))
    name = next(folder.glob("*.yaml")).stem
    results = simple_evaluate(model=Scripted(), tasks=[name], task_manager=manager, batch_size=1, log_samples=False)
    values = {key: value for key, value in results["results"][name].items() if isinstance(value, int | float)}
    out.write_text(json.dumps({"results": values, "questions": seen}))


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
