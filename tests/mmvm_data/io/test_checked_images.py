"""Exports, pushes and requests take an image only when it decodes, fits its record, and lies in the benchmark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from colva.evaluation.benchmark import load_questions
from colva.evaluation.models.base import ModelOptions
from colva.evaluation.models.endpoint import EndpointModelAdapter
from colva.evaluation.question import AskOptions
from mmvm_data.annotation.rationale.model_writer import build_case_request
from mmvm_data.annotation.review.push import _check_images
from mmvm_data.cli import cli
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.case_images import load_clean_and_marked
from mmvm_data.io.checked_images import read_checked_image
from mmvm_data.io.openai_client import Endpoint
from mmvm_data.viz.samples import check_case
from tests.mmvm_data.formats.test_hub import built_sample

NAME = "FRAME00.jpg"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _damaged(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff" + bytes(100) + b"\xff\xd9")


def _link_outside(path: Path) -> None:
    outside = path.parents[3] / "outside.jpg"
    path.rename(outside)
    path.symlink_to(outside)


def _broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nothing.jpg")


def _other_size(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((3, 5, 3), np.uint8))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FAULTS = [_cut, _empty, _damaged, _link_outside, _broken_link, _other_size, _pipe]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    bench.write(list(bench.read(built_sample(folder / "first")))[:2], folder / "bench")
    return folder / "bench"


@pytest.fixture
def case(sample: Path) -> Case:
    return next(iter(bench.read(sample)))


@pytest.fixture
def drawn(sample: Path, case: Case) -> Path:
    return sample / bench.FOLDER / case.id / NAME


def _fault_name(spoil: Callable[[Path], None]) -> str:
    return spoil.__name__.strip("_")


@pytest.fixture
def spoiled(request: pytest.FixtureRequest, drawn: Path) -> Iterator[Path]:
    data = drawn.read_bytes()
    request.param(drawn)
    yield drawn
    drawn.unlink()
    drawn.write_bytes(data)


@pytest.mark.parametrize("spoiled", FAULTS, indirect=True, ids=_fault_name)
def test_every_fault_is_named(spoiled: Path, sample: Path, case: Case) -> None:
    with pytest.raises(InputError, match=NAME):
        load_clean_and_marked(case, sample)


@pytest.mark.parametrize("spoiled", [_link_outside], indirect=True, ids=_fault_name)
@pytest.mark.parametrize("kind", ["webdataset", "hub", "vlmevalkit", "bench"])
def test_exports_name_the_image(spoiled: Path, sample: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / ("out.tsv" if kind == "vlmevalkit" else "out")
    result = CliRunner().invoke(cli, ["export", str(sample), "--to", kind, "--out", str(out)])
    assert isinstance(result.exception, InputError), result.output
    assert NAME in str(result.exception)
    assert not out.exists() or not list(out.glob("*"))


def _ask(case: Case, root: Path) -> None:
    question = next(iter(load_questions(root, AskOptions(), root.parent / "images")))
    EndpointModelAdapter(Endpoint(url="http://127.0.0.1:9", model="m", key="k"), ModelOptions()).answer([question])


@pytest.mark.parametrize("spoiled", [_cut, _link_outside], indirect=True, ids=_fault_name)
@pytest.mark.parametrize(
    "use",
    [
        lambda case, root: build_case_request(case, root, (), Endpoint(url="http://127.0.0.1:9", model="m", key="k")),
        lambda case, root: _check_images(root, case),
        lambda case, root: check_case(case, root),
        _ask,
    ],
    ids=["rationale", "review push", "browse", "eval"],
)
def test_requests_and_pushes_name_the_image(
    spoiled: Path, sample: Path, case: Case, use: Callable[[Case, Path], None]
) -> None:
    with pytest.raises(InputError, match=NAME):
        use(case, sample)


def test_a_link_inside_the_root_is_followed(sample: Path, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    folder.symlink_to(sample)
    (sample / "link.jpg").symlink_to(drawn)
    assert read_checked_image(folder, "link.jpg", None) == drawn.read_bytes()
    (sample / "link.jpg").unlink()


def test_a_path_does_not_leave_the_root(sample: Path) -> None:
    with pytest.raises(InputError, match="must be relative and stay inside its root"):
        read_checked_image(sample, "../a.jpg", None, "case 1")


def test_a_benchmark_keeps_its_drawn_images_where_they_show_the_record(
    sample: Path, case: Case, tmp_path: Path
) -> None:
    image = cv2.imread(str(sample / bench.FOLDER / case.id / NAME))
    cv2.putText(image, "drawn by someone", (2, 20), cv2.FONT_HERSHEY_PLAIN, 1, (255, 255, 255))
    changed = tmp_path / "changed"
    shutil.copytree(sample, changed)
    marked = changed / bench.FOLDER / case.id / NAME
    cv2.imwrite(str(marked), image)
    bench.write(bench.read(changed), tmp_path / "same")
    assert (tmp_path / "same" / bench.FOLDER / case.id / NAME).read_bytes() == marked.read_bytes()
    # another object than that of the JSON beside the image: it is drawn again
    other = [region.model_copy(update={"id": "another"}) for region in case.query]
    bench.write([case.with_root(changed).model_copy(update={"query": tuple(other)})], tmp_path / "other", changed)
    written = (tmp_path / "other" / bench.FOLDER / case.id / NAME).read_bytes()
    assert written == (sample / bench.FOLDER / case.id / NAME).read_bytes()
