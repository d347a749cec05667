"""The object cache is filled with one pass of the expert over each image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from colva.data import cache_builder
from colva.data.cache_builder import CanvasSpec, FillStats, fill_object_cache, is_cache_filled
from colva.data.mixture import SftOptions, open_record_sources
from colva.data.object_cache import ObjectCache
from colva.data.record_reader import RecordReader, SftSource
from colva.processing.tiling import expert_canvas
from mmvm_data import synth
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks
from mmvm_data.formats import bench
from mmvm_data.pipeline import build

SPEC = CanvasSpec(256, 16, 0.55, True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build whose cases share frames."""
    folder = tmp_path_factory.mktemp("cases")
    root = synth.generate(folder / "videos", synth.SynthOptions(videos=3, frames=5, width=256, height=144, seed=1))
    sampling = SamplingOptions(cases_per_video=8, min_area=60, min_side=6, none_share=0.0)
    build.build("ytvos", root, folder / "bench", build.BuildOptions(sampling=sampling, workers=1))
    return folder / "bench"


def open_readers(directory: Path) -> list[RecordReader]:
    return open_record_sources(SftOptions(sources=(SftSource(kind="build", path=directory),)), None)


def list_images(directory: Path) -> list[bytes]:
    """The images of all cases, each once."""
    frames = [frame for case in bench.read(directory) for frame in case.frames]
    assert len({frame.path for frame in frames}) == len(frames)
    contents = {(directory / frame.path).read_bytes() for frame in frames}
    assert len(contents) < len(frames), "cases share frames"
    return list(contents)


def embed(pixels: Tensor, token_masks: Tensor, image_numbers: Tensor) -> Tensor:
    """Something that depends on image and mask."""
    assert torch.equal(image_numbers, image_numbers.sort().values)
    means = pixels.float().mean(dim=(1, 2, 3))[image_numbers]
    return torch.stack([means, token_masks.float().sum(dim=1)], dim=1)


def read_files(folder: Path) -> dict[str, bytes]:
    """The parts of a cache."""
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


def test_each_image_is_embedded_once_for_all_cases_that_show_it(tmp_path: Path, built: Path) -> None:
    images, readers = list_images(built), open_readers(built)
    embedded: list[int] = []

    def count(pixels: Tensor, token_masks: Tensor, image_numbers: Tensor) -> Tensor:
        embedded.append(len(pixels))
        return embed(pixels, token_masks, image_numbers)

    for name, num_workers in (("a", 0), ("b", 2)):
        cache = ObjectCache(tmp_path / name, 2)
        stats = fill_object_cache(cache, readers, SPEC, count, num_workers)
        assert is_cache_filled(cache, readers)
        assert sum(embedded) == len(images) == stats.images
        assert stats.objects == len(cache) > len(images)
        assert 0 < stats.waiting_seconds < stats.seconds
        assert 0 < stats.waiting_share < 1
        assert stats.images_per_second == pytest.approx(stats.images / stats.seconds)
        embedded.clear()
    assert read_files(tmp_path / "a") == read_files(tmp_path / "b") != {}


def test_a_filled_cache_reads_nothing(tmp_path: Path, built: Path) -> None:
    cache, readers = ObjectCache(tmp_path / "cache", 2), open_readers(built)
    fill_object_cache(cache, readers, SPEC, embed, 0)
    stats = fill_object_cache(cache, readers, SPEC, embed, 0)
    assert (stats.images, stats.objects, stats.waiting_seconds) == (0, 0, 0.0)
    assert FillStats().waiting_share == FillStats().images_per_second == 0.0


def test_a_process_decodes_an_image_once_a_task(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    load = cache_builder.load_clean_image

    def load_counted(root: Path, frame: cache_builder.Frame) -> tuple[np.ndarray, bytes]:
        decoded.append(frame.path)
        return load(root, frame)

    monkeypatch.setattr(cache_builder, "load_clean_image", load_counted)
    readers = open_readers(built)
    task = cache_builder._ReadTask(readers[0], SPEC, None, 100)
    canvases = task(0)
    assert len(decoded) == len(list_images(built)) == len(canvases)
    assert task(0) == []  # the same objects are not read again
    assert len(decoded) == len(canvases)


def test_an_interrupted_cache_resumes_to_the_same_files(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_builder, "_WAITING", 0)
    readers = open_readers(built)
    fill_object_cache(ObjectCache(tmp_path / "whole", 2), readers, SPEC, embed, 0, 2, objects_per_part=10)
    whole = read_files(tmp_path / "whole")
    assert len(whole) > 2

    def stop(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_object_cache(ObjectCache(tmp_path / "cut", 2), readers, SPEC, embed, 0, 2, stop, 10)
    assert 0 < len(read_files(tmp_path / "cut")) < len(whole)
    fill_object_cache(ObjectCache(tmp_path / "cut", 2), readers, SPEC, embed, 0, 2, objects_per_part=10)
    assert read_files(tmp_path / "cut") == whole


def test_other_images_are_embedded_when_one_is_broken(tmp_path: Path, built: Path) -> None:
    directory = tmp_path / "bench"
    (directory / "match_bench").mkdir(parents=True)
    for path in built.rglob("*"):
        if path.is_file():
            target = directory / path.relative_to(built)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    first = next(bench.read(directory))
    (directory / first.frames[0].path).write_bytes(b"\xff\xd8\xff no image")
    whole, readers = ObjectCache(tmp_path / "whole", 2), open_readers(built)
    fill_object_cache(whole, readers, SPEC, embed, 0)
    cache, readers = ObjectCache(tmp_path / "cache", 2), open_readers(directory)
    fill_object_cache(cache, readers, SPEC, embed, 0)
    assert is_cache_filled(cache, readers)
    # at most the query of that image is missing; another case may show the same frame
    assert len(whole) - 1 <= len(cache) <= len(whole)


def draw_objects() -> Iterator[np.ndarray]:
    """Objects of all sizes: uint8 `[144, 256]`; the last two cover no token by the threshold."""
    rng = np.random.default_rng(0)
    for size in (100, 40, 20, 3, 1):
        bitmap = np.zeros((144, 256), np.uint8)
        y, x = int(rng.integers(0, 144 - size)), int(rng.integers(0, 256 - size))
        bitmap[y : y + size, x : x + size] = rng.random((size, size)) > 0.2
        bitmap[y, x] = 1
        yield bitmap


@pytest.mark.parametrize(("fill_empty", "published"), [(True, False), (False, False), (False, True)])
def test_token_masks_equal_those_of_full_bitmaps(fill_empty: bool, published: bool) -> None:
    bitmaps = list(draw_objects())
    spec = CanvasSpec(256, 16, 0.55, fill_empty, published)
    _, geometry = expert_canvas(np.zeros((144, 256, 3), np.uint8), 256, 16, published)
    found = cache_builder._mask_tokens([masks.encode(bitmap) for bitmap in bitmaps], geometry, spec)
    expected = geometry.token_mask(torch.from_numpy(np.stack(bitmaps)), 0.55, fill_empty)
    assert torch.equal(found, expected)
    assert found.any(dim=1).all() == fill_empty
