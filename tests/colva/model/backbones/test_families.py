"""Every family against transformers' own: logits, positions, generation by hand, checkpoints, where tokens lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_clip import CLIPImageProcessor

from colva.model.backbones.tiny import FAMILIES, tiny_config
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.processing.image_processors import build_image_processor

OBJECT = 200
QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
PICTURES = {
    "qwen2_vl": {"min_pixels": 1024, "max_pixels": 6000},
    "qwen2_5_vl": {"min_pixels": 1024, "max_pixels": 6000},
}
PICTURES["qwen3_vl"] = PICTURES["qwen2_vl"]


def model_of(family, tied=False):
    torch.manual_seed(3)
    native = tiny_config(family, tied=tied)
    config = ColvaConfig(
        native, pictures=PICTURES.get(family), image_token_id=native.image_token_id, object_token_id=OBJECT
    )
    return ColvaModel(config).eval()


def sample(model, sizes, objects, seed):
    """Ids, pictures and object embeddings of one sample."""
    rng = np.random.default_rng(seed)
    config = model.config.backbone_config
    prepare = build_image_processor(config, model.config.pictures)
    made = [prepare(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    ids = [5, 6]
    for picture in made:
        assert picture.num_tokens == picture.geometry.num_tokens
        wrap = (
            (config.vision_start_token_id, config.vision_end_token_id)
            if hasattr(config, "vision_start_token_id")
            else (7, 8)
        )
        ids += [wrap[0], *[config.image_token_id] * picture.num_tokens, wrap[1], 9]
    ids += [token for n in range(objects) for token in (20 + n, OBJECT)] + [11]
    vectors = torch.randn(objects, 64, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(ids), made, vectors


def batch(samples, left=True):
    length = max(len(ids) for ids, _, _ in samples)
    ids = torch.full((len(samples), length), 2)
    mask = torch.zeros_like(ids)
    for row, (found, _, _) in enumerate(samples):
        at = slice(length - len(found), None) if left else slice(0, len(found))
        ids[row, at], mask[row, at] = found, 1
    pictures = [picture for _, made, _ in samples for picture in made]
    given = {"input_ids": ids, "attention_mask": mask, "object_embeddings": torch.cat([v for _, _, v in samples])}
    if pictures:
        given["pixel_values"] = torch.cat([p.pixels for p in pictures])
        given["image_grid"] = torch.tensor([p.grid for p in pictures])
    return given


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_are_the_native_models(family):
    model = model_of(family)
    inputs = batch([sample(model, [(40, 64), (60, 30)], 0, 1), sample(model, [(50, 50)], 0, 2)])
    ours = model(**inputs).logits
    native = {k: inputs[k] for k in ("input_ids", "attention_mask", "pixel_values")}
    if family in QWEN:
        native["image_grid_thw"] = inputs["image_grid"]
    elif family == "llava_onevision":  # as in a conversation with several images
        native |= {"image_sizes": torch.tensor([[40, 64], [60, 30], [50, 50]]), "batch_num_images": torch.tensor([3])}
    elif native["pixel_values"].dtype == torch.uint8:
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
        native["pixel_values"] = (native["pixel_values"].float() / 255 - mean) / std
    if family not in QWEN:
        native["position_ids"] = model.compute_position_ids(inputs["input_ids"], inputs["attention_mask"], None)
    theirs = model.backbone.model(**native).logits
    keep = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours[keep], theirs[keep], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_padding_changes_nothing(family):
    model = model_of(family)
    samples = [sample(model, [(40, 64), (60, 30)], 3, 1), sample(model, [(50, 50)], 1, 2)]
    for left in (True, False):
        inputs = batch(samples, left)
        logits = model(**inputs).logits
        for row, one in enumerate(samples):
            alone = model(**batch([one])).logits[0]
            torch.testing.assert_close(logits[row][inputs["attention_mask"][row].bool()], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_generation_is_a_loop_without_cache(family, beams):
    model = model_of(family)
    samples = [sample(model, [(40, 64), (60, 30)], 3, 1), sample(model, [(50, 50)], 1, 2)]
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 2, "num_beams": beams}
    made = model.generate(**batch(samples), **options)
    for row, (ids, pictures, vectors) in enumerate(samples):
        paths = [([], 0.0)]
        for _ in range(4):
            grown = []
            for path, score in paths:
                logits = model(
                    **batch([(torch.cat([ids, torch.tensor(path, dtype=ids.dtype)]), pictures, vectors)])
                ).logits
                scores = logits[0, -1].log_softmax(-1)
                grown += [([*path, int(t)], score + float(scores[t])) for t in scores.topk(beams).indices]
            paths = sorted(grown, key=lambda pair: -pair[1])[:beams]
        assert made[row].tolist() == paths[0][0]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_backward_save_and_load(family, tied, tmp_path):
    model = model_of(family, tied)
    inputs = batch([sample(model, [(40, 64)], 2, 1)])
    inputs["object_embeddings"].requires_grad_()
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert inputs["object_embeddings"].grad.abs().sum() > 0
    model.save_pretrained(tmp_path)
    again = ColvaModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits, atol=0, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_permuted_objects_permute_object_tokens_alone(family):
    model = model_of(family)
    inputs = batch([sample(model, [(40, 64)], 3, 1)])
    encoded = model.backbone.encode(inputs["pixel_values"], inputs["image_grid"])
    order = torch.tensor([2, 0, 1])
    first, _ = model.embed_inputs(inputs["input_ids"], encoded, inputs["object_embeddings"])
    second, _ = model.embed_inputs(inputs["input_ids"], encoded, inputs["object_embeddings"][order])
    places = inputs["input_ids"] == OBJECT
    assert torch.equal(first[places][order], second[places])
    assert torch.equal(first[~places], second[~places])


NATIVE = {}


@pytest.mark.parametrize("family", QWEN)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3)), max_size=8), min_size=1, max_size=3
    )
)
def test_positions_are_get_rope_index(family, layout):
    model = NATIVE.setdefault(family, model_of(family))
    config = model.config.backbone_config
    rows, grids = [], []
    for pictures in layout:
        ids = [5]
        for h, w, objects in pictures:
            ids += [config.vision_start_token_id, *[config.image_token_id] * (h * w), config.vision_end_token_id]
            ids += [OBJECT] * objects
            grids.append((1, 2 * h, 2 * w))
        rows.append((torch.tensor(ids), [], torch.zeros(0, 64)))
    inputs = batch(rows)
    grid = torch.tensor(grids) if grids else None
    theirs, _ = model.backbone.model.model.get_rope_index(
        inputs["input_ids"], image_grid_thw=grid, attention_mask=inputs["attention_mask"]
    )
    ours = model.compute_position_ids(inputs["input_ids"], inputs["attention_mask"], grid)
    keep = inputs["attention_mask"].bool()
    assert torch.equal(ours[:, keep], theirs[:, keep])


def test_qwen3_without_mask_or_cache_is_the_same():
    model = model_of("qwen3_vl")
    inputs = batch([sample(model, [(40, 64)], 1, 1)])
    with torch.no_grad():
        masked = model(**inputs, use_cache=False).logits
        del inputs["attention_mask"]
        torch.testing.assert_close(model(**inputs, use_cache=False).logits, masked, atol=1e-5, rtol=0)


def light_of(picture: np.ndarray, mask: torch.Tensor, prepare, patches: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean light of each token's pixels as the encoder gets them, and which tokens the mask covers."""
    made = prepare(picture)
    rows, columns = made.grid[1] // patches, made.grid[2] // patches
    if made.pixels.ndim == 4:
        side = made.pixels.shape[-1] // rows
        light = made.pixels[0].mean(0).reshape(rows, side, columns, side).mean((1, 3)).flatten()
    else:  # patches of one token follow one another
        light = made.pixels.reshape(rows * columns, -1).mean(1)
    return light, made.geometry.token_mask(mask)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava-pad", "llava-crop"])
