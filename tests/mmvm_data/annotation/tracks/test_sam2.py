"""SAM 2's own classes with a tiny random checkpoint: the path, the coordinates and the refusals, not the quality."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmvm_data.annotation.tracks import commands
from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.interpret import read_tracks
from mmvm_data.annotation.tracks.layout import iter_shots
from mmvm_data.annotation.tracks.propose import ProposalOptions, propose_tracks
from mmvm_data.annotation.tracks.pull import pull
from mmvm_data.annotation.tracks.push import push
from mmvm_data.annotation.tracks.sam2 import Prompt, Sam2
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import OptionError
from mmvm_data.io import media
from tests.mmvm_data.annotation.conftest import Studio
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.mmvm_data.annotation.tracks.test_assist import click
from tests.mmvm_data.annotation.tracks.test_tracks import invoke, submit, tasks_of
from tests.ports import free_port

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'mmvm-data[train]'")
transformers = pytest.importorskip("transformers")
IMAGENET_DEFAULT_MEAN = transformers.image_utils.IMAGENET_DEFAULT_MEAN
IMAGENET_DEFAULT_STD = transformers.image_utils.IMAGENET_DEFAULT_STD


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM 2 of 64 x 64 pixels with random weights."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 1, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        global_attention_blocks=[],
        window_positional_embedding_background_size=[2, 2],
        window_size_per_stage=[4, 2, 2, 2],
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[128, 64, 32, 16],
        fpn_hidden_size=128,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )
    decoder = {"hidden_size": 128, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config=decoder | {"iou_head_hidden_dim": 16},
        image_size=64,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
        memory_fuser_num_layers=1,
    )
    folder = tmp_path_factory.mktemp("sam2") / "tiny"
    transformers.Sam2VideoModel(config).save_pretrained(folder)
    return folder


def frames(count: int = 4) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, 255, (54, 96, 3), dtype=np.uint8) for i in range(count)]


def test_boxes_clicks_and_masks_are_followed(checkpoint: Path) -> None:
    marked = np.zeros((54, 96), np.uint8)
    marked[10:30, 20:50] = 1
    prompts = {
        "1": Prompt(box=(5, 6, 20, 30)),
        "2": Prompt(clicks=((50, 20),)),
        "7": Prompt(mask=masks.encode(marked)),
    }
    model = Sam2(checkpoint, "cpu")
    found = model.propagate(frames(), prompts)
    assert len(found) == 4
    assert all(rle.size == (54, 96) for at in found for rle in at.values())
    assert set().union(*found) == {"1", "2", "7"}
    # a mask that is given is kept in its own frame, up to the model's size
    assert masks.iou([found[0]["7"]], [masks.encode(marked)])[0, 0] > 0.9
    assert model.propagate(frames(), prompts) == found
    alone = model.propagate(frames(), {"7": prompts["7"]})
    assert [at.get("7") for at in alone] == [at.get("7") for at in found]


def test_marks_and_pixels_are_what_the_published_processor_makes(checkpoint: Path) -> None:
    """transformers' processor needs torchvision for pictures; its scaling of coordinates is arithmetic."""
    model = Sam2(checkpoint, "cpu")
    made = model._scale_points(Prompt(box=(12, 27, 24, 13.5), clicks=((48, 27),)), 54, 96)
    assert made["point_coords"].tolist() == [[[[8.0, 32.0], [24.0, 48.0], [32.0, 32.0]]]]
    assert made["point_labels"].tolist() == [[[2, 3, 1]]]
    grey = np.full((54, 96, 3), (10, 100, 200), np.uint8)  # blue first
    wanted = (np.array([200, 100, 10]) / 255 - IMAGENET_DEFAULT_MEAN) / IMAGENET_DEFAULT_STD
    assert np.allclose(model._preprocess_frame(grey)[:, 5, 5].numpy(), wanted, atol=1e-5)


def test_other_folders_are_refused_as_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: file is missing"):
        Sam2(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="checkpoint cannot be loaded"):
        Sam2(broken)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="expected sam2_video, found 'bert'"):
        Sam2(other)


def test_nothing_of_mmvm_data_imports_torch() -> None:
    code = "import sys, mmvm_data.cli, mmvm_data.annotation.tracks.sam2; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[4]).returncode == 0


def test_a_device_that_torch_lacks_and_options_that_are_not_valid(checkpoint: Path) -> None:
    with pytest.raises(OptionError, match="device must be a device that torch can use, got 'gpu'"):
        Sam2(checkpoint, "gpu")
    with pytest.raises(OptionError, match="editor must be 'polygon' or 'brush', got 'pencil'"):
        ProposalOptions(model="tiny", editor="pencil")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="model is missing"):
        ProposalOptions()  # type: ignore[call-arg]


