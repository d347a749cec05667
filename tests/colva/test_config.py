from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colva.config import OptimizerOptions, TrainerOptions, dump_config, read_yaml
from colva.training.run import load_config
from colva.training.stage1 import Stage1Config
from mmvm_data.core.config_values import parse_config
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError

CONFIGS = Path(__file__).parents[2] / "configs"
TEXT = """
stage: stage1
model: tiny
output_dir: run
data:
  sources:
    - {kind: coco, root: images}
optimizer: {learning_rate: 2e-4}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    return path


def test_defaults_are_the_published_ones(file: Path) -> None:
    config = load_config(file)
    assert isinstance(config, Stage1Config)
    optimizer = config.optimizer
    # YAML 1.1 reads 2e-4 as a string
    assert (optimizer.learning_rate, optimizer.betas, optimizer.weight_decay) == (2e-4, (0.9, 0.999), 0.0)
    assert (optimizer.warmup_ratio, optimizer.max_grad_norm, config.trainer.num_epochs) == (0.03, 1.0, 1.0)
    assert config.data.sources[0].root == Path("images")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trainer.global_bacth_size=3", "trainer.global_bacth_size is an unknown option; did you mean 'global_batch_"),
        ("data.sources.0.rot=3", "data.sources.0.rot is an unknown option; did you mean 'root'"),
        ("otimizer.learning_rate=3", "otimizer is an unknown option; did you mean 'optimizer'"),
        ("trainer.global_batch_size=none", "trainer.global_batch_size must be an integer, got 'none'"),
        ("trainer.global_batch_size='8'", "trainer.global_batch_size must be an integer, got '8'"),
        ("trainer.global_batch_size=0", "trainer.global_batch_size must be at least 1, got 0"),
        ("trainer.max_steps=1.5", "trainer.max_steps must be an integer, got 1.5"),
        ("trainer.gradient_checkpointing=1", "trainer.gradient_checkpointing must be True or False, got 1"),
        ("trainer.precision=fp8", "trainer.precision must be 'bf16' or 'float32', got 'fp8'"),
        ("trainer.report_to=[mlflow]", "trainer.report_to.0 must be 'tensorboard' or 'wandb', got 'mlflow'"),
        ("trainer=4", "trainer must be a mapping of options, got 4"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate must be above 0, got -1"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate must be a finite number, got nan"),
        ("optimizer.warmup_ratio=3", "optimizer.warmup_ratio must be in [0, 1], got 3"),
        ("optimizer.betas=[0.9, 3]", "optimizer.betas.1 must be at most 1, got 3"),
        ("data.sources=[]", "data.sources must have at least 1 item, got []"),
        ("negatives=all", "negatives must be 'frame' or 'batch', got 'all'"),
        ("stage=stage9", "stage must be one of stage1, stage2, got 'stage9'"),
    ],
)
def test_the_message_names_the_file_and_the_key(file: Path, change: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(file, [change])
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_missing_key_is_named(file: Path) -> None:
    file.write_text(TEXT.replace("model: tiny\n", ""))
    with pytest.raises(InputError, match=r"config\.yaml: model is missing"):
        load_config(file)
    # a misspelled key is reported before the missing one
    file.write_text(TEXT.replace("model: tiny\n", "modle: tiny\n"))
    with pytest.raises(InputError, match=r"config\.yaml: modle is an unknown option; did you mean 'model'"):
        load_config(file)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (OptimizerOptions, {"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        (OptimizerOptions, {"learning_rate": "1e-3"}, "learning_rate must be a number, got '1e-3'"),
        (OptimizerOptions, {"lr_scheduler_type": "cosin"}, "lr_scheduler_type must be 'cosine', .* got 'cosin'"),
        (OptimizerOptions, {"lr": 1e-3}, "lr is an unknown option"),
        (TrainerOptions, {"max_steps": 0}, "max_steps must be at least 1, got 0"),
        (TrainerOptions, {"num_workers": True}, "num_workers must be an integer, got True"),
        (TrainerOptions, {"max_reject_share": 1.5}, r"max_reject_share must be in \[0, 1\], got 1.5"),
    ],
)
def test_options_are_validated_where_they_are_constructed(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        kind(**options)


def test_a_replaced_value_is_validated(file: Path) -> None:
    with pytest.raises(OptionError, match="seed must be an integer, got 'x'"):
        replace(load_config(file), seed="x")  # type: ignore[arg-type]


def test_changes_index_lists_and_add_keys(file: Path) -> None:
    changes = ["data.sources.0.root=other", "trainer.global_batch_size=8", "data.image_options.max_tiles=6"]
    config = load_config(file, changes)
    assert isinstance(config, Stage1Config)
    assert config.data.sources[0].root == Path("other")
    assert config.trainer.global_batch_size == 8
    assert config.data.image_options == {"max_tiles": 6}


def test_changes_are_yaml(file: Path) -> None:
    changes = ["optimizer.learning_rate=1e-3", "optimizer.betas=[0.9, 0.95]", "trainer.report_to=[wandb]"]
    config = load_config(file, [*changes, "trainer.max_steps=null"])
    assert (config.optimizer.learning_rate, config.optimizer.betas) == (1e-3, (0.9, 0.95))
    assert (config.trainer.report_to, config.trainer.max_steps) == (("wandb",), None)


@pytest.mark.parametrize(
    "change", ["trainer.max_steps", "data.sources.7.root=x", "data.sources.x.root=x", "stage.x=1", "a=[1", ".a=1"]
)
def test_a_change_that_does_not_apply_is_refused(file: Path, change: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        read_yaml(file, [change])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", ""])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.yaml"):
        read_yaml(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path / "nowhere.yaml")


def test_a_dumped_configuration_is_read_back(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ["trainer.report_to=[wandb]", "negatives=batch", "data.image_options.max_tiles=6"])
    dumped = tmp_path / "dumped.yaml"
    dumped.write_text(dump_config(config))
    assert parse_config(read_yaml(dumped), Stage1Config, dumped) == config
    assert load_config(dumped) == config


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_shipped_configurations_are_valid(path: Path) -> None:
    load_config(path)


def test_changes_are_bounded_too(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n")
    for change in ("a=" + "[" * 3000, "a" + ".b" * 3000 + "=1", "a=" + "9" * 5000, "a=!!python/name:os.system"):
        with pytest.raises(UsageError, match=r"^--set a") as caught:
            read_yaml(path, [change])
        assert len(str(caught.value)) < 400
    assert read_yaml(path, ["b.c=[1, 2]"]) == {"a": 1, "b": {"c": [1, 2]}}
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path)
