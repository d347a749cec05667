from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from colva.checkpoints.init_tiny import FAMILIES
from colva.checkpoints.load import load
from colva.inference.answer import answer_cases
from colva.model.attention import enable_packed_sdpa
from colva.training import stage2
from colva.training.loader import shard_batch, training_loader
from colva.training.run import load_config, train
from mmvm_data.core import masks
from mmvm_data.core.config_values import parse_config
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case, Region
from tests.colva.training import stage2_world as world

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "finetune"
KINDS = ["internvl2-phi3", "qwen2-vl", "qwen2_5-vl", "qwen3-vl", "llava-1.5", "llava-onevision"]


@pytest.mark.parametrize("family", KINDS)
def test_each_family_trains_lora_alone_and_packed_losses_are_those_of_single_samples(
    family: str, tmp_path: Path, sources: list[dict[str, Any]]
) -> None:
    model = world.make_model(tmp_path / "model", family, scale=4.0)
    packed = world.prepare_stage(world.make_config(model, tmp_path / "a", sources))
    rows = world.read_rows(packed)
    assert max(map(len, rows)) > 2
    alone = world.prepare_stage(
        world.make_config(model, tmp_path / "b", sources, data={"packing": False, "use_object_cache": False})
    )
    # the same samples, a row each
    batch = packed.collate(rows)
    one_by_one = [packed.collate([(sample,)]) for row in rows for sample in row]
    assert packed.count_units(batch) == sum(map(packed.count_units, one_by_one))
    assert "attention_mask" not in batch
    total = sum(world.compute_loss(packed, one) for one in one_by_one)
    assert world.compute_loss(packed, batch) == pytest.approx(total, rel=1e-4)
    # an attention of transformers' own reads the borders off the positions
    text = packed.model.colva.backbone.language_model
    text.set_attn_implementation("sdpa")
    assert world.compute_loss(packed, batch) == pytest.approx(total, rel=1e-4)
    assert enable_packed_sdpa(text)
    # and by the other way: padded, with the expert; the seed decides numbers and wordings, so ask for the lengths alone
    assert sum(len(row) for row in rows) == len(world.read_rows(alone))
    names = {name for name, parameter in packed.model.named_parameters() if parameter.requires_grad}
    assert names == {name for name, _ in packed.model.named_parameters() if ".lora_" in name}
    packed.model.train()
    packed.step(packed.model, batch).loss.backward()
    for name, parameter in packed.model.named_parameters():
        assert (parameter.grad is not None) == (name in names), name
        if ".lora_B." in name:
            assert parameter.grad is not None and bool(parameter.grad.any()), name
    layers = [name for name, module in packed.model.named_modules() if isinstance(module, torch.nn.Linear)]
    base = [name for name in layers if "language_model" in name and ".lora_" not in name]
    assert len(names) == 2 * len(base)  # every linear layer of the language model


@pytest.mark.parametrize("family", list(FAMILIES))
def test_measured_lengths_equal_those_of_the_samples_in_every_variant(
    family: str, tmp_path: Path, sources: list[dict[str, Any]]
) -> None:
    model = world.make_model(tmp_path / "model", family)
    mixture = [source | {"weight": 6} for source in sources]
    stage = world.prepare_stage(world.make_config(model, tmp_path / "a", mixture, data={"clean_share": 0.5}))
    rows: Any = stage.train
    planned = rows._item_lengths(rows._epoch(0).items)
    for number in range(len(rows)):
        row = rows[number]
        chosen = rows._epoch(0).packing.row(number)
        assert [len(sample) for sample in row.value] == planned[chosen].tolist()


def test_cached_objects_equal_those_of_the_expert(tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]) -> None:
    plain = {"packing": False, "vary_prompts": False}
    cached = world.prepare_stage(world.make_config(tiny, tmp_path / "a", sources[:1], data=plain))
    computed = world.prepare_stage(
        world.make_config(tiny, tmp_path / "b", sources[:1], data=plain | {"use_object_cache": False})
    )
    assert cached.model.colva.expert is None and computed.model.colva.expert is not None
    by_name = {row[0].name: row[0] for row in world.read_rows(computed)}
    for (sample,) in world.read_rows(cached):
        other = by_name[sample.name]
        batch = computed.collate([(other,)])
        with torch.no_grad():
            inner = computed.model.colva
            computed_embeddings = inner.pool_object_cells(
                batch["expert_pixel_values"], batch["object_cells"], batch["object_images"]
            )
        assert torch.equal(sample.input_ids, other.input_ids)
        assert torch.allclose(sample.object_embeddings, computed_embeddings, atol=1e-5, rtol=1e-5)
    whole = [stage.collate(world.read_rows(stage)) for stage in (cached, computed)]
    assert world.compute_loss(cached, whole[0]) == pytest.approx(world.compute_loss(computed, whole[1]), rel=1e-4)


