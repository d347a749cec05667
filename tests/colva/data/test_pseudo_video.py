from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from colva.data import pairs
from colva.data.pairs import PairSource, open_pair_source
from colva.data.pseudo_video import (
    EncoderSpec,
    PairDataset,
    PairOptions,
    collate_pairs,
    compute_token_masks,
    count_anchors,
    open_pair_sources,
)
from colva.model.token_grid import Grid, Span
from colva.processing.image_processors.internvl import InternVLImageProcessor
from colva.processing.tiling import expert_canvas, tile_image
from mmvm_data.core import augment, masks
from mmvm_data.core.errors import InputError, Reject, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench
from tests.worlds import davis

ENCODERS = EncoderSpec(InternVLImageProcessor(56, 2, 12), side=224, stride=16)


def make_blobs(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """Overlapping ellipses with holes."""
    bitmaps = np.zeros((count, height, width), np.uint8)
    for bitmap in bitmaps:
        center = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(5, width // 3)), int(rng.integers(5, height // 3)))
        cv2.ellipse(bitmap, center, axes, float(rng.integers(180)), 0, 360, 1, -1)
        cv2.circle(bitmap, center, 4, 0, -1)
    return bitmaps


@pytest.mark.parametrize("kind", ["published", "strong", None])
def test_token_masks_equal_those_of_warped_full_masks(kind: augment.ViewKind | None) -> None:
    """Compared with warping each full mask, then resizing it to both encoders' grids."""
    rng = np.random.default_rng(0)
    for trial in range(4):
        height, width = 150 + 70 * trial, 420 - 40 * trial
        bitmaps = make_blobs(rng, 6, height, width)
        view = augment.sample_views(kind, width, height, random.Random(trial), 1)[0] if kind else None
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        seen = image if view is None else augment.render_view(view, image)
        followed = torch.from_numpy(
            bitmaps if view is None else augment.warp_masks(augment.map_view_pixels(view), bitmaps)
        )
        expert, tiles = expert_canvas(seen, 224, 16)[1], tile_image(seen, 6, 16)[1]
        patches = [masks.crop(masks.encode(bitmap)) for bitmap in bitmaps]
        found = compute_token_masks(view, patches, width, (*expert.grids, *tiles.grids), 0.55)
        assert torch.equal(found[:, : expert.num_tokens], expert.token_mask(followed))
        assert torch.equal(found[:, expert.num_tokens :], tiles.token_mask(followed))
        assert found.any()


def test_an_empty_mask_covers_nothing() -> None:
    patch = masks.crop(masks.encode(np.zeros((40, 40), np.uint8)))
    assert not compute_token_masks(None, [patch], 40, [Grid(Span(4, 40, 40), Span(4, 40, 40))], 0.55).any()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("data") / "videos", videos=8)


def make_options(*sources: PairSource, **given: object) -> PairOptions:
    return PairOptions(sources=sources, **{"held_out_share": 0.25, **given})  # type: ignore[arg-type]


def make_datasets(options: PairOptions, seed: int = 0) -> tuple[PairDataset, PairDataset]:
    readers = open_pair_sources(options)
    return PairDataset(readers, ENCODERS, seed, options), PairDataset(readers, ENCODERS, seed, options, held_out=True)


def test_an_epoch_uses_every_video_and_none_that_is_held_out(videos: Path) -> None:
    options = make_options(PairSource(kind="davis", root=videos, repeat=3))
    train, held_out = make_datasets(options)
    assert (len(train), len(held_out)) == (18, 6)
    names = [train.locate(k)[1] for k in range(18)]
    kept = {held_out.locate(k)[1] for k in range(6)}
    assert sorted(names) == sorted(3 * sorted(set(names)))
    assert not kept & set(names)
    assert kept | set(names) == {f"clip{k:03d}" for k in range(8)}
    # the next epoch and another seed have another order, and the same part is held out
    assert [train.locate(k)[1] for k in range(18, 36)] != names
    other, other_held_out = make_datasets(options, seed=1)
    assert [other.locate(k)[1] for k in range(18)] != names
    assert {other_held_out.locate(k)[1] for k in range(6)} == kept


def test_an_item_is_a_function_of_its_ordinal(videos: Path) -> None:
    options = make_options(PairSource(kind="davis", root=videos, augmentation="strong"))
    (first, held_out), (second, _) = make_datasets(options), make_datasets(options)
    for ordinal in (7, 3):
        a, b = first[ordinal], second[ordinal]
        assert isinstance(a, Reject) == isinstance(b, Reject)
        if not isinstance(a, Reject) and not isinstance(b, Reject):
            for ours, theirs in zip(a.sides, b.sides, strict=True):
                assert torch.equal(ours.canvas, theirs.canvas)
                assert torch.equal(ours.key_cells, theirs.key_cells)
    again, changed = make_datasets(options, seed=9)[1][0], held_out[0]
    assert isinstance(again, Reject) == isinstance(changed, Reject)


def test_random_numbers_depend_on_seed_and_ordinal(videos: Path) -> None:
    options = make_options(PairSource(kind="davis", root=videos, repeat=4))
    (reader,) = open_pair_sources(options)
    draws: list[float] = []

    def read_pair(name: str, rng: random.Random) -> pairs.FramePair:
        draws.append(rng.random())
        return reader.read_pair(name, rng)

    spied = replace(reader, read_pair=read_pair)

    def draw(ordinal: int, seed: int, held_out: bool = False) -> float:
        PairDataset([spied], ENCODERS, seed, options, held_out)[ordinal]
        return draws[-1]

    assert draw(3, 0) == draw(3, 0)
    # an ordinal of the next epoch has another draw too
    assert len({draw(3, 0), draw(4, 0), draw(3, 1), draw(3 + 24, 0)}) == 4
    # held-out pairs are the same whatever the seed
    assert draw(3, 0, held_out=True) == draw(3, 1, held_out=True)


def test_max_held_out_limits_each_source(videos: Path) -> None:
    train, held_out = make_datasets(make_options(PairSource(kind="davis", root=videos), max_held_out=1))
    assert (len(train), len(held_out)) == (7, 1)


def test_the_threshold_decides_which_tokens_are_covered(videos: Path) -> None:
    options = make_options(PairSource(kind="davis", root=videos))
    readers = open_pair_sources(options)
    counts = []
    for threshold in (0.1, 0.55, 0.9):
        item = PairDataset(readers, replace(ENCODERS, threshold=threshold), 0, options)[0]
        assert not isinstance(item, Reject)
        counts.append([int(cells.sum()) for side in item.sides for cells in (side.expert_cells, side.key_cells)])
    low, middle, high = counts
    assert sum(low) > sum(middle) > sum(high)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeat": 0}, "repeat must be at least 1, got 0"),
        ({"max_gap": 1.5}, "max_gap must be an integer, got 1.5"),
        ({"augmentation": "stong"}, "augmentation must be 'published', 'strong' or 'none', got 'stong'"),
        ({"root": 3}, "root must be .* got 3"),
        ({"repeats": 2}, "repeats is an unknown option"),
    ],
)
def test_invalid_source_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PairSource(**{"kind": "coco", "root": Path("coco")} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out_share": -0.1}, r"held_out_share must be in \[0, 1\), got -0.1"),
        ({"max_held_out": 0}, "max_held_out must be at least 1, got 0"),
        ({"max_objects": -1}, "max_objects must be at least 0, got -1"),
        ({"pictures": {}}, "pictures is an unknown option"),
    ],
)
def test_invalid_data_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_options(PairSource(kind="coco", root=Path("coco")), **changes)


