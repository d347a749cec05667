"""MobileSAM: our encoder, its published weights where they are at hand, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mmvm_data.core.errors import InputError
from mmvm_data.core.options import OptionError

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'mmvm-data[train]'")
pytest.importorskip("transformers")

from mmvm_data.annotation.tracks import mobile_sam  # noqa: E402 - needs torch


@pytest.fixture(scope="module")
def weights() -> Path:
    """The published file, named by MOBILE_SAM."""
    path = Path(os.environ.get("MOBILE_SAM", "mobile_sam.pt"))
    if not path.is_file():
        pytest.skip("set MOBILE_SAM to the published mobile_sam.pt")
    return path


def test_the_encoder_has_the_shapes_of_the_published_one() -> None:
    torch.manual_seed(0)
    encoder = mobile_sam.TinyVit().eval()
    assert sum(p.numel() for p in encoder.parameters()) == 5_743_892
    block = encoder.layers[2].blocks[0]
    assert block.attn.attention_biases.shape == (5, 14 * 14)
    x = torch.randn(1, 30, 45, 160)  # neither side is a multiple of the window
    with torch.inference_mode():
        assert block(x).shape == x.shape


def test_attention_has_a_bias_for_each_distance() -> None:
    torch.manual_seed(0)
    attention = mobile_sam._Attention(8, 2, 3).eval()
    torch.nn.init.normal_(attention.attention_biases)
    x = torch.randn(2, 9, 8)
    qkv = attention.qkv(attention.norm(x)).view(2, 9, 2, 12)
    query, key, value = (part.permute(0, 2, 1, 3) for part in qkv.split(4, dim=3))
    scores = query @ key.transpose(2, 3) / 2
    distances: list[tuple[int, int]] = []
    for a in range(9):
        for b in range(9):
            distance = abs(a // 3 - b // 3), abs(a % 3 - b % 3)
            if distance not in distances:
                distances.append(distance)
            scores[:, :, a, b] += attention.attention_biases[:, distances.index(distance)]
    expected = attention.proj((scores.softmax(-1) @ value).transpose(1, 2).reshape(2, 9, 8))
    assert torch.allclose(attention(x), expected, atol=1e-6)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mobile_sam.pt"
    with pytest.raises(InputError, match="cannot be read"):
        mobile_sam.MobileSam(path)
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read"):
        mobile_sam.MobileSam(path)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(InputError, match="expected a file of tensors by name"):
        mobile_sam.MobileSam(path)
    torch.save({"image_encoder.neck.1.weight": torch.ones(256)}, path)
    with pytest.raises(InputError, match="weights of another model: it lacks patch_embed"):
        mobile_sam.MobileSam(path)


def test_the_published_weights_draw_what_is_clicked(weights: Path) -> None:
    image = np.full((300, 400, 3), 90, np.uint8)
    image += np.random.default_rng(0).integers(0, 20, image.shape, dtype=np.uint8)
    image[80:200, 120:260] = (30, 40, 210)
    model = mobile_sam.MobileSam(weights, "cpu")
    embedding = model.embed(image)
    truth = np.zeros((300, 400), bool)
    truth[80:200, 120:260] = True
    for prompt in ({"clicks": [(190.0, 140.0)]}, {"box": (118.0, 78.0, 144.0, 124.0)}):
        masks, scores, logits = model.segment(embedding, **prompt)  # type: ignore[arg-type]
        assert (masks.shape, scores.shape, logits.shape) == ((3, 300, 400), (3,), (3, 256, 256))
        best = masks[int(scores.argmax())]
        assert (best & truth).sum() / (best | truth).sum() > 0.95
    again, _, _ = model.segment(embedding, clicks=[(190.0, 140.0)], logits=logits[int(scores.argmax())])
    assert max((mask & truth).sum() / (mask | truth).sum() for mask in again) > 0.95
    cells = model.features(embedding)
    assert cells.shape == (256, 64, 64) and np.allclose(np.linalg.norm(cells, axis=0), 1, atol=1e-5)
    with pytest.raises(OptionError, match="device must be a device that torch can use"):
        mobile_sam.MobileSam(weights, "no-such-device")
