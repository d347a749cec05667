"""Exports in webdataset and pycocotools themselves, on as many cases as other projects get.

Both are installed for other tests, which read a few cases; these run where PEER_PYTHON is set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colva.evaluation.benchmark import load_questions
from colva.evaluation.question import AskOptions
from mmvm_data.core import masks
from mmvm_data.core.types import Provenance
from mmvm_data.formats import bench as bench_format
from mmvm_data.formats import mask_sets, webdataset
from mmvm_data.formats.tsv import drawn_paths
from tests.peers import world


@world.needs("PEER_PYTHON")
@pytest.mark.timeout(1800)
def test_webdataset_reads_questions_answers_and_pixels(bench: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("webdataset")
    shards = webdataset.write(bench_format.read(bench), tmp_path / "shards", bench)
    samples = library.WebDataset([str(shard) for shard in shards], shardshuffle=False).decode("rgb8")
    questions = load_questions(bench, AskOptions(), tmp_path)
    count = 0
    for sample, case, question in zip(samples, bench_format.read(bench), questions, strict=True):
        record = sample["json"]
        assert (record["question"], record["answer"]) == (question.text, case.letter)
        assert record["case"]["match_types"] == list(case.match_types)
        for k, (frame, name) in enumerate(zip(case.frames, drawn_paths(case), strict=True)):
            for key, file in ((f"image{k}.jpg", frame.path), (f"marked{k}.jpg", name)):
                assert np.array_equal(sample[key], np.asarray(Image.open(bench / file).convert("RGB")))
        count += 1
    assert count == world.CASES


@world.needs("PEER_PYTHON")
@pytest.mark.timeout(1800)
def test_pycocotools_reads_every_mask_and_box(bench: Path, tmp_path: Path) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    cases, expected = [], {}
    for case in bench_format.read(bench):
        tracks = ("query", *(candidate.region.id for candidate in case.candidates))
        origin = Provenance(source="davis", video=case.id, frames=case.frames, tracks=tracks, seed=0, ordinal=0, gap=1)
        cases.append(case.model_copy(update={"provenance": origin}))
        for frame, region in zip(case.frames, case.query, strict=False):
            expected[case.id, Path(frame.path).name, "query"] = region
        for candidate in case.candidates:
            expected[case.id, Path(case.frames[-1].path).name, candidate.region.id] = candidate.region
    [path] = mask_sets.write(cases, bench, tmp_path / "coco", "coco")
    coco = coco_module.COCO(str(path))
    assert len(coco.dataset["annotations"]) == len(expected)
    for annotation in coco.dataset["annotations"]:
        video, name = coco.imgs[annotation["image_id"]]["file_name"].split("/")
        region = expected[video, name, annotation["track_id"]]
        if region.mask is None:
            assert annotation["bbox"] == list(region.box)
        else:
            assert np.array_equal(coco.annToMask(annotation), masks.decode(region.mask))
