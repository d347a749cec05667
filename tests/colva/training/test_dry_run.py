"""`colva train --dry-run` on every shipped configuration, with small folders in place of the models and data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from colva.checkpoints.adapters import write_adapter
from colva.checkpoints.init_tiny import init_tiny
from colva.checkpoints.load import build_model_without_weights
from colva.checkpoints.read import open_checkpoint
from colva.checkpoints.trained_weights import ResolvedWeights
from colva.cli import main
from colva.model.backbones.tiny import tiny_config
from colva.processing.image_processors import build_image_processor
from colva.training import stage1, stage2
from colva.training.config_files import list_shipped_configs
from mmvm_data.core import masks
from mmvm_data.formats import sft
from mmvm_data.synth import SynthOptions, generate
from tests.colva.training import stage2_world
from tests.worlds import tree

FAMILIES = {
    "internvl2-4b": "internvl2-phi3",
    "internvl3_5": "internvl3_5-qwen3",
    "internvl3": "internvl2_5-qwen2",
    "qwen2vl": "qwen2-vl",
    "qwen2_5vl": "qwen2_5-vl",
    "qwen3vl": "qwen3-vl",
    "llava": "llava-onevision",
    "tiny": "internvl2-phi3",
    "model": "internvl2_5-qwen2",
}
"""Begin of the name of a model's folder -> a family of `colva init-tiny`."""
EXPERTS = ("radio", "dinov2", "dinov3", "convnextv2")
SHIPPED = {config.name: config.path for config in list_shipped_configs()}


def read_adapter_path(content: dict[str, Any]) -> str | None:
    adapter = content.get("adapter")
    return adapter["path"] if isinstance(adapter, dict) else adapter


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def make_model(models: Path, name: str) -> Path:
    """A toy model of the family and with the expert that the name of a folder says."""
    family = next(family for start, family in FAMILIES.items() if name.startswith(start))
    folder = models / f"{family}-{next((expert for expert in EXPERTS if expert in name), 'radio')}"
    if not folder.exists():
        init_tiny(folder, family, folder.name.rpartition("-")[2])
    return folder


def write_adapter_of(model: Path, folder: Path) -> None:
    """What stage 1 writes for a model, here with the model's own adapter."""
    folder.mkdir(parents=True)
    checkpoint = open_checkpoint(model)
    tensors = {name: stored.read() for name, stored in checkpoint.tensors.items() if name.startswith("adapter.")}
    network = build_model_without_weights(checkpoint)
    write_adapter(folder, network, ResolvedWeights(tensors), os.path.relpath(model, folder))


def write_data(source: dict[str, Any]) -> None:
    """Write a small data set at the path of a configuration's source."""
    kind, root = source["kind"], Path(source.get("root", "."))
    root.mkdir(parents=True, exist_ok=True)
    if kind == "sa1b":
        rng = np.random.default_rng(0)
        for number in range(3):
            cv2.imwrite(str(root / f"sa_{number}.jpg"), rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
            boxes = [(10 + 50 * k, 20, 40, 60) for k in range(3)]
            annotations = [
                {"id": k, "segmentation": masks.from_box(box, 120, 160).model_dump()} for k, box in enumerate(boxes)
            ]
            image = {"image_id": number, "width": 160, "height": 120, "file_name": f"sa_{number}.jpg"}
            (root / f"sa_{number}.json").write_text(json.dumps({"image": image, "annotations": annotations}))
        index = {"images": [{"file_name": f"sa_{number}.jpg"} for number in range(3)]}
        Path(source["index"]).write_text(json.dumps(index))
    elif kind == "ytvos":
        generate(root, SynthOptions(videos=4, frames=6, width=320, height=180))
    elif kind == "build":
        stage2_world.make_build(Path(source["path"]), 4)
    else:
        path = Path(source["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind in ("llava", "sharegpt4o"):
            talk = stage2_world.write_talk(root)
            records = json.loads(talk.read_text())
            lines = "".join(json.dumps(record) + "\n" for record in records)
            path.write_text(lines if kind == "sharegpt4o" else json.dumps(records))
        else:
            sft.write([stage2_world.make_case(k, root, 3, "mask", "same pattern") for k in range(2)], path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_configuration(name: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(SHIPPED[name].read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    model = Path(content["model"])
    model.parent.mkdir(parents=True)
    model.symlink_to(make_model(models, model.name))
    if adapter := read_adapter_path(content):
        write_adapter_of(model, Path(adapter))
    for source in content["data"]["sources"]:
        write_data(source)

    def load(*_: object) -> None:
        raise AssertionError("a dry run loads no model")

    for stage in (stage1, stage2):
        monkeypatch.setattr(stage, "build_model", load)
    before = tree(tmp_path)
    result = CliRunner().invoke(main, ["train", str(SHIPPED[name]), "--dry-run", "--set", "trainer.num_workers=0"])
    assert result.exit_code == 0, (result.output, result.exception)
    facts = json.loads(result.output)
    assert facts["steps"] >= 1
    assert facts["memory_mb_per_process"]["frozen_weights"] > 0
    assert tree(tmp_path) == before, "a dry run writes nothing"


def test_both_stages_of_a_model_name_its_folder_alike() -> None:
    contents = {name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in SHIPPED.items()}
    for name, content in contents.items():
        other = name.replace("finetune/", "pretrain/").removesuffix("_objects")
        if name != other and (adapter := read_adapter_path(content)):
            assert content["model"] == contents[other]["model"], name
            assert adapter == f"{contents[other]['output_dir']}/final", name


@pytest.mark.parametrize("size", [(4000, 16), (3201, 16), (20, 12)])
def test_an_image_that_no_family_can_cut_is_refused_before_it_is_read(size: tuple[int, int]) -> None:
    for family in ("internvl-phi3", "qwen2_vl", "llava"):
        processor = build_image_processor(tiny_config(family), {})
        with pytest.raises(ValueError, match=f"image: {size[0]} x {size[1]} pixels; expected sides"):
            processor.count_tokens(*size)
