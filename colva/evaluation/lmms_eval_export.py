"""Export of a benchmark as a task for lmms-eval: a folder for its ``--include_path``.

The format is that of EvolvingLMMs-Lab/lmms-eval, docs/task_guide.md: a yaml with ``!function utils.NAME``, and
questions that ``datasets.load_dataset("json", data_files=…)`` reads.
"""

from __future__ import annotations

import json
from pathlib import Path

from colva.evaluation.benchmark import LoadReport
from colva.evaluation.question import AskOptions
from colva.evaluation.scoring.outcomes import type_name
from colva.evaluation.task_folder import QUESTIONS, check_task_name, read_source, write_questions, write_sources
from mmvm_data.core.types import MATCH_TYPES

UTILS = "utils.py"

_YAML = """\
# Written by `colva export-lmms-eval` from {bench}.
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
    aggregation: mean
    higher_is_better: true"""


def export_lmms_eval(bench: Path, folder: Path, name: str, ask_options: AskOptions) -> LoadReport:
    """Write the task: ``<name>.yaml``, ``utils.py``, ``extract.py``, ``questions.jsonl``, and images that lie in no
    file of their own. The yaml holds the absolute path of the questions, since lmms-eval resolves a relative one
    against its working directory.

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
    report, types = write_questions(bench, folder, ask_options)
    metrics = ["overall", *(f"type_{type_name(number)}" for number in MATCH_TYPES if number in types)]
    text = _YAML.format(
        bench=bench.name,
        name=name,
        data=json.dumps(str((folder / QUESTIONS).resolve())),
        metrics="\n".join(_METRIC.format(name=metric) for metric in metrics),
    )
    write_sources(folder, {f"{name}.yaml": text, UTILS: read_source("lmms_eval_functions.py")})
    return report
