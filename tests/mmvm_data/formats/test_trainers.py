"""Training sets of other trainers, read by readers written after their documentation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mmvm_data.cli import cli
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench, trainers

Talk = tuple[list[tuple[str, str]], list[Path]]
"""Roles and texts with ``<image>``, and the images in order."""


@pytest.fixture
def folder(cases: list[Case], root: Path, tmp_path: Path) -> Path:
    told = [case.model_copy(update={"rationale": "a {red} bell" if k == 1 else None}) for k, case in enumerate(cases)]
    bench.write(told, tmp_path / "bench", root)
    return tmp_path / "bench"


def read_llamafactory(folder: Path, media_dir: Path) -> list[Talk]:
    """data/README.md, Sharegpt Format."""
    entry = json.loads((folder / "dataset_info.json").read_text())["mmvm"]
    assert entry["formatting"] == "sharegpt"
    tags, columns = entry["tags"], entry["columns"]
    roles = {tags["user_tag"]: "user", tags["assistant_tag"]: "assistant"}
    return [
        (
            [(roles[turn[tags["role_tag"]]], turn[tags["content_tag"]]) for turn in row[columns["messages"]]],
            [media_dir / name for name in row[columns["images"]]],
        )
        for row in json.loads((folder / entry["file_name"]).read_text())
    ]


def read_swift(folder: Path) -> list[Talk]:
    """Custom-dataset.md, Multimodal."""
    rows = [json.loads(line) for line in (folder / "mmvm.jsonl").read_text().splitlines()]
    return [
        ([(m["role"], m["content"]) for m in row["messages"]], [Path(name) for name in row["images"]]) for row in rows
    ]


def read_xtuner(folder: Path, cases: list[Case]) -> list[Talk]:
    """mllm_sft.md: images of a message's content, and ``<IMG_CONTEXT>`` in its text."""
    talks = []
    rows = [json.loads(line) for line in (folder / "mmvm.jsonl").read_text().splitlines()]
    for row, case in zip(rows, cases, strict=True):
        turns, images = [], []
        for message in row["messages"]:
            content = message["content"]
            if isinstance(content, list):
                parts = [part["image_url"] for part in content if part["type"] == "image_url"]
                images += [Path(part["url"]) for part in parts]
                assert [part["image_wh"] for part in parts] == [[f.width, f.height] for f in case.frames]
                [content] = [part["text"] for part in content if part["type"] == "text"]
            turns.append((message["role"], content.replace("<IMG_CONTEXT>", "<image>")))
        talks.append((turns, images))
    return talks


@pytest.mark.parametrize("trainer", ["llamafactory", "ms-swift", "xtuner"])
def test_readers_find_the_cases(folder: Path, tmp_path: Path, trainer: trainers.Trainer) -> None:
    os.makedirs(out := tmp_path / "set")
    cases = list(bench.read(folder))
    trainers.write(bench.read(folder), folder, out, trainer)
    read: dict[str, Any] = {
        "llamafactory": lambda: read_llamafactory(out, folder),
        "ms-swift": lambda: read_swift(out),
        "xtuner": lambda: read_xtuner(out, cases),
    }
    talks: list[Talk] = read[trainer]()
    assert len(talks) == len(cases)
    for (turns, images), case in zip(talks, cases, strict=True):
        assert [role for role, _ in turns] == ["user", "assistant"] * (2 if case.rationale else 1)
        assert turns[0][1].count("<image>") == len(images) == len(case.frames)
        assert turns[1][1] == case.letter and (not case.rationale or turns[3][1] == case.rationale)
        assert all(image.is_file() for image in images)
        assert [image.name[:7] for image in images] == [f"FRAME{k:02d}" for k in range(len(images))]


@pytest.mark.parametrize("trainer", ["llamafactory", "ms-swift", "xtuner"])
def test_the_command_prints_how_to_train(folder: Path, tmp_path: Path, trainer: trainers.Trainer) -> None:
    words = ["export", str(folder), "--to", trainer, "--out", str(tmp_path / "set")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    command = trainers.train_command(trainer, folder, tmp_path / "set")
    assert f"train: {' '.join(command)}" in result.output.replace("\n", " ")
    (folder / "match_bench/case_000001/FRAME00.jpg").unlink()
    again = CliRunner().invoke(cli, words)
    assert isinstance(again.exception, InputError) and "FRAME00.jpg" in str(again.exception)


def test_other_sets_stay_in_dataset_info(folder: Path, tmp_path: Path) -> None:
    os.makedirs(out := tmp_path / "data")
    info = out / "dataset_info.json"
    info.write_text('{"identity": {"file_name": "identität.json"}, "mmvm": {}}', encoding="utf-8")
    trainers.write(bench.read(folder), folder, out, "llamafactory")
    written = json.loads(info.read_text(encoding="utf-8"))
    assert list(written) == ["identity", "mmvm"] and written["identity"] == {"file_name": "identität.json"}
    assert len(read_llamafactory(out, folder)) == len(list(bench.read(folder)))
    (out / "mmvm.json").unlink()
    info.write_text("[]")
    with pytest.raises(InputError, match=r"dataset_info\.json"):
        trainers.write(bench.read(folder), folder, out, "llamafactory")
    assert info.read_text() == "[]" and not (out / "mmvm.json").exists()


@pytest.mark.parametrize(
    ("trainer", "field", "text"),
    [
        ("llamafactory", "rationale", "as in <image> two"),
        ("ms-swift", "rationale", "at <bbox>"),
        ("xtuner", "rationale", "see <IMG_CONTEXT>"),
        ("xtuner", "question", "Which one in <image>?"),
    ],
)
def test_texts_with_a_trainers_marks_are_refused(
    folder: Path, tmp_path: Path, trainer: trainers.Trainer, field: str, text: str
) -> None:
    case = next(bench.read(folder)).model_copy(update={field: text})
    with pytest.raises(InputError, match=f"{case.id}.*{field}.*which {trainer} takes for a file"):
        trainers.write([case], folder, tmp_path, trainer)
    assert not list(tmp_path.glob("mmvm.json*"))