@pytest.mark.slow
@pytest.mark.xdist_group("label-studio")
def test_a_click_and_a_box_become_predictions_that_are_pulled_once_corrected(studio: Studio, checkpoint: Path) -> None:
    folder = studio.files / "followed"
    folder.mkdir()
    assert cut_clips([write_clip(folder / "a.mp4", (30, 30, 30))], folder, CutOptions(max_frames=3)).problems == []
    client = studio.client()
    project = push(folder, client, "followed").project
    tasks, shots = tasks_of(client, project), dict(iter_shots(folder))
    one, two, _ = sorted(shots)

    def mark(kind: str, value: dict[str, float], label: str, picture: int) -> list[dict[str, object]]:
        common = {"id": f"{kind}{label}", "to_name": "original1", "original_width": 160, "original_height": 120}
        common |= {"item_index": picture}
        name = "click1" if kind == "keypoint" else f"{kind}1"
        labels = {"type": "labels", "from_name": "object1", "value": value | {"labels": [label]}}
        return [common | {"type": kind, "from_name": name, "value": value}, common | labels]

    box = mark("rectangle", {"x": 6, "y": 33, "width": 31, "height": 42, "rotation": 0}, "1", 0)
    submit(studio, tasks[one], [*box, *mark("keypoint", {"x": 50, "y": 50, "width": 0.3}, "5", 0)])
    submit(studio, tasks[two], mark("rectangle", {"x": 6, "y": 33, "width": 31, "height": 42}, "1", 1))
    model = Sam2(checkpoint, "cpu")
    done = propose_tracks(folder, client, project, model, ProposalOptions(model="tiny"))
    assert (done.proposed, done.drawn_further, done.unmarked, done.problems) == ([one], 1, 1, [])
    (prediction,) = client.get_task(tasks[one]["id"])["predictions"]
    assert {r["item_index"] for r in prediction["result"]} == {0, 1, 2}
    assert propose_tracks(folder, client, project, model, ProposalOptions(model="tiny")).unchanged == 1
    brushed = propose_tracks(folder, client, project, model, ProposalOptions(model="tiny", editor="brush"))
    assert brushed.proposed == [one]
    (prediction,) = client.get_task(tasks[one]["id"])["predictions"]
    assert prediction["result"][0]["type"] == "brush"
    # the person copies the prediction, takes one object away, and submits
    corrected = [r for r in prediction["result"] if not (r["item_index"] == 2 and "5-1" in r["id"])]
    submit(studio, tasks[one], corrected)
    assert one in pull(folder, client, project).changed
    video = read_tracks(one, shots[one], corrected).video
    assert (folder / f"tracks/{one}.json").read_text() == video.model_dump_json(indent=1) + "\n"
    assert [r.id for r in video.regions(2)] == ["1"]


@pytest.mark.slow
@pytest.mark.xdist_group("label-studio")
def test_the_editor_is_assisted_by_sam2(studio: Studio, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    folder = studio.files / "assisted-by-sam2"
    folder.mkdir()
    assert cut_clips([write_clip(folder / "a.mp4", (30,))], folder, CutOptions(max_frames=4)).problems == []
    client = studio.client()
    project = push(folder, client, "assisted-by-sam2").project
    ((name, shot),) = iter_shots(folder)
    asked = {"task": tasks_of(client, project)[name]["id"], "context": {"result": click(0.2, 0.5, picture=1)}}
    answers: list[list[dict[str, object]]] = []

    class Interrupted:
        """Waits like an Event for Ctrl-C, which comes when the editor has asked twice."""

        def wait(self) -> None:
            for _ in range(2):
                (backend,) = studio.request("GET", "/api/ml/", project=project.id).json()
                answer = studio.request("POST", f"/api/ml/{backend['id']}/interactive-annotating", asked).json()
                answers.append(answer["data"]["result"])
            raise KeyboardInterrupt

    monkeypatch.setattr(commands, "threading", SimpleNamespace(Thread=threading.Thread, Event=Interrupted))
    options = ["--sam2", checkpoint, "--device", "cpu", "--port", free_port(), "--project", "assisted-by-sam2"]
    output = invoke("ingest", "assist", folder, *options)
    assert "assisting at http://127.0.0.1:" in output
    first, again = answers
    assert first == again
    video = read_tracks(name, shot, first).video
    assert 1 in video.annotated and set(video.annotated) <= {1, 2, 3}
    alone = Sam2(checkpoint, "cpu").propagate(
        [media.read_frame_bgr(folder, frame) for frame in shot.frames[1:]], {"2": Prompt(clicks=((32.0, 60.0),))}
    )
    expected = {1 + k: found["2"] for k, found in enumerate(alone) if found}
    assert {k: video.regions(k)[0].mask for k in video.annotated} == expected
