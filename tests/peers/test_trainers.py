"""Training sets go through the trainers' own converters: LLAMAFACTORY, MSSWIFT and XTUNER name checkouts."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import runpy
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from colva.evaluation.benchmark import load_questions
from colva.evaluation.question import AskOptions, Question
from mmvm_data.core.types import Case
from mmvm_data.formats import bench as bench_format
from mmvm_data.formats import trainers
from mmvm_data.formats.tsv import drawn_paths
from tests.peers import world

Pairs = list[tuple[Case, Question]]
"""Cases, each with its question as an evaluation asks it."""


class Stand(types.ModuleType):
    """A module in which every name is a function that returns nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def import_from(
    monkeypatch: pytest.MonkeyPatch, root: Path, packages: tuple[str, ...], module: str, stands: tuple[str, ...] = ()
) -> Any:
    """A module of a checkout without what its packages import."""
    for name in packages:
        package = types.ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/"))]
        monkeypatch.setitem(sys.modules, name, package)
    for name in stands:
        monkeypatch.setitem(sys.modules, name, stand := Stand(name))
        stand.get_logger = lambda *_: logging.getLogger("peer")  # type: ignore[attr-defined]
        stand.safe_ddp_context = lambda *_, **__: contextlib.nullcontext()  # type: ignore[attr-defined]
    return importlib.import_module(module)


def export(bench: Path, folder: Path, trainer: trainers.Trainer) -> tuple[Path, Pairs]:
    (folder / "set").mkdir()
    trainers.write(bench_format.read(bench), bench, folder / "set", trainer)
    pairs = list(zip(bench_format.read(bench), load_questions(bench, AskOptions(), folder), strict=True))
    assert len(pairs) == world.CASES
    return folder / "set", pairs


def check(turns: list[dict[str, str]], images: list[str], case: Case, question: Question) -> None:
    """The prompt is the evaluation's behind the names of the images, which are the drawn ones."""
    marks = "".join(f"Image-{k}: <image>\n" for k in range(1, len(case.frames) + 1))
    expected = [("user", marks + question.text), ("assistant", case.letter)]
    if case.rationale:
        expected += [("user", "Why is that the right choice?"), ("assistant", case.rationale)]
    assert [(turn["role"], turn["content"]) for turn in turns] == expected
    assert [Path(image) for image in images] == list(question.images)
    assert [Path(image).parts[-3:] for image in images] == [Path(name).parts for name in drawn_paths(case)]


@world.needs("LLAMAFACTORY")
@pytest.mark.timeout(1800)
def test_llamafactory(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    root = world.checkout("LLAMAFACTORY") / "src"
    packages = ("llamafactory", "llamafactory.data")
    parser = import_from(monkeypatch, root, packages, "llamafactory.data.parser")
    converter = importlib.import_module("llamafactory.data.converter")
    out, pairs = export(bench, tmp_path, "llamafactory")
    [attributes] = parser.get_dataset_list(["mmvm"], str(out))
    convert = converter.SharegptDatasetConverter(attributes, SimpleNamespace(media_dir=str(bench)))
    file = str(out / attributes.dataset_name)
    rows = datasets.load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    for row, (case, question) in zip(rows, pairs, strict=True):
        aligned = convert(row)
        check(aligned["_prompt"] + aligned["_response"], aligned["_images"], case, question)


@world.needs("MSSWIFT")
@pytest.mark.timeout(1800)
def test_ms_swift(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = world.checkout("MSSWIFT")
    packages = ("swift", "swift.dataset", "swift.dataset.preprocessor")
    stands = ("swift.utils", "swift.template", "swift.template.template_inputs", "modelscope", "modelscope.hub")
    stands = (*stands, "modelscope.hub.utils", "modelscope.hub.utils.utils", "swift.dataset.utils")
    core = import_from(monkeypatch, root, packages, "swift.dataset.preprocessor.core", stands)
    core.get_cache_dir = lambda *_: str(tmp_path)
    core.normalize_openai_tool_calls = lambda messages, *_, **__: messages
    schemas = root / "swift/utils/schema_utils.py"
    if schemas.exists():  # since 4.6
        core.TOOL_KEYS = runpy.run_path(str(schemas))["TOOL_KEYS"]
    out, pairs = export(bench, tmp_path, "ms-swift")
    table = core.HfDataset.from_list([json.loads(line) for line in (out / "mmvm.jsonl").read_text().splitlines()])
    for row, (case, question) in zip(core.AutoPreprocessor()(table, strict=True), pairs, strict=True):
        check(row["messages"], [image["path"] for image in row["images"]], case, question)


@world.needs("XTUNER")
@pytest.mark.timeout(1800)
def test_xtuner(bench: Path, tmp_path: Path) -> None:
    path = world.checkout("XTUNER") / "xtuner/v1/datasets/mllm_tokenize_fn/base_mllm_tokenize_fn.py"
    source = path.read_text(encoding="utf-8")
    start = source.index("def collect_image_video_paths_and_extra")
    names: dict[str, Any] = {}
    exec(source[start : source.index("\ndef ", start + 1)], names)  # the file's other parts need the whole trainer
    out, pairs = export(bench, tmp_path, "xtuner")
    for line, (case, question) in zip((out / "mmvm.jsonl").read_text().splitlines(), pairs, strict=True):
        messages = json.loads(line)["messages"]
        images, videos, more = names["collect_image_video_paths_and_extra"](messages)
        assert not videos and more["image_wh"] == [[frame.width, frame.height] for frame in case.frames]
        text = messages[0]["content"][-1]["text"].replace("<IMG_CONTEXT>", "<image>")
        check([{"role": "user", "content": text}, *messages[1:]], images, case, question)
