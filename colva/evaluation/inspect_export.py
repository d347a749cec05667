"""Export of a benchmark as a task for Inspect (GitHub UKGovernmentBEIS/inspect_ai): a file for ``inspect eval``.

The format is that of https://inspect.aisi.org.uk/tasks.html: a Python file with one function marked ``@task``, whose
samples are chat messages with images.
"""

from __future__ import annotations

from pathlib import Path

from colva.evaluation.benchmark import LoadReport
from colva.evaluation.question import AskOptions
from colva.evaluation.task_folder import read_task_source, write_questions, write_sources


def export_inspect(bench: Path, folder: Path, name: str, ask_options: AskOptions) -> LoadReport:
    """Write the task: ``<name>.py``, ``extract.py``, ``questions.jsonl``, and images that lie in no file of their own.

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
    source = read_task_source("inspect_task.txt", name)
    report, _ = write_questions(bench, folder, ask_options)
    write_sources(folder, {f"{name}.py": source})
    return report
