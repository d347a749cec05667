"""Objects by their looks alone: candidates that a vision expert takes for the query are the hardest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from colva.inference.region_features import ExpertRanker, object_features, open_expert, open_ranker
from mmvm_data.cases.hardness import rank_candidates
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cases.visibility import VisibleObject
from mmvm_data.core import masks
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import Region
from mmvm_data.pipeline.build import BuildOptions, build
from tests.worlds import tree

HEIGHT, WIDTH, SIDE = 240, 320, 64


def checks(size: int) -> np.ndarray:
    """Black and white squares, of the same mean for any size."""
    rows, columns = np.indices((SIDE, SIDE)) // size
    return np.where((rows + columns) % 2, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)


def placed(image: np.ndarray, name: str, x: int, y: int, pixels: np.ndarray) -> VisibleObject:
    image[y : y + SIDE, x : x + SIDE] = pixels
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    bitmap[y : y + SIDE, x : x + SIDE] = 1
    rle = masks.encode(bitmap)
    return VisibleObject(Region(id=name, mask=rle), rle, SIDE * SIDE, (x, y, SIDE, SIDE))


def scene() -> tuple[np.ndarray, VisibleObject, np.ndarray, list[VisibleObject]]:
    """A query of fine checks; of two others alike in color, size, shape and distance the second has them too."""
    first, last = (np.full((HEIGHT, WIDTH, 3), 128, np.uint8) for _ in range(2))
    query = placed(first, "q", 128, 88, checks(4))
    return first, query, last, [placed(last, "a", 32, 88, checks(32)), placed(last, "b", 224, 88, checks(4))]


def test_an_expert_ranks_what_color_and_shape_cannot_tell_apart() -> None:
    first, query, last, others = scene()
    assert rank_candidates(first, query, last, others) == [0, 1]  # by id
    assert rank_candidates(first, query, last, others, open_ranker("mobilenetv2")) == [1, 0]


def test_ranking_leaves_threads_as_they_were_and_does_not_depend_on_them() -> None:
    first, query, last, others = scene()
    ranker = ExpertRanker("mobilenetv2")
    shapes = [masks.decode(seen.rle) for seen in (query, *others)]
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(ranker(first, shapes[0], last, np.stack(shapes[1:])))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert np.array_equal(*found) and found[0][1] > found[0][0]


def test_an_object_too_small_for_a_token_has_features() -> None:
    _, expert, _ = open_expert("mobilenetv2")
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    dot = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    dot[0, 100:103, 200:203] = 1
    (features,) = object_features(expert, 256, [picture], [dot])
    assert features.shape == (1, expert.hidden_size) and features.abs().sum() > 0


def test_builds_are_the_same_on_any_number_of_workers(realdata: Path, tmp_path: Path) -> None:
    sampling = {"cases_per_video": 3, "min_area": 150, "candidates": 4, "none_share": 0.0}
    for name, workers, embeddings in (("one", 1, "mobilenetv2"), ("two", 2, "mobilenetv2"), ("without", 1, None)):
        options = BuildOptions(
            sampling=SamplingOptions(**sampling, embeddings=embeddings),  # type: ignore[arg-type]
            workers=workers,
            ranker_factory=open_ranker,
        )
        build("davis", realdata / "davis2017_schoolgirls_240p", tmp_path / name, options)
    trees = [tree(tmp_path / name) for name in ("one", "two", "without")]
    assert trees[0] == trees[1] != trees[2]
    record = json.loads((tmp_path / "one/build.json").read_text())
    assert record["request"]["sampling"]["embeddings"] == "mobilenetv2"
    assert "embeddings" not in (tmp_path / "without/build.json").read_text()


def test_a_wrong_name_is_refused_before_anything_is_written(realdata: Path, tmp_path: Path) -> None:
    options = BuildOptions(
        sampling=SamplingOptions(embeddings="no/such/folder", candidates=4), ranker_factory=open_ranker
    )
    with pytest.raises(UsageError, match="no/such/folder"):
        build("davis", realdata / "davis2017_schoolgirls_240p", tmp_path / "out", options)
    assert not list(tmp_path.iterdir())