def test_an_object_has_one_number_in_both_frames_and_no_other_pair_shares_it(videos: Path) -> None:
    train, _ = make_datasets(make_options(PairSource(kind="davis", root=videos)))
    items = [item for item in (train[k] for k in range(4)) if not isinstance(item, Reject)]
    batch = collate_pairs(items)
    names = [name for item in items for side in item.sides for name in side.ids]
    pair = [number for number, item in enumerate(items) for side in item.sides for _ in side.ids]
    for a in range(len(names)):
        for b in range(len(names)):
            same = (names[a], pair[a]) == (names[b], pair[b])
            assert bool(batch["ids"][a] == batch["ids"][b]) == same
    assert batch["units"] == sum(map(count_anchors, items)) > 0
    assert batch["frames"].tolist() == sorted(batch["frames"].tolist())


def test_views_of_coco_images(realdata: Path) -> None:
    for augmentation in ("published", "strong"):
        train, held_out = make_datasets(
            make_options(PairSource(kind="coco", root=realdata / "coco", augmentation=augmentation))
        )
        assert (len(train), len(held_out)) == (78, 26)
        items = [train[k] for k in range(6)]
        assert any(not isinstance(item, Reject) for item in items)
        for item in items:
            if not isinstance(item, Reject):
                assert item.sides[0].canvas.shape == (3, 224, 224)
                assert not torch.equal(item.sides[0].canvas, item.sides[1].canvas)


