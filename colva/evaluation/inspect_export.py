"""Export of a benchmark as a task for Inspect (GitHub UKGovernmentBEIS/inspect_ai): a file for ``inspect eval``.

The format is that of https://inspect.aisi.org.uk/tasks.html: a Python file with one function marked ``@task``, whose
samples are chat messages with images.
"""

from __future__ import annotations

from pathlib import Path

from colva.evaluation.benchmark import LoadReport
from colva.evaluation.question import AskOptions
from colva.evaluation.task_folder import EXTRACT, check_task_name, read_source, write_questions, write_sources
from mmvm_data.core.options import OptionError

_NAME = '"mmvm"  # replaced by the name of the task'


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
    check_task_name(name)
    if f"{name}.py" == EXTRACT:
        raise OptionError("name", f"must not be {name!r}, the name of another file of the task")
    report, _ = write_questions(bench, folder, ask_options)
    write_sources(folder, {f"{name}.py": read_source("inspect_task.txt").replace(_NAME, f'"{name}"')})
    return report
