"""Export of a benchmark as a task for lighteval (GitHub huggingface/lighteval): a file for its ``--custom-tasks``.

The format is that of docs/source/adding-a-custom-task.mdx there: a Python file with a ``TASKS_TABLE``, and a dataset
that ``datasets.load_dataset`` reads, here the task's own folder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from colva.evaluation.benchmark import LoadReport
from colva.evaluation.question import AskOptions
from colva.evaluation.task_folder import QUESTIONS, read_task_source, write_questions, write_sources

_CARD = """\
---
configs:
- config_name: {digest}
  data_files:
  - split: test
    path: questions.jsonl
---
A task for lighteval, written by `colva export-lighteval`:

    lighteval accelerate "model_name=MODEL" "{name}|0" --vision-model --custom-tasks {name}.py
"""


def export_lighteval(bench: Path, folder: Path, name: str, ask_options: AskOptions) -> LoadReport:
    """Write the task: ``<name>.py``, ``extract.py``, ``questions.jsonl``, a ``README.md`` by which ``datasets`` reads
    the questions, and images that lie in no file of their own.

    Args:
        bench: of any form, see ``benchmark.load_questions``.
        folder: created when it is missing.
        name: of the task: letters, digits, "_" and "-".
        ask_options: how the cases are asked about.

    Returns:
        counts and problems of reading the benchmark.

    Raises:
        UsageError: the name is not valid.
        InputError: the benchmark cannot be read.
        OSError: the folder cannot be written.
    """
    source = read_task_source("lighteval_task.txt", name)
    report, _ = write_questions(bench, folder, ask_options)
    digest = f"q{hashlib.sha256((folder / QUESTIONS).read_bytes()).hexdigest()[:16]}"  # as the task computes it
    write_sources(folder, {f"{name}.py": source, "README.md": _CARD.format(name=name, digest=digest)})
    return report
