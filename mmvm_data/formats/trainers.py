"""Cases as training sets of other trainers: their conversations with the drawn images, which stay where they are.

``llamafactory``
    ``mmvm.json`` and an entry in ``dataset_info.json``, which names its columns and tags (GitHub
    hiyouga/LLaMA-Factory, data/README.md, "Sharegpt Format"; src/llamafactory/data/converter.py); entries of other sets
    stay. Paths are relative to the benchmark, which ``media_dir`` names.
``ms-swift``
    ``mmvm.jsonl`` with ``messages`` and ``images``, absolute paths (GitHub modelscope/ms-swift, docs,
    Custom-dataset.md).
``xtuner``
    ``mmvm.jsonl`` for XTuner 1: a message's content is its images with their sizes, then a text with one
    ``<IMG_CONTEXT>`` an image (GitHub InternLM/xtuner, docs, mllm_sft.md). XTuner 0 has no sets with several images.

Each trainer counts its marks of files in questions and answers, so texts that hold one are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats.conversations import to_conversations
from mmvm_data.formats.tsv import require_drawn_paths
from mmvm_data.io.files import atomic_write, safe_join
from mmvm_data.io.json_files import read_json_object

Trainer = Literal["llamafactory", "ms-swift", "xtuner"]
NAME = "mmvm"
"""Name of the set."""
_INFO = "dataset_info.json"
_MARKS: dict[Trainer, tuple[str, ...]] = {
    "llamafactory": ("<image>", "<video>", "<audio>"),
    "ms-swift": ("<image>", "<video>", "<audio>", "<bbox>", "<ref-object>", "<cot-process>", "<start-image>"),
    "xtuner": ("<image>", "<IMG_CONTEXT>", "<VIDEO_CONTEXT>"),
}
"""What each trainer replaces in a text: extras/constants.py, template/base.py, mllm_tokenize_fn/."""
_ROLES = {"human": "user", "gpt": "assistant"}
_ENTRY: dict[str, Any] = {
    "file_name": f"{NAME}.json",
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "images": "images"},
    "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
}


def write(cases: Iterable[Case], directory: Path, folder: Path, trainer: Trainer) -> list[Path]:
    """Write a training set. One case is in memory at a time.

    Args:
        cases: of the benchmark.
        directory: the benchmark, whose drawn images the set names.
        folder: existing folder for the set.
        trainer: whose format.

    Returns:
        The files.

    Raises:
        InputError: a case has no drawn images or no option for its answer, an image is missing, a text holds a mark of
            the trainer, or ``dataset_info.json`` is there and no JSON object.
        OutputError: a file cannot be written.
    """
    others = read_json_object(folder / _INFO) if trainer == "llamafactory" and (folder / _INFO).exists() else {}
    path = folder / (f"{NAME}.json" if trainer == "llamafactory" else f"{NAME}.jsonl")
    texts = (json.dumps(record, ensure_ascii=False) for record in _make_records(cases, directory, trainer))
    try:
        with atomic_write(path) as handle:
            if trainer != "llamafactory":
                handle.writelines(text + "\n" for text in texts)
                return [path]
            handle.write("[")
            handle.writelines((",\n" if number else "\n") + text for number, text in enumerate(texts))
            handle.write("\n]\n")
        with atomic_write(folder / _INFO) as handle:
            handle.write(json.dumps(others | {NAME: _ENTRY}, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise OutputError(error.filename or path, error) from error
    return [path, folder / _INFO]


def train_command(trainer: Trainer, directory: Path, folder: Path) -> list[str]:
    """Return the command that trains on a set, with MODEL and TEMPLATE to be replaced."""
    if trainer == "ms-swift":
        return ["swift", "sft", "--model", "MODEL", "--dataset", str(folder / f"{NAME}.jsonl")]
    if trainer == "xtuner":
        script = "xtuner/v1/train/cli/sft.py"
        return ["torchrun", script, "--load-from", "MODEL", "--dataset", str(folder / f"{NAME}.jsonl")]
    sources = ["--dataset_dir", str(folder), "--dataset", NAME, "--media_dir", str(directory)]
    model = ["--model_name_or_path", "MODEL", "--template", "TEMPLATE", "--output_dir", "trained"]
    return ["llamafactory-cli", "train", "--stage", "sft", "--do_train", "true", *sources, *model]


def _make_records(cases: Iterable[Case], directory: Path, trainer: Trainer) -> Iterator[dict[str, Any]]:
    root = directory.resolve()
    for case in cases:
        for field, content in (("question", case.question), ("rationale", case.rationale or "")):
            mark = next((mark for mark in _MARKS[trainer] if mark in content), None)
            if mark:
                raise InputError(case.id, f"holds {mark}, which {trainer} takes for a file", field=field)
        record = to_conversations(case)
        names = require_drawn_paths(case)
        files = [safe_join(root, name, case.id) for name in names]
        for file in files:
            if not file.is_file():
                raise InputError(file, "image is missing", field=case.id)
        turns = record["conversations"]
        if trainer == "llamafactory":
            yield {"conversations": turns, "images": names}
            continue
        messages = [{"role": _ROLES[turn["from"]], "content": turn["value"]} for turn in turns]
        if trainer == "ms-swift":
            yield {"messages": messages, "images": [str(file) for file in files]}
            continue
        images = [
            {"type": "image_url", "image_url": {"url": str(file), "image_wh": [frame.width, frame.height]}}
            for file, frame in zip(files, case.frames, strict=True)
        ]
        text = {"type": "text", "text": messages[0]["content"].replace("<image>", "<IMG_CONTEXT>")}
        yield {"id": case.id, "messages": [{"role": "user", "content": [*images, text]}, *messages[1:]]}