def test_tokens_lie_where_the_geometry_says(family):
    name, _, fit = family.partition("-")
    config = tiny_config(name)
    options = {"fit": fit} if fit else {"min_pixels": 1024, "max_pixels": 10**6}
    prepare = build_image_processor(config, options)
    height, width = (80, 160) if fit else (256, 448)
    picture = np.zeros((height, width, 3), np.uint8)
    mask = torch.zeros(2, height, width, dtype=torch.bool)
    mask[0, : height // 2, width // 2 : 3 * width // 4] = True
    mask[1, :, : width // 4] = True  # outside of the crop
    picture[mask[0].numpy()] = 255
    light, cells = light_of(picture, mask, prepare, 1 if fit else 2)
    assert cells[0].any()
    assert light[cells[0]].min() > light[~cells[0]].max()
    assert bool(cells[1].any()) == (fit != "crop")
    assert prepare(picture).geometry.is_out_of_view(mask).tolist() == [False, fit == "crop"]


def test_llava_pads_with_the_mean_color():
    config = tiny_config("llava")
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    square = Image.new("RGB", (90, 90), (122, 116, 104))
    square.paste(Image.fromarray(picture), (0, 15))
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    wanted = processor(square, return_tensors="pt")["pixel_values"]
    assert torch.equal(build_image_processor(config, {})(picture).pixels, wanted)


def test_options_that_a_family_does_not_have_are_named():
    for family, expected in (("qwen2_vl", "min_pixels, max_pixels"), ("llava", "must be fit; got max_tiles")):
        config = tiny_config(family)
        with pytest.raises(ValueError, match=expected):
            build_image_processor(config, {"max_tiles": 3})


def test_grids_that_do_not_fit_their_tokens_are_named():
    config = tiny_config("qwen2_vl")
    prepare = build_image_processor(config, {})
    ids = torch.tensor([5, *[config.image_token_id] * 3, 6])
    with pytest.raises(
        ValueError, match=r"image at token 1: expected 4 image tokens in a row for image_grid \[1, 4, 4\]"
    ):
        prepare.position_ids(ids, iter([(1, 4, 4)]))
    with pytest.raises(ValueError, match="no image_grid is left"):
        prepare.position_ids(ids, iter([]))