def test_the_adapter_of_stage_1_determines_objects_and_is_saved_with_lora(
    tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]
) -> None:
    from colva.checkpoints.adapters import write_adapter
    from colva.checkpoints.trained_weights import ResolvedWeights

    model = load(tiny)
    assert model.adapter is not None
    whole = {f"adapter.{name}": tensor * 2 for name, tensor in model.adapter.state_dict().items()}
    (tmp_path / "stage1").mkdir()
    write_adapter(tmp_path / "stage1", model, ResolvedWeights(whole), "../nowhere")
    first = world.prepare_stage(world.make_config(tiny, tmp_path / "a", sources[:1]))
    second = world.prepare_stage(world.make_config(tiny, tmp_path / "b", sources[:1], adapter=str(tmp_path / "stage1")))
    embeddings, trained = (world.read_rows(stage)[0][0].object_embeddings for stage in (first, second))
    assert not torch.allclose(embeddings, trained)
    (tmp_path / "saved").mkdir()
    weights = {name: p.detach() for name, p in second.model.named_parameters() if p.requires_grad}
    second.save_weights(tmp_path / "saved", weights)
    again: dict[str, Tensor] = dict(second.load_weights(tmp_path / "saved"))
    assert again.keys() == weights.keys() and all(torch.equal(again[name], weights[name]) for name in weights)
    loaded = load(tmp_path / "saved")
    assert loaded.adapter is not None
    assert all(torch.equal(t, whole[f"adapter.{n}"]) for n, t in loaded.adapter.state_dict().items())
    lost = tmp_path / "lost"
    with pytest.raises(InputError, match="lost"):
        stage2.build_stage(world.make_config(tiny, tmp_path / "c", sources[:1], adapter=str(lost)))


def read_losses(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_a_run_resumed_within_a_later_epoch_has_the_losses_of_an_uninterrupted_one(
    tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]
) -> None:
    changes: dict[str, Any] = {
        "data": {"max_length": 700, "clean_share": 0.3},
        "lora": {"dropout": 0.1},
        "trainer": {"max_steps": 7, "save_steps": 3, "save_total_limit": 5},
    }
    whole = train(world.make_config(tiny, tmp_path / "whole", sources, **changes))
    broken = tmp_path / "broken"
    train(world.make_config(tiny, broken, sources, **changes))
    import shutil

    for gone in ("checkpoint-6", "checkpoint-7", "final"):
        shutil.rmtree(broken / gone)
    shutil.rmtree(broken / "cache")  # made again, to the same
    train(world.make_config(tiny, broken, sources, **changes, optimizer={}), resume=True)
    assert read_losses(broken) == read_losses(tmp_path / "whole") and len(read_losses(broken)) == 7
    for file in ("lora/adapter_model.safetensors", "adapter.safetensors"):
        assert (broken / "final" / file).read_bytes() == (whole / file).read_bytes()


def test_unusable_records_are_listed_and_counted_and_not_replaced(tmp_path: Path, tiny: Path) -> None:
    folder = tmp_path / "build"
    cases = [world.make_case(k, folder) for k in range(8)]
    (folder / cases[1].frames[0].path).unlink()
    off = cases[2].candidates[0].region.model_copy(update={"mask": None, "box": (200.0, 10.0, 5.0, 5.0)})
    cases[2] = cases[2].model_copy(
        update={"candidates": (cases[2].candidates[0].model_copy(update={"region": off}), *cases[2].candidates[1:])}
    )
    cases[3] = cases[3].model_copy(update={"rationale": "very long " * 300})
    cases[4] = cases[4].model_copy(update={"review": cases[4].review.model_copy(update={"state": "rejected"})})
    (folder / cases[5].frames[1].path).write_bytes(b"no picture")
    world.write_build(folder, cases)
    with (folder / "cases.jsonl").open("a") as handle:
        handle.write("{not json\n")
    expected = {
        "record 1": "match_bench/case_000001/FRAME00_ORI.jpg",
        "record 2": "has no pixels",
        "record 3": "too long for the 500 tokens of data.max_length",
        "record 4": "a reviewer rejected this case",
        "record 5": "match_bench/case_000005/FRAME01_ORI.jpg",
        "record 8": "not a case record",
    }
    for name, packing in (("packed", True), ("padded", False)):
        changes = {
            "data": {"packing": packing, "max_length": 500},
            "trainer": {"max_reject_share": 1.0, "max_steps": 9},
        }
        source = [{"kind": "build", "path": folder}]
        stage = world.prepare_stage(world.make_config(tiny, tmp_path / name, source, **changes))
        items = [stage.train[number] for number in range(len(stage.train))]
        used = sorted(sample.name for item in items for sample in item.value or ())
        assert used == ["case_000000", "case_000006", "case_000007"]
        assert sum(item.num_seen for item in items) == 9
        train(world.make_config(tiny, tmp_path / name, source, **changes))
        listed = [json.loads(line) for line in (tmp_path / name / "rejects.jsonl").read_text().splitlines()]
        reasons = {line["field"].partition(":")[0]: line["reason"] for line in listed}
        assert reasons.keys() == expected.keys() and len(listed) == len(expected), listed
        for place, reason in expected.items():
            assert reason in reasons[place]
        assert all(line["file"].endswith("build/cases.jsonl") for line in listed)
        log = (tmp_path / name / "log.jsonl").read_text().splitlines()
        assert json.loads(log[-2 if "eval" in log[-1] else -1])["rejects"] == len(expected)


