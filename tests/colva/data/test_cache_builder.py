"""The object cache is filled with one pass of the expert over each image."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from colva.data.cache_builder import CanvasSpec, fill_object_cache, is_cache_filled
from colva.data.mixture import SftOptions, open_record_sources
from colva.data.object_cache import ObjectCache
from colva.data.record_reader import SftSource
from mmvm_data import synth
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.formats import bench
from mmvm_data.pipeline import build


def test_each_image_is_embedded_once_for_all_cases_that_show_it(tmp_path: Path) -> None:
    root = synth.generate(tmp_path / "videos", synth.SynthOptions(videos=3, frames=5, width=256, height=144, seed=1))
    sampling = SamplingOptions(cases_per_video=8, min_area=60, min_side=6, none_share=0.0)
    build.build("ytvos", root, tmp_path / "bench", build.BuildOptions(sampling=sampling, workers=1))
    cases = list(bench.read(tmp_path / "bench"))
    images = {(tmp_path / "bench" / frame.path).read_bytes() for case in cases for frame in case.frames}
    assert len(images) < 2 * len(cases), "cases share frames"
    readers = open_record_sources(SftOptions(sources=(SftSource(kind="build", path=tmp_path / "bench"),)), tmp_path)
    embedded: list[int] = []

    def embed(pixels: Tensor, token_masks: Tensor, image_numbers: Tensor) -> Tensor:
        embedded.append(len(pixels))
        assert torch.equal(image_numbers, image_numbers.sort().values)
        # something that depends on image and mask
        means = pixels.float().mean(dim=(1, 2, 3))[image_numbers]
        return torch.stack([means, token_masks.float().sum(dim=1)], dim=1)

    caches = []
    for name, num_workers in (("a", 0), ("b", 2)):
        caches.append(ObjectCache(tmp_path / name, 2))
        fill_object_cache(caches[-1], readers, CanvasSpec(256, 16, 0.55, True), embed, num_workers)
        assert is_cache_filled(caches[-1], readers)
        assert sum(embedded) == len(images)
        embedded.clear()
    parts = [sorted(p.relative_to(cache.folder) for p in cache.folder.rglob("*") if p.is_file()) for cache in caches]
    assert parts[0] == parts[1]
    for part in parts[0]:
        if part.suffix != ".json":
            assert (tmp_path / "a" / part).read_bytes() == (tmp_path / "b" / part).read_bytes()
