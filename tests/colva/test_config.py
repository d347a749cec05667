from __future__ import annotations

from pathlib import Path

import pytest

from colva.config import dump, parse, read_raw
from colva.training.run import checked
from colva.training.stage1 import Config
from mmvm_data.core.errors import InputError, UsageError

TEXT = """
stage: stage1
model: tiny
out: run
data:
  sources:
    - {kind: coco, root: images}
optimiser: {lr: 2e-4}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    return path


def test_defaults_are_the_published_ones(file: Path) -> None:
    config = checked(file)
    assert isinstance(config, Config)
    # YAML 1.1 reads 2e-4 as a text
    assert (config.optimiser.lr, config.optimiser.betas, config.optimiser.weight_decay) == (2e-4, (0.9, 0.999), 0.0)
    assert (config.optimiser.warmup, config.optimiser.clip, config.run.epochs) == (0.03, 1.0, 1.0)
    assert config.data.sources[0].root == Path("images")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("run.bacth=3", "run.bacth: unknown key; did you mean 'batch'"),
        ("data.sources.0.rot=3", "data.sources.0.rot: unknown key; did you mean 'root'"),
        ("otimiser.lr=3", "otimiser: unknown key; did you mean 'optimiser'"),
        ("run.batch=none", "run.batch"),
        ("run.batch=0", "run.batch"),
        ("data.sources=[]", "data.sources"),
        ("run.precision=fp8", "run.precision"),
        ("stage=stage9", "stage: expected one of"),
    ],
)
def test_a_key_or_value_that_does_not_fit_is_named(file: Path, change: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(file, [change])
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_key_is_named(file: Path) -> None:
    file.write_text(TEXT.replace("model: tiny\n", ""))
    with pytest.raises(InputError, match="model: is missing"):
        checked(file)


def test_changes_reach_into_lists_and_make_what_is_not_there(file: Path) -> None:
    config = checked(file, ["data.sources.0.root=other", "run.batch=8", "data.pictures.max_tiles=6"])
    assert isinstance(config, Config)
    assert config.data.sources[0].root == Path("other")
    assert config.run.batch == 8
    assert config.data.pictures == {"max_tiles": 6}


@pytest.mark.parametrize("change", ["run.batch", "data.sources.7.root=x", "data.sources.x.root=x", "stage.x=1", "a=[1"])
def test_a_change_that_cannot_be_made_is_refused(file: Path, change: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        read_raw(file, [change])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.yaml"):
        read_raw(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_raw(tmp_path / "nowhere.yaml")


def test_what_is_written_is_read_back(file: Path, tmp_path: Path) -> None:
    config = checked(file, ["run.report=[wandb]", "negatives=batch"])
    again = tmp_path / "again.yaml"
    again.write_text(dump(config))
    assert parse(read_raw(again), Config, again) == config


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("configs/pretrain/*.yaml")), ids=lambda p: p.stem
)
def test_the_configurations_that_come_with_the_project_are_valid(path: Path) -> None:
    checked(path)