def test_without_a_usable_record_the_first_reason_is_reported(tmp_path: Path, tiny: Path) -> None:
    folder = tmp_path / "build"
    world.write_build(folder, [world.make_case(0, folder)])
    with pytest.raises(UsageError, match=r"no conversation can be used.*record 0.*too long for the 64"):
        stage2.build_stage(
            world.make_config(tiny, tmp_path / "a", [{"kind": "build", "path": folder}], data={"max_length": 64})
        )


def test_invalid_settings_are_refused(tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]) -> None:
    def refused(match: str, sources: list[dict[str, Any]], **changes: Any) -> None:
        with pytest.raises((UsageError, InputError), match=match):
            stage2.build_stage(world.make_config(tiny, tmp_path / "a", sources, **changes))

    refused(r"data\.sources\.1\.weight must be above 0, got 0", [sources[0], sources[1] | {"weight": 0}])
    refused(r"data\.sources\.0\.weight must be above 0, got -1", [sources[0] | {"weight": -1}])
    refused(r"sources\.0\.path: .*nowhere is not a folder", [{"kind": "build", "path": tmp_path / "nowhere"}])
    refused(r"data\.image_options must be .*max_tiles", sources, data={"image_options": {"max_tails": 3}})
    refused("is missing; match-choice needs the folder", [{"kind": "match-choice", "path": sources[1]["path"]}])
    refused(r"lora\.target_modules: .*no 'o_prj'; did you mean 'o_proj'", sources, lora={"target_modules": ["o_prj"]})
    with pytest.raises(InputError, match=r"c\.yaml: lora\.rank is an unknown option"):
        parse_config(
            {"stage": "stage2", "model": "m", "output_dir": "o", "lora": {"rank": 4}}, stage2.Stage2Config, "c.yaml"
        )
    bare = tmp_path / "bare"
    from colva.checkpoints.init_tiny import init_tiny

    init_tiny(bare, "qwen2-vl", None)
    with pytest.raises(UsageError, match="has no expert for object tokens"):
        stage2.build_stage(world.make_config(bare, tmp_path / "a", sources))
    without = world.prepare_stage(world.make_config(bare, tmp_path / "a", sources, data={"use_object_tokens": False}))
    texts = [sample.input_ids for row in world.read_rows(without) for sample in row]
    token = without.model.colva.config.object_token_id
    assert texts and not any(bool((ids == token).any()) for ids in texts)


def test_a_dry_run_fills_no_cache_and_shows_a_sample(tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]) -> None:
    stage = stage2.build_stage(world.make_config(tiny, tmp_path / "a", sources))
    facts = dict(stage.describe())
    assert not (tmp_path / "a" / "cache" / "objects").exists()
    assert facts["conversations_in_an_epoch"] == 12 and facts["left_out"] == 0
    assert facts["first_row"]["first"]["targets"] in facts["first_row"]["first"]["text"]
    json.dumps(facts)


def test_case_records_stay_as_they_are(sources: list[dict[str, Any]]) -> None:
    lines = (Path(sources[0]["path"]) / "cases.jsonl").read_text().splitlines()
    assert all(Case.model_validate_json(line).letter for line in lines)


