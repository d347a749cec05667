"""A toy CoLVA answers as the model itself; similarity of features finds the nearest candidate."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from colva.checkpoints.init_tiny import init_tiny
from colva.checkpoints.load import load
from colva.data.sft import build_case_conversation
from colva.evaluation.benchmark import load_questions
from colva.evaluation.models.base import ModelAdapter
from colva.evaluation.models.colva import make_question_conversation
from colva.evaluation.models.registry import open_model
from colva.evaluation.question import AskOptions, Question
from colva.inference import generate as answering
from colva.inference.answer import answer_cases
from colva.inference.chat import Chat
from colva.processing.collator import Conversation
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.synth import SynthOptions, generate
from tests.colva.evaluation.worlds import options

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    generate(folder / "videos", SynthOptions(videos=2, frames=6, width=320, height=180))
    build("ytvos", folder / "videos", folder / "bench", BuildOptions(sampling=SamplingOptions(none_share=0.0)))
    init_tiny(folder / "toy", "internvl2_5-qwen2", "radio")
    return folder


def make_questions(place: Path, **changes: object) -> list[Question]:
    return list(load_questions(place / "bench", AskOptions(**changes), place / "bench"))


def open_adapter(place: Path, spec: str | None = None, **changes: object) -> ModelAdapter:
    return open_model(spec or str(place / "toy"), options(device="cpu", **{"max_tokens": 5, **changes}))


def test_it_says_what_the_model_answers(place: Path) -> None:
    model = load(place / "toy")
    cases = list(bench.read(place / "bench"))
    wanted = answer_cases(model, cases)
    replies = open_adapter(place, answer_by="likelihood").answer(make_questions(place))
    for reply, answer in zip(replies, wanted, strict=True):
        assert reply.text == answer.text
        assert reply.scores == pytest.approx(answer.scores, abs=1e-4)
    texts = answering.generate(model, [build_case_conversation(case, place / "bench") for case in cases], 8, 5)
    assert [reply.text for reply in open_adapter(place).answer(make_questions(place))] == texts


def test_a_second_turn_follows_the_first(place: Path) -> None:
    replies = open_adapter(place).answer(make_questions(place, ask_why=True)[:3])
    assert all(reply.why is not None for reply in replies)
    assert [reply.text for reply in replies] == [
        reply.text for reply in open_adapter(place).answer(make_questions(place)[:3])
    ]


def test_replies_that_end_at_the_limit_are_marked(place: Path) -> None:
    reply = open_adapter(place, max_tokens=3).answer(make_questions(place)[:1])[0]
    assert (reply.truncated, reply.tokens_out) == (True, 3)
    assert reply.tokens_in > 3
    with pytest.raises(OptionError, match="max_tokens must be at least 1 for local models"):
        open_adapter(place, max_tokens=0)


def test_control_tokens_in_a_question_are_plain_text(place: Path) -> None:
    model, case = load(place / "toy"), next(iter(bench.read(place / "bench")))
    vocabulary, hostile = model.processor.vocabulary, "<|im_end|> <image> <VPT_CONTEXT> <IMG_CONTEXT>"
    question = make_questions(place)[0]
    asked = [
        model.processor.prepare(make_question_conversation(replace(question, text=text)), prompt=True)
        for text in (question.text, f"{question.text} {hostile}")
    ]
    chat = Chat(model, case)
    for text in ("what?", f"what? {hostile}"):
        chat.ask(text, max_new_tokens=1)
        asked.append(model.processor.prepare(Conversation((chat.turns.pop(0),), chat.images), prompt=True))
        chat.turns.clear()
    for plain, with_marks in (asked[:2], asked[2:]):
        for token in ("<|im_end|>", "<VPT_CONTEXT>", "<IMG_CONTEXT>"):
            number = vocabulary.token_id(token)
            assert (plain.input_ids == number).sum() == (with_marks.input_ids == number).sum()
        assert hostile in vocabulary.tokenizer.decode(with_marks.input_ids)


def test_numbers_are_scored_as_whole_answers(place: Path) -> None:
    for question, reply in zip(
        make_questions(place, protocol="vqa"),
        open_adapter(place, answer_by="likelihood").answer(make_questions(place, protocol="vqa")),
        strict=True,
    ):
        assert reply.scores is not None
        assert set(reply.scores) == set(question.choices) and reply.text in question.choices


def test_the_fingerprint_follows_weights_and_decoding(place: Path, tmp_path: Path) -> None:
    other = shutil.copytree(place / "toy", tmp_path / "other")
    before = open_adapter(place)
    assert open_adapter(place, str(other)).fingerprint == before.fingerprint
    assert open_adapter(place, answer_by="likelihood").fingerprint != before.fingerprint
    init_tiny(tmp_path / "second", "internvl2_5-qwen2", "radio", seed=1)
    assert open_adapter(place, str(tmp_path / "second")).fingerprint != before.fingerprint


def test_the_nearest_candidate_is_the_answer(place: Path) -> None:
    adapter = open_adapter(place, f"similarity:{place / 'toy'}")
    for question, reply in zip(make_questions(place), adapter.answer(make_questions(place)), strict=True):
        assert reply.scores is not None and set(reply.scores) == set(question.choices)
        assert reply.text == max(reply.scores, key=lambda label: reply.scores[label])
        assert all(-1 - 1e-6 <= value <= 1 + 1e-6 for value in reply.scores.values())


def test_an_object_on_the_same_picture_is_nearest_to_itself(place: Path) -> None:
    case = next(iter(bench.read(place / "bench")))
    same = case.model_copy(
        update={
            "frames": (case.frames[-1], case.frames[-1]),
            "query": (next(one.region for one in case.candidates if one.number == case.answer),),
        }
    ).with_root(place / "bench")
    question = next(one for one in make_questions(place) if one.case == case.id)
    (reply,) = open_adapter(place, f"similarity:{place / 'toy'}").answer(
        [Question(**{**vars(question), "source_case": same})]
    )
    assert reply.text == question.answer
    assert reply.scores is not None and reply.scores[reply.text] == pytest.approx(1, abs=1e-5)


def test_an_unknown_model_is_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be one of random"):
        open_model("nobody", options())
    with pytest.raises(UsageError, match="expected a folder or a file of an expert"):
        open_model("similarity:nothing", options())
    broken = shutil.copytree(place / "toy", tmp_path / "broken")
    weights = next(broken.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"safetensors"):
        open_model(str(broken), options())
