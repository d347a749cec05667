"""A model that was trained on the drawn images alone is asked with them alone, wherever it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colva.checkpoints.convert import merge
from colva.checkpoints.load import load
from colva.evaluation.models.base import ModelOptions
from colva.evaluation.models.colva import ColvaModelAdapter
from colva.evaluation.question import AskOptions, make_case_questions
from colva.inference import generate
from colva.inference.answer import answer_cases
from colva.inference.chat import Chat
from colva.training.run import train
from mmvm_data.core.errors import InputError
from mmvm_data.formats.open_benchmark import open_benchmark
from tests.colva.training import stage2_world as world


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    world.make_model(folder / "model")
    world.make_build(folder / "build", 4)
    sources = [{"kind": "build", "path": folder / "build"}]
    data = {"use_object_tokens": False}
    train(world.make_config(folder / "model", folder / "run", sources, data=data, trainer={"max_steps": 1}))
    merge(folder / "run" / "final", folder / "merged")
    return folder


@pytest.fixture
def conversations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All that models are asked, in order."""
    asked: list[Any] = []
    for name in ("score_options", "generate_replies"):
        plain = getattr(generate, name)

        def spy(model: Any, given: Any, *args: Any, plain: Any = plain, **options: Any) -> Any:
            asked.extend(given)
            return plain(model, given, *args, **options)

        monkeypatch.setattr(generate, name, spy)
    return asked


@pytest.mark.parametrize(("name", "has_objects"), [("run/final", False), ("merged", False), ("model", True)])
def test_it_is_asked_as_it_was_trained(folder: Path, name: str, has_objects: bool, conversations: list[Any]) -> None:
    model = load(folder / name)
    assert model.config.names_objects is has_objects
    cases = list(open_benchmark(folder / "build").cases())[:1]
    answer_cases(model, cases)
    Chat(model, cases[0]).ask(max_new_tokens=1)
    Chat(model, cases[0]).ask("Which one?", max_new_tokens=1)
    adapter = ColvaModelAdapter(folder / name, ModelOptions(answer_by="likelihood", device="cpu"))
    images = tuple(folder / "build" / frame.path for frame in cases[0].frames)
    adapter.answer(make_case_questions(cases[0], AskOptions(), "0", images))
    assert len(conversations) == 4
    for conversation in conversations:
        assert ("<VPT_CONTEXT>" in conversation.turns[0].text) is has_objects
        assert all((image.masks is not None) is has_objects for image in conversation.images)


def test_training_with_object_tokens_turns_them_on_again(folder: Path, tmp_path: Path) -> None:
    sources = [{"kind": "build", "path": folder / "build"}]
    train(world.make_config(folder / "merged", tmp_path / "run", sources, trainer={"max_steps": 1}))
    assert load(tmp_path / "run" / "final").config.names_objects


def test_a_wrong_note_is_named(folder: Path, tmp_path: Path) -> None:
    note = folder / "run" / "final" / "colva_adapter.json"
    content = note.read_text(encoding="utf-8")
    assert json.loads(content)["use_object_tokens"] is False
    note.write_text(json.dumps(json.loads(content) | {"use_object_tokens": "no"}), encoding="utf-8")
    try:
        with pytest.raises(InputError, match=r"colva_adapter\.json.*use_object_tokens.*expected true or false"):
            load(folder / "run" / "final")
    finally:
        note.write_text(content, encoding="utf-8")
