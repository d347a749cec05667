"""What stage 2 trains: which weights, how they are saved, merged and resumed, and what a run selects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from colva.checkpoints.convert import merge
from colva.checkpoints.load import load
from colva.config import dump_config
from colva.data.sft import build_case_conversation
from colva.inference.answer import answer_cases
from colva.inference.generate import score_options
from colva.training.run import train
from colva.training.stage2 import Stage2Config, build_stage
from mmvm_data.core.config_values import parse_config
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case
from tests.colva.training import stage2_world
from tests.colva.training import world as worlds
from tests.colva.training.stage2_world import prepare_stage
from tests.colva.training.test_launch import colva

KINDS = ["internvl2-phi3", "qwen2-vl", "qwen2_5-vl", "qwen3-vl", "llava-1.5", "llava-onevision"]
PARTS = ["head", "embeddings", "norms"]


def trained_names(config: Stage2Config) -> set[str]:
    stage = build_stage(config)
    return {name for name, parameter in stage.model.named_parameters() if parameter.requires_grad}


def read_cases(source: dict[str, Any]) -> list[Case]:
    lines = (Path(source["path"]) / "cases.jsonl").read_text().splitlines()
    return [Case.model_validate_json(line) for line in lines]


def score(folder: Path, source: dict[str, Any], **options: Any) -> Tensor:
    model = load(folder, **options)
    case = read_cases(source)[0]
    conversation = build_case_conversation(case, Path(source["path"]))
    return torch.tensor(score_options(model, [conversation], [["A", "B", "C"]])[0])


def test_each_choice_trains_its_weights_and_nothing_else(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    model = stage2_world.make_model(tmp_path / "model", "qwen3-vl")

    def names(tune: Any) -> set[str]:
        return trained_names(stage2_world.make_config(model, tmp_path / "a", sources[:1], tune=tune))

    lora, full, parts = names("lora"), names("full"), names(PARTS)
    assert lora and all(".lora_" in name for name in lora)
    assert not any(".lora_" in name for name in full)
    assert {name for name in full if "language_model" not in name} == {"colva.backbone.model.lm_head.weight"}
    everything = {
        name
        for name, _ in build_stage(
            stage2_world.make_config(model, tmp_path / "b", sources[:1], tune="full")
        ).model.named_parameters()
    }
    assert full == {name for name in everything if "language_model" in name or "lm_head" in name}
    assert parts > lora and parts - lora == {
        name for name in full if "norm" in name or "embed_tokens" in name or "lm_head" in name
    }
    assert names(["head"]) == lora | {"colva.backbone.model.lm_head.weight"}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("family", KINDS)
def test_all_weights_of_each_family_are_trained_saved_and_merged(
    family: str, precision: str, tmp_path: Path, sources: list[dict[str, Any]]
) -> None:
    model = stage2_world.make_model(tmp_path / "model", family)
    shape = {"max_steps": 2, "precision": precision}
    settings = stage2_world.make_config(model, tmp_path / "run", sources, tune="full", trainer=shape)
    final = train(settings)
    assert (final / "language_model.safetensors").is_file() and not (final / "lora").exists()
    before, after = score(model, sources[0]), score(final, sources[0])
    assert not torch.allclose(before, after)
    merge(final, tmp_path / "merged")
    assert torch.allclose(score(tmp_path / "merged", sources[0]), after, atol=1e-6)
    stored = {str(parameter.dtype) for parameter in load(tmp_path / "merged").parameters()}
    assert stored == {"torch.float32"}


def test_parts_beside_lora_are_saved_and_merged(tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]) -> None:
    settings = stage2_world.make_config(tiny, tmp_path / "run", sources, tune=PARTS, trainer={"max_steps": 2})
    final = train(settings)
    assert (final / "language_model.safetensors").is_file() and (final / "lora").is_dir()
    merge(final, tmp_path / "merged")
    assert torch.allclose(score(tmp_path / "merged", sources[0]), score(final, sources[0]), atol=1e-5)
    assert not torch.allclose(score(tiny, sources[0]), score(final, sources[0]))


@pytest.mark.parametrize("tune", ["full", PARTS], ids=["full", "parts"])
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(
    tune: Any, tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]
) -> None:
    shape = {"max_steps": 5, "save_steps": 2, "save_total_limit": 5}
    whole = train(stage2_world.make_config(tiny, tmp_path / "whole", sources, tune=tune, trainer=shape))
    broken = tmp_path / "broken"
    settings = stage2_world.make_config(tiny, broken, sources, tune=tune, trainer=shape)
    train(settings)
    for gone in ("checkpoint-4", "checkpoint-5", "final"):
        shutil.rmtree(broken / gone)
    train(settings, resume=True)
    assert worlds.run_metrics(broken) == worlds.run_metrics(tmp_path / "whole")
    name = "language_model.safetensors"
    assert (broken / "final" / name).read_bytes() == (whole / name).read_bytes()


def test_what_cannot_be_trained_is_refused(tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]) -> None:
    content = {
        "stage": "stage2",
        "model": str(tiny),
        "output_dir": str(tmp_path),
        "data": {"sources": [{"kind": "build", "path": "p"}]},
    }
    for tune in ("all", [], ["head", "head"], ["heads"], 3):
        with pytest.raises(InputError, match=r"tune must be lora, full, or a list of head, embeddings, norms, got"):
            parse_config(content | {"tune": tune}, Stage2Config, "c.yaml")
    with pytest.raises(UsageError, match=r"loss of the answer '\w' is at least [45]\.\d\d nats.*tune=\[head\]"):
        build_stage(stage2_world.make_config(tiny, tmp_path / "a", sources, max_loss_bound=0.69))
    for tune in ("full", ["head"], ["norms"]):
        build_stage(stage2_world.make_config(tiny, tmp_path / "a", sources, max_loss_bound=0.69, tune=tune))


def make_split_config(tiny: Path, out: Path, sources: list[dict[str, Any]]) -> Stage2Config:
    shape = {"global_batch_size": 4, "max_steps": 4, "save_steps": 2, "eval_steps": 2}
    data = {"max_length": 700, "held_out_share": 0.3}
    return stage2_world.make_config(tiny, out, sources, tune="full", data=data, trainer=shape)


@pytest.fixture(scope="module")
def one_process(tiny: Path, sources: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    assert worlds.wait_for(worlds.start_run(make_split_config(tiny, out, sources))) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(("--deepspeed", "zero2"), id="zero2"),
        pytest.param(("--deepspeed", "zero3"), id="zero3"),
        pytest.param(("--fsdp",), id="fsdp"),
    ],
)
def test_two_processes_equal_one(
    tiny: Path, sources: list[dict[str, Any]], one_process: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    if "--deepspeed" in more:
        pytest.importorskip("deepspeed")
    out = tmp_path / "run"
    file = tmp_path / "two.yaml"
    file.write_text(dump_config(make_split_config(tiny, out, sources)))
    for resume in ((), ("--resume",)):
        run = colva(str(file), "--nproc", "2", *more, *resume)
        output, _ = run.communicate()
        assert run.returncode == 0, output
        worlds.assert_close(worlds.run_metrics(out), worlds.run_metrics(one_process), abs=1e-4)
        shutil.rmtree(out / "checkpoint-4")


def test_held_out_cases_are_asked_and_the_best_weights_are_kept(
    tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]
) -> None:
    shape = {"max_steps": 6, "eval_steps": 2, "save_steps": 2, "save_total_limit": 5, "select_by": "accuracy"}
    data = {"held_out_share": 0.5, "vary_prompts": False}

    def settings(name: str, **trainer: Any) -> Stage2Config:
        return stage2_world.make_config(
            tiny, tmp_path / name, sources[:1], tune="full", data=data, trainer=shape | trainer
        )

    final = train(settings("a"))
    lines = [line for line in worlds.read_log(tmp_path / "a") if "eval_loss" in line]
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    for line in lines:
        hits = {n: line[f"eval_accuracy_{n}"] * line[f"eval_accuracy_{n}_cases"] for n in (2, 3)}
        assert sum(hits.values()) == pytest.approx(line["eval_accuracy"] * line["eval_accuracy_cases"])
        assert line["eval_accuracy_cases"] == 4
        assert line["eval_accuracy_low"] < line["eval_accuracy"] + 1e-9 < line["eval_accuracy_high"] + 2e-9
    # the result is the best evaluation, and its accuracy is what `colva eval` would find
    best = max(line["eval_accuracy"] for line in lines)
    step = next(line["step"] for line in lines if line["eval_accuracy"] == best)
    name = "language_model.safetensors"
    if step:
        assert (final / name).read_bytes() == (tmp_path / "a" / f"checkpoint-{step}" / name).read_bytes()
    stage = prepare_stage(settings("b"))
    assert stage.held_out is not None
    asked = {s.name for k in range(len(stage.held_out)) for s in stage.held_out[k].value}
    cases = [case for case in read_cases(sources[0]) if case.id in asked]
    answers = answer_cases(load(final), cases, sources[0]["path"])
    assert sum(a.text == c.letter for a, c in zip(answers, cases, strict=True)) / len(cases) == pytest.approx(best)


def test_a_run_ends_early_and_a_resumed_one_ends_at_the_same_step(
    tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]
) -> None:
    data = {"held_out_share": 0.5, "vary_prompts": False}
    shape = {"max_steps": 12, "eval_steps": 1, "save_steps": 1, "save_total_limit": 12}
    stop = shape | {"select_by": "loss", "early_stopping_patience": 2}

    def settings(name: str) -> Stage2Config:
        # at this rate the loss rises soon
        rate = {"learning_rate": 0.5, "warmup_ratio": 0.0}
        return stage2_world.make_config(
            tiny, tmp_path / name, sources[:1], tune="full", data=data, trainer=stop, optimizer=rate
        )

    final = train(settings("whole"))
    losses = [line["eval_loss"] for line in worlds.read_log(tmp_path / "whole") if "eval_loss" in line]
    assert 2 < len(losses) < 13 and min(losses) == losses[-3]
    broken = tmp_path / "broken"
    train(settings("broken"))
    last = len(losses) - 1
    for gone in (f"checkpoint-{last}", f"checkpoint-{last - 1}", "final", "best"):
        shutil.rmtree(broken / gone)
    if (broken / f"checkpoint-{last - 2}").exists():  # the best one, whose weights are not written again
        shutil.copytree(tmp_path / "whole" / "best", broken / "best")
    train(settings("broken"), resume=True)
    assert worlds.run_metrics(broken) == worlds.run_metrics(tmp_path / "whole")
    name = "language_model.safetensors"
    assert (broken / "final" / name).read_bytes() == (final / name).read_bytes()
    before = worlds.read_log(broken)
    train(settings("broken"), resume=True)  # nothing is left to do
    assert worlds.read_log(broken) == before
    with pytest.raises(InputError, match="early_stopping_patience needs select_by"):
        parse_config(
            json.loads(
                json.dumps(
                    {
                        "stage": "stage2",
                        "model": "m",
                        "output_dir": "o",
                        "data": {"sources": [{"kind": "build", "path": "p"}]},
                        "trainer": {"early_stopping_patience": 2},
                    }
                )
            ),
            Stage2Config,
            "c.yaml",
        )
