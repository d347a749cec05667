"""Training sets go through the trainers' own converters: LLAMAFACTORY, MSSWIFT and XTUNER name checkouts."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmvm_data.core.types import Case
from mmvm_data.formats import bench, trainers
from tests.peers import world


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


def export(folder: Path, trainer: trainers.Trainer) -> tuple[Path, list[Case]]:
    world.write_benchmark(folder, 12)
    (folder / "set").mkdir()
    trainers.write(bench.read(folder / "bench"), folder / "bench", folder / "set", trainer)
    return folder / "set", list(bench.read(folder / "bench"))


def check(turns: list[dict[str, str]], images: list[str], case: Case) -> None:
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
    assert turns[1]["content"] == case.letter and len(turns) == (4 if case.rationale else 2)
    assert len(images) == len(case.frames) and all(Path(image).is_file() for image in images)
    assert turns[0]["content"].count("<image>") == len(images)


def test_llamafactory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = world.checkout("LLAMAFACTORY") / "src"
    packages = ("llamafactory", "llamafactory.data")
    parser = import_from(monkeypatch, root, packages, "llamafactory.data.parser")
    converter = importlib.import_module("llamafactory.data.converter")
    out, cases = export(tmp_path, "llamafactory")
    [attributes] = parser.get_dataset_list(["mmvm"], str(out))
    convert = converter.SharegptDatasetConverter(attributes, SimpleNamespace(media_dir=str(tmp_path / "bench")))
    rows = json.loads((out / attributes.dataset_name).read_text())
    for row, case in zip(rows, cases, strict=True):
        aligned = convert(row)
        check(aligned["_prompt"] + aligned["_response"], aligned["_images"], case)


def test_ms_swift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = world.checkout("MSSWIFT")
    packages = ("swift", "swift.dataset", "swift.dataset.preprocessor")
    stands = ("swift.utils", "swift.template", "swift.template.template_inputs", "modelscope", "modelscope.hub")
    stands = (*stands, "modelscope.hub.utils", "modelscope.hub.utils.utils", "swift.dataset.utils")
    core = import_from(monkeypatch, root, packages, "swift.dataset.preprocessor.core", stands)
    core.get_cache_dir = lambda *_: str(tmp_path)
    core.normalize_openai_tool_calls = lambda messages, *_, **__: messages
    out, cases = export(tmp_path, "ms-swift")
    table = core.HfDataset.from_list([json.loads(line) for line in (out / "mmvm.jsonl").read_text().splitlines()])
    for row, case in zip(core.AutoPreprocessor()(table, strict=True), cases, strict=True):
        check(row["messages"], [image["path"] for image in row["images"]], case)


def test_xtuner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.checkout("XTUNER") / "xtuner/v1/datasets/mllm_tokenize_fn/base_mllm_tokenize_fn.py"
    source = path.read_text(encoding="utf-8")
    start = source.index("def collect_image_video_paths_and_extra")
    names: dict[str, Any] = {}
    exec(source[start : source.index("\ndef ", start + 1)], names)  # the file's other parts need the whole trainer
    out, cases = export(tmp_path, "xtuner")
    for line, case in zip((out / "mmvm.jsonl").read_text().splitlines(), cases, strict=True):
        messages = json.loads(line)["messages"]
        images, videos, more = names["collect_image_video_paths_and_extra"](messages)
        assert not videos and more["image_wh"] == [[frame.width, frame.height] for frame in case.frames]
        text = messages[0]["content"][-1]["text"].replace("<IMG_CONTEXT>", "<image>")
        check([{"role": "user", "content": text}, *messages[1:]], images, case)
