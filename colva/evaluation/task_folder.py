"""Files that exported tasks of other evaluation kits share: the questions, and the rule that reads answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from colva.evaluation.benchmark import LoadReport, load_questions
from colva.evaluation.question import AskOptions, Question
from colva.evaluation.scoring.outcomes import type_name
from mmvm_data.core.options import OptionError
from mmvm_data.io.files import atomic_write, relative_link

QUESTIONS, EXTRACT = "questions.jsonl", "extract.py"
_NAME = '"mmvm"  # replaced by the name of the task'


def check_task_name(name: str) -> None:
    """Check the name of a task.

    Raises:
        UsageError: it is not of letters, digits, "_" and "-".
    """
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise OptionError("name", f"must be letters, digits, _ and -, got {name!r}")


def write_questions(bench: Path, folder: Path, ask_options: AskOptions) -> tuple[LoadReport, set[int]]:
    """Write ``questions.jsonl``, and images that lie in no file of their own; paths are relative to the folder.

    Args:
        bench: of any form, see ``benchmark.load_questions``.
        folder: created when it is missing.
        ask_options: how the cases are asked about.

    Returns:
        counts and problems of reading the benchmark, and the match types of its cases.

    Raises:
        InputError: the benchmark cannot be read.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report, types = LoadReport(), set[int]()
    with atomic_write(folder / QUESTIONS) as lines:
        for question in load_questions(bench, ask_options, folder, report):
            types.update(question.types)
            lines.write(json.dumps(_line(question, folder), ensure_ascii=False) + "\n")
    return report, types


def write_sources(folder: Path, contents: Mapping[str, str]) -> None:
    """Write the task's other files by name, and the rule that reads answers beside them.

    Raises:
        OSError: the folder cannot be written.
    """
    for file, content in {**contents, EXTRACT: read_source("scoring/vlmevalkit_rule.py")}.items():
        with atomic_write(folder / file) as handle:
            handle.write(content)


def read_source(name: str) -> str:
    """Return a file of this package."""
    return resources.files("colva.evaluation").joinpath(name).read_text(encoding="utf-8")


def read_task_source(template: str, name: str) -> str:
    """Return a task's file of Python, for a file ``<name>.py``, with the name of the task in it.

    Raises:
        UsageError: the name is not valid, or that of the file beside it.
    """
    check_task_name(name)
    if f"{name}.py" == EXTRACT:
        raise OptionError("name", f"must not be {name!r}, the name of another file of the task")
    return read_source(template).replace(_NAME, f'"{name}"')


def _line(question: Question, folder: Path) -> dict[str, object]:
    digest = hashlib.sha256()
    for image in question.images:
        digest.update(image.read_bytes())
    return {
        "id": question.id,
        "images": [relative_link(image, folder) for image in question.images],
        "question": question.text,
        "protocol": question.protocol,
        "labels": list(question.choices),
        "texts": list(question.choices.values()),
        "answer": question.answer,
        "types": list(question.types),
        "type_names": [type_name(number) for number in question.types],
        "source": question.source,
        "digest": digest.hexdigest()[:16],  # kits cache replies by the questions, and images are corrected in place
    }
