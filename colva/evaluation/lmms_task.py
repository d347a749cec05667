"""A benchmark as a task for lmms-eval: a folder that ``--include_path`` takes.

The form is that of EvolvingLMMs-Lab/lmms-eval, docs/task_guide.md: a yaml with ``!function utils.NAME``, and questions
that ``datasets.load_dataset("json", data_files=…)`` reads.
"""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path

from colva.evaluation.benchmark import Reading, questions
from colva.evaluation.question import AskOptions, Question
from colva.evaluation.scoring.metrics import type_name
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.io.files import atomic_write

QUESTIONS, UTILS, EXTRACT = "questions.jsonl", "utils.py", "extract.py"

_YAML = """\
# Made by `colva task` from {bench}.
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_target: answer
process_results: !function utils.process_results
generation_kwargs:
  max_new_tokens: 512
  temperature: 0
  do_sample: false
metric_list:
{metrics}
metadata:
  - version: 1.0
"""
_METRIC = """\
  - metric: {name}
    aggregation: !function utils.aggregate
    higher_is_better: true"""


def write_task(bench: Path, folder: Path, name: str, asked: AskOptions) -> Reading:
    """Write the task: ``<name>.yaml``, ``utils.py``, ``extract.py``, ``questions.jsonl``, and the images that lie in no
    file of their own. The yaml holds the absolute path of the questions, since lmms-eval resolves it against the folder
    that it is started in.

    Args:
        bench: of any form, see ``benchmark.questions``.
        folder: made when it is missing.
        name: of the task: letters, digits, "_" and "-".
        asked: how the cases are asked about.

    Returns:
        what was read, and left out.

    Raises:
        UsageError: the name is none.
        InputError: the benchmark cannot be read.
        OSError: the folder cannot be written.
    """
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise UsageError(f"--name {name!r}: expected letters, digits, _ and -")
    folder.mkdir(parents=True, exist_ok=True)
    reading, types = Reading(), set[int]()
    with atomic_write(folder / QUESTIONS) as lines:
        for question in questions(bench, asked, folder, reading):
            types.update(question.types)
            lines.write(json.dumps(_line(question, folder), ensure_ascii=False) + "\n")
    metrics = ["overall", *(f"type_{type_name(number)}" for number in MATCH_TYPES if number in types)]
    text = _YAML.format(
        bench=bench.name,
        name=name,
        data=json.dumps(str((folder / QUESTIONS).resolve())),
        metrics="\n".join(_METRIC.format(name=metric) for metric in metrics),
    )
    sources = resources.files("colva.evaluation")
    written = {
        f"{name}.yaml": text,
        UTILS: sources.joinpath("lmms_functions.py").read_text(encoding="utf-8"),
        EXTRACT: sources.joinpath("extract.py").read_text(encoding="utf-8"),
    }
    for file, content in written.items():
        with atomic_write(folder / file) as handle:
            handle.write(content)
    return reading


def _line(question: Question, folder: Path) -> dict[str, object]:
    images = [os.path.relpath(image.resolve(), folder.resolve()).replace(os.sep, "/") for image in question.images]
    return {
        "id": question.id,
        "images": images,
        "question": question.text,
        "protocol": question.protocol,
        "labels": list(question.choices),
        "texts": list(question.choices.values()),
        "answer": question.answer,
        "types": list(question.types),
        "type_names": [type_name(number) for number in question.types],
        "source": question.source,
    }