def test_candidates_are_renumbered_in_each_epoch_whatever_the_wording(
    tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]
) -> None:
    def read_answers(name: str, **data: bool) -> list[dict[str, list[int]]]:
        options = {"packing": False, "vary_prompts": False} | data
        stage = world.prepare_stage(world.make_config(tiny, tmp_path / name, sources[:1], data=options))
        size, epochs = len(stage.train), []
        for epoch in range(3):
            samples = [stage.train[epoch * size + k].value[0] for k in range(size)]
            epochs.append({sample.name: sample.labels[sample.labels >= 0].tolist() for sample in samples})
        return epochs

    renumbered, fixed = read_answers("a"), read_answers("b", renumber=False)
    assert fixed[0] == fixed[1] == fixed[2]
    assert renumbered[0] != renumbered[1] and renumbered[1] != renumbered[2]
    assert read_answers("c") == renumbered


def test_no_object_is_a_zero_vector(tmp_path: Path, tiny: Path) -> None:
    case = world.make_case(1, tmp_path / "build")
    small = Region(id="1", mask=masks.from_box((40, 20, 2, 2), world.HEIGHT, world.WIDTH))
    candidates = (case.candidates[0].model_copy(update={"region": small}), *case.candidates[1:])
    world.write_build(tmp_path / "build", [case.model_copy(update={"candidates": candidates})])
    pooled = {}
    for use_cache in (True, False):
        data = {"packing": False, "use_object_cache": use_cache, "renumber": False, "vary_prompts": False}
        source = {"kind": "build", "path": tmp_path / "build"}
        stage = world.prepare_stage(world.make_config(tiny, tmp_path / str(use_cache), [source], data=data))
        batch = stage.collate(world.read_rows(stage))
        if use_cache:
            pooled[use_cache] = batch["object_embeddings"]
        else:
            with torch.no_grad():
                pooled[use_cache] = stage.model.colva.pool_object_cells(
                    batch["expert_pixel_values"], batch["object_cells"], batch["object_images"]
                )
    norms = torch.linalg.vector_norm(pooled[True], dim=1)
    assert norms.min() > norms.max() / 10
    assert torch.allclose(pooled[True], pooled[False], atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_32_cases_are_overfitted_to_100_percent(tmp_path: Path) -> None:
    model = world.make_model(tmp_path / "model", "qwen2-vl", scale=8.0)
    folder = tmp_path / "build"
    cases = [world.make_case(number, folder) for number in range(32)]
    world.write_build(folder, cases)
    changes = {
        "data": {"vary_prompts": False, "renumber": False, "max_length": 450},
        "lora": {"r": 48, "alpha": 96},
        "trainer": {"global_batch_size": 16, "max_steps": 140, "logging_steps": 20},
        "optimizer": {"learning_rate": 3e-3, "warmup_ratio": 0.1},
    }
    settings = world.make_config(model, tmp_path / "run", [{"kind": "build", "path": folder}], **changes)
    final = train(settings)
    before, after = (
        sum(
            answer.text == case.letter
            for answer, case in zip(answer_cases(load(path), cases, folder), cases, strict=True)
        )
        for path in (model, final)
    )
    assert after == 32 and before < 20


def test_batches_are_the_same_whatever_the_workers(tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]) -> None:
    stage = world.prepare_stage(
        world.make_config(tiny, tmp_path / "a", sources, data={"max_length": 700, "clean_share": 0.5})
    )
    sharding = shard_batch(2, 1, 1, 0)
    here, there = (list(training_loader(stage, sharding, 3, workers, False)) for workers in (0, 2))
    for one, other in zip(here, there, strict=True):
        assert one["inputs"].keys() == other["inputs"].keys()
        torch.testing.assert_close(one["inputs"], other["inputs"], rtol=0, atol=0)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_finetune_configurations_have_the_published_values(path: Path) -> None:
    config = load_config(path)
    assert isinstance(config, stage2.Stage2Config)
    if path.stem.startswith(("scratch", "smollm2", "tiny")):
        return
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.betas, optimizer.weight_decay, optimizer.warmup_ratio) == (
        2e-4,
        (0.9, 0.999),
        0.0,
        0.03,
    )
    assert (
        optimizer.lr_scheduler_type,
        optimizer.max_grad_norm,
        config.trainer.num_epochs,
        config.data.max_length,
    ) == (
        "cosine",
        1.0,
        1.0,
        8192,
    )
    lora = config.lora
    published = {"internvl2": (128, 256, 0.05), "qwen2vl": (64, 16, 0.1)}
    expected = published.get(path.stem.split("_")[0], (64, 128, 0.05))
    assert (lora.r, lora.alpha, lora.dropout) == expected
    assert config.trainer.precision == "bf16" and config.trainer.gradient_checkpointing
