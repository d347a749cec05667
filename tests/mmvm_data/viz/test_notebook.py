"""What a notebook shows of cases and videos: images, the question, the marked answer; everything escaped."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mmvm_data import open_benchmark, open_source
from mmvm_data.core.types import Case
from tests.builds import make_case, write_build
from tests.worlds import davis

EVIL = "</p><script>alert('x')</script><img src=x onerror=alert(1)>"


def read_images(html: str) -> list[Image.Image]:
    data = re.findall(r'src="data:image/webp;base64,([A-Za-z0-9+/=]+)"', html)
    return [Image.open(BytesIO(base64.b64decode(text))) for text in data]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_build(tmp_path / "b", [make_case(i) for i in range(3)])


@pytest.fixture
def case(folder: Path) -> Case:
    return next(iter(open_benchmark(folder).cases()))


def test_a_case_shows_both_images_and_the_marked_answer(case: Case) -> None:
    html = case._repr_html_()
    assert [image.size for image in read_images(html)] == [(80, 45)] * 2
    assert case.id in html
    right = re.findall(r'class="option right"><b>(\w)</b>', html)
    assert right == [case.letter]
    assert html.count('class="option') == len(case.options)


def test_clean_images_are_drawn_where_no_drawn_ones_lie(case: Case, folder: Path) -> None:
    before = [image.convert("RGB").tobytes() for image in read_images(case._repr_html_())]
    for drawn in folder.rglob("FRAME0*.jpg"):
        if "_ORI" not in drawn.name:
            drawn.unlink()
    images = read_images(case._repr_html_())
    assert len(images) == 2
    assert len(before) == 2


def test_images_that_are_missing_degrade_to_a_text(case: Case, folder: Path) -> None:
    for image in folder.rglob("*.jpg"):
        image.unlink()
    assert case._repr_html_().count("image not available") == 2
    without_root = Case.model_validate_json(case.model_dump_json())
    assert without_root._repr_html_().count("image not available") == 2


def test_everything_is_escaped(case: Case) -> None:
    changes = {"id": EVIL, "question": EVIL, "rationale": EVIL, "extra": {"source": EVIL}, "provenance": None}
    html = case.model_copy(update=changes)._repr_html_()
    assert "<script" not in html
    assert "<img src=x" not in html
    assert html.count("&lt;script&gt;") >= 3


def test_a_video_shows_annotated_frames(tmp_path: Path) -> None:
    davis(tmp_path / "DAVIS", videos=1)
    source = open_source("davis", tmp_path / "DAVIS")
    video = source.load(source.videos[0])
    html = video._repr_html_()
    assert len(read_images(html)) == 3
    assert f"{len(video.frames)} frames" in html
    moved = video.model_copy(update={"root": tmp_path / "nowhere"})
    assert moved._repr_html_().count("image not available") == 3