def test_sa1b_by_folder_and_by_index(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(4):
        bitmaps = make_blobs(rng, 5, 120, 160)
        entries = [
            {"id": n, "segmentation": {"size": [120, 160], "counts": masks.encode(b).counts}}
            for n, b in enumerate(bitmaps)
        ]
        image = {"width": 160, "height": 120, "file_name": f"sa_{k}.jpg"}
        (tmp_path / f"sa_{k}.json").write_text(json.dumps({"image": image, "annotations": entries}))
        cv2.imwrite(str(tmp_path / f"sa_{k}.jpg"), rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
    whole = open_pair_source(PairSource(kind="sa1b", root=tmp_path))
    assert list(whole.names) == [f"sa_{k}" for k in range(4)]
    listed = tmp_path / "index.json"
    listed.write_text(json.dumps({"images": [{"file_name": "sa_2.jpg"}, {"file_name": "sa_0.jpg"}]}))
    lines = tmp_path / "index.txt"
    lines.write_text("sa_2.jpg\nsa_0.jpg\n")
    for index in (listed, lines):
        some = open_pair_source(PairSource(kind="sa1b", root=tmp_path, index=index))
        assert list(some.names) == ["sa_2.jpg", "sa_0.jpg"]
        ours, theirs = some.read_pair("sa_2.jpg", random.Random(1)), whole.read_pair("sa_2", random.Random(1))
        assert ours[0].view == theirs[0].view
        assert np.array_equal(ours[1].bgr, theirs[1].bgr)
        assert ours[0].rles == theirs[0].rles
    lines.write_text("../elsewhere.jpg\n")
    away = open_pair_source(PairSource(kind="sa1b", root=tmp_path, index=lines))
    with pytest.raises(InputError, match="must be relative"):
        away.read_pair("../elsewhere.jpg", random.Random(0))


def test_a_case_of_a_build_gives_its_query_and_its_candidates(videos: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from mmvm_data import cli

    words = [
        "build",
        "--source",
        "davis",
        "--root",
        str(videos),
        "--out",
        str(tmp_path / "build"),
        "--none-share",
        "0.3",
    ]
    done = CliRunner().invoke(cli.cli, words)
    assert done.exit_code == 0, done.output
    opened = open_pair_source(PairSource(kind="build", root=tmp_path / "build"))
    cases = list(bench.read(tmp_path / "build"))
    assert len(opened.names) == len(cases) > 3
    for name, case in zip(opened.names, cases, strict=True):
        if case.answer is None:
            with pytest.raises(InputError, match="none of the above"):
                opened.read_pair(name, random.Random(0))
            continue
        query, candidates = opened.read_pair(name, random.Random(0))
        assert query.ids == (str(case.answer),)
        assert candidates.ids == tuple(str(candidate.number) for candidate in case.candidates)
        assert query.rles == (case.query[-1].mask,)


def test_frames_of_a_video_are_at_most_max_gap_apart(videos: Path) -> None:
    source = PairSource(kind="davis", root=videos, max_gap=1)
    video = pairs.open_source("davis", videos).load("clip000")
    for seed in range(20):
        chosen = pairs._sample_positions(video, source.max_gap, random.Random(seed))
        assert chosen is not None
        assert abs(video.frames[chosen[0]].index - video.frames[chosen[1]].index) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "cocoo"}, "kind must be sa1b, coco, build"),
        ({"kind": "coco", "augmentation": "none"}, "the same image"),
        ({"kind": "davis", "augmentation": "published"}, "two views of one image"),
        ({"kind": "coco", "index": Path("x.json")}, "index is for sa1b"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(tmp_path: Path, source: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_pair_source(PairSource(root=tmp_path, **source))
    with pytest.raises(UsageError, match="does not exist"):
        open_pair_source(PairSource(kind="coco", root=tmp_path / "nowhere"))


def test_max_objects_limits_the_objects_of_a_frame(videos: Path) -> None:
    train, _ = make_datasets(make_options(PairSource(kind="davis", root=videos), max_objects=2))
    assert all(len(side.ids) <= 2 for k in range(6) if not isinstance(item := train[k], Reject) for side in item.sides)
