"""What holds for every expert."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from colva.model.experts import EXPERTS, Expert, build_expert, default_config, tiny_config
from mmvm_data.core.errors import UsageError

KINDS = sorted(EXPERTS)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make(kind: str, seed: int = 0, **fields: object) -> Expert:
    """A toy expert in which no part is switched off: GRN and biases start at zero."""
    torch.manual_seed(seed)
    expert = build_expert(kind, tiny_config(kind) | fields)
    with torch.no_grad():
        for parameter in expert.parameters():
            inputs = parameter[0].numel() if parameter.ndim > 1 else 400
            parameter.add_(torch.randn_like(parameter) * inputs**-0.5)
    return expert


def pictures(expert: Expert, rows: int = 3, columns: int = 2, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, rows * expert.stride, columns * expert.stride, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_have_the_announced_shape_grid_and_dtype(kind: str) -> None:
    expert = make(kind)
    features = expert(pictures(expert))
    assert features.grid == (3, 2)
    assert features.tokens.shape == (2, 6, expert.hidden_size)
    assert features.tokens.dtype == torch.float32
    assert features.tokens.std() > 0
    for count in (0, 1):
        assert expert(pictures(expert, count=count)).tokens.shape == (count, 6, expert.hidden_size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("row", "column"), [(1, 3), (2, 1), (1, 2)])
def test_tokens_come_row_by_row(kind: str, row: int, column: int) -> None:
    """The pixels that a token depends on most lie about its square's middle (MobileNetV2: corner, see there)."""
    expert = make(kind)
    s = expert.stride
    shape = 1, 3, 4 * s, 5 * s
    pull = torch.zeros(shape[2:])
    for seed in range(4):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        token = expert(images).tokens[0, row * 5 + column]
        (gradient,) = torch.autograd.grad(token.square().sum(), images)
        pull += gradient[0].abs().sum(0)
    if kind == "mobilenetv2":
        pull = pull.roll((s // 2, s // 2), (0, 1))
    assert divmod(int(pull.view(4, s, 5, s).sum((1, 3)).argmax()), 5) == (row, column)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_alone_has_the_tokens_it_has_in_a_batch(kind: str) -> None:
    expert = make(kind)
    images = pictures(expert, count=3)
    with torch.no_grad():
        torch.testing.assert_close(expert(images).tokens[1:2], expert(images[1:2]).tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_config_and_state_dict_rebuild_it(kind: str) -> None:
    expert = make(kind, seed=3)
    config = json.loads(json.dumps(expert.config))
    assert config == tiny_config(kind)
    again = build_expert(kind, config)
    again.load_state_dict(expert.state_dict())
    images = pictures(expert)
    assert torch.equal(again(images).tokens, expert(images).tokens)
    assert (again.hidden_size, again.stride, again.kind) == (expert.hidden_size, expert.stride, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_holds_parameters_and_known_buffers_only(kind: str) -> None:
    expert = make(kind)
    buffers = set(expert.state_dict()) - {name for name, _ in expert.named_parameters()}
    known = {"summary_idxs", "input_conditioner.norm_mean", "input_conditioner.norm_std"}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert all(name in known or name.endswith(statistics) for name in buffers)
    assert {name for name, _ in expert.named_parameters()} <= set(expert.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_every_parameter_and_the_image(kind: str) -> None:
    expert = make(kind)
    images = pictures(expert).requires_grad_()
    expert(images).tokens.square().sum().backward()
    without = [name for name, p in expert.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert sum(bool(p.grad is not None and p.grad.abs().sum() > 0) for p in expert.parameters()) > 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [1, 2])
def test_gradients_equal_finite_differences(kind: str, layout: torch.memory_format, count: int) -> None:
    expert = make(kind).double().to(memory_format=layout)
    images = pictures(expert, count=count).double().contiguous(memory_format=layout).requires_grad_()
    generator = torch.Generator().manual_seed(2)

    def like(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    weights = like(expert(images).tokens)
    inputs = [images, *expert.parameters()]
    gradients = torch.autograd.grad((expert(images).tokens * weights).sum(), inputs)
    step = 1e-6 if kind == "mobilenetv2" else 1e-4  # ReLU6 has corners; some positions are resized in float32
    for chosen in ([0], range(1, len(inputs))):
        directions = {i: like(inputs[i]) for i in chosen}
        ends = []
        with torch.no_grad():
            for move in (step, -2 * step, step):  # there, back to the other side, and home
                for i, direction in directions.items():
                    inputs[i] += move * direction
                ends.append(float((expert(images).tokens * weights).sum()))
        slope = sum(float((gradients[i] * direction).sum()) for i, direction in directions.items())
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_it_has_no_graph_and_train_changes_nothing(kind: str) -> None:
    expert = make(kind).requires_grad_(False)
    images = pictures(expert)
    before = {name: tensor.clone() for name, tensor in expert.state_dict().items()}
    first = expert(images).tokens
    holder = torch.nn.ModuleList([expert]).train()
    second = expert(images).tokens
    assert not first.requires_grad
    assert holder.training and not any(module.training for module in expert.modules())
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in expert.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_and_autocast_stay_near_float32(kind: str) -> None:
    expert = make(kind)
    images = pictures(expert)
    with torch.no_grad():
        exact = expert(images).tokens
        with torch.autocast("cpu", torch.bfloat16):
            mixed = expert(images).tokens
        half = expert.bfloat16()(images.bfloat16()).tokens
    assert half.dtype == torch.bfloat16
    for rough in (mixed.float(), half.float()):
        assert (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_it_compiles_to_one_graph(kind: str) -> None:
    expert = make(kind)
    compiled = torch.compile(expert, fullgraph=True, backend="eager")
    images = pictures(expert)
    features = compiled(images)
    assert features.grid == (3, 2)
    torch.testing.assert_close(features.tokens, expert(images).tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_on_no_device_can_be_filled_later(kind: str) -> None:
    expert = make(kind)
    with torch.device("meta"):
        empty = build_expert(kind, tiny_config(kind))
    empty = empty.to_empty(device="cpu")
    empty.load_state_dict(expert.state_dict())
    images = pictures(expert)
    assert torch.equal(empty(images).tokens, expert(images).tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_images_it_cannot_take_are_refused(kind: str) -> None:
    expert = make(kind)
    s = expert.stride
    good = pictures(expert)
    for images, error, message in [
        ((good * 255).to(torch.uint8), TypeError, "floats in \\[0, 1\\], found torch.uint8"),
        (good * 255, ValueError, "values from .* expected \\[0, 1\\]"),
        ((good - 0.45) / 0.2, ValueError, "before any normalization"),
        (torch.full_like(good, math.nan), ValueError, "values from nan"),
        (good[0], ValueError, "expected \\[b, 3, H, W\\], found \\[3,"),
        (good[:, :1], ValueError, "expected \\[b, 3, H, W\\], found \\[2, 1,"),
        (good[..., :-1], ValueError, f"{3 * s} x {2 * s - 1} pixels, expected multiples of {s} .*{3 * s} x {2 * s}"),
        (good[..., : s // 2, :], ValueError, f"multiples of {s}"),
        (good[..., :0], ValueError, f"multiples of {s}"),
    ]:
        with pytest.raises(error, match=message):
            expert(images)
    overshoot = good.clone()
    overshoot[0, 0, 0, 0], overshoot[0, 0, 0, 1] = -0.2, 1.2
    expert(overshoot)  # what bicubic resizing leaves


def test_names_that_are_not_known_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown expert 'dinov4'; did you mean 'dinov"):
        build_expert("dinov4", {})
    with pytest.raises(UsageError, match="expert radio: unknown field 'hiden_size'; did you mean 'hidden_size'"):
        build_expert("radio", {"hiden_size": 64})
    with pytest.raises(UsageError, match="expert dinov2: unknown size 'larg'; did you mean 'large'"):
        default_config("dinov2", "larg")
    with pytest.raises(UsageError, match="unknown expert 'radio2'; did you mean 'radio'"):
        tiny_config("radio2")


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("radio", {"hidden_size": "wide"}, "radio: hidden_size: .*found 'wide'"),
        ("radio", {"hidden_size": 0}, "radio: hidden_size: .*greater than 0"),
        ("radio", {"hidden_size": 65, "heads": 4}, "hidden_size 65 must be a multiple of heads 4"),
        ("radio", {"max_size": 100}, "max_size 100 must be a multiple of patch_size 16"),
        ("radio", {"summary_idxs": [9]}, "summary_idxs \\[9\\]: expected 0 .. 3"),
        ("dinov2", {"num_attention_heads": 7}, "multiple of num_attention_heads 7"),
        ("dinov3", {"hidden_size": 36, "num_attention_heads": 18}, "multiple of 4 x num_attention_heads"),
        ("convnextv2", {"depths": [1, 1]}, "4 hidden_sizes and 2 depths"),
        ("convnextv2", {"stage": 5}, "stage 5: expected 1 .. 4"),
        ("mobilenetv2", {"blocks": 17}, "blocks: .*less than or equal to 16"),
        ("mobilenetv2", {"output_stride": 4}, "output_stride: .*8, 16 or 32"),
    ],
)
def test_fields_that_do_not_fit_are_refused(kind: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_expert(kind, fields)


# Parameters in millions as the authors publish them: DINOv2's model card, table 1 of DINOv3, ConvNeXt V2's read-me
# (with its classifier of 1000), RADIO's read-me.
@pytest.mark.parametrize(
    ("kind", "size", "millions", "classifier"),
    [
        ("radio", "huge", 653, 0),
        ("radio", "large", 320, 0),
        ("radio", "base", 98, 0),
        ("dinov2", "small", 21, 0),
        ("dinov2", "base", 86, 0),
        ("dinov2", "large", 300, 0),
        ("dinov2", "giant", 1100, 0),
        ("dinov3", "small", 21, 0),
        ("dinov3", "small-plus", 29, 0),
        ("dinov3", "base", 86, 0),
        ("dinov3", "large", 300, 0),
        ("dinov3", "huge-plus", 840, 0),
        ("dinov3", "7b", 6716, 0),
        ("convnextv2", "atto", 3.7, 320),
        ("convnextv2", "femto", 5.2, 384),
        ("convnextv2", "pico", 9.1, 512),
        ("convnextv2", "nano", 15.6, 640),
        ("convnextv2", "tiny", 28.6, 768),
        ("convnextv2", "base", 89, 1024),
        ("convnextv2", "large", 198, 1536),
        ("convnextv2", "huge", 660, 2816),
    ],
)
def test_published_sizes_have_their_published_number_of_parameters(
    kind: str, size: str, millions: float, classifier: int
) -> None:
    with torch.device("meta"):
        expert = build_expert(kind, default_config(kind, size))
    counted = sum(p.numel() for p in expert.parameters()) + 1001 * classifier
    assert counted / 1e6 == pytest.approx(millions, rel=0.06)


def test_usual_sizes_are_the_published_ones() -> None:
    found = {}
    for kind in EXPERTS:
        with torch.device("meta"):
            expert = build_expert(kind, default_config(kind))
        found[kind] = expert.hidden_size, expert.stride
    assert found == {
        "radio": (1280, 16),
        "dinov2": (1024, 14),
        "dinov3": (1024, 16),
        "convnextv2": (1536, 32),
        "mobilenetv2": (96, 16),
    }
