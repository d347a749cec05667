"""Pictures whose orientation tag asks for a rotation: whoever shows what we write, pixels and masks agree."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps
from playwright.sync_api import expect

from colva.evaluation.lmms_eval_export import export_lmms_eval
from colva.evaluation.question import AskOptions
from mmvm_data.annotation.rationale.model_writer import build_case_request
from mmvm_data.cli import cli
from mmvm_data.core import masks
from mmvm_data.core.types import Case
from mmvm_data.formats import bench, vlmevalkit, webdataset
from mmvm_data.formats.tsv import drawn_paths, read_rows
from mmvm_data.io import media
from mmvm_data.io.openai_client import Endpoint
from mmvm_data.viz.report import write_report
from tests.browser import browser, open_report
from tests.pages import Open

__all__ = ["browser", "open_report"]

WIDTH, HEIGHT = 320, 240


def invoke(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def built(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("orientation") / "bench"
    invoke("build", "--source", "frames", "--root", cases / "hub_export_exif", "--out", out, "--max-cases", 3)
    return out


@pytest.fixture
def tagged(built: Path, tmp_path: Path) -> Path:
    """The same benchmark as others might have written it: every picture asks for a rotation."""
    folder = tmp_path / "tagged"
    shutil.copytree(built, folder)
    for path in sorted(folder.glob("match_bench/*/*.jpg")):
        path.write_bytes(with_tag(path.read_bytes()))
        assert media.has_orientation(path)
    return folder


def with_tag(jpeg: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = exif.tobytes()
    payload = payload if payload.startswith(b"Exif\0\0") else b"Exif\0\0" + payload
    return jpeg[:2] + b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload + jpeg[2:]


def as_shown(data: bytes) -> np.ndarray:
    """The pixels that a viewer shows, RGB."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def check_shown(data: bytes, where: str) -> None:
    stored = media.decode_image(Path(where), data)[..., ::-1]
    shown = as_shown(data)
    assert shown.shape == (HEIGHT, WIDTH, 3), where
    assert (shown == stored).all(), where


def check_objects(case: Case, images: list[np.ndarray]) -> None:
    """Objects are red, green or blue with a few marks, on a ground of all colors."""
    regions = [case.query[0], *(candidate.region for candidate in case.candidates)]
    for region, image in zip(regions, [images[0], *[images[-1]] * len(case.candidates)], strict=True):
        assert region.mask is not None
        inside = masks.decode(region.mask).astype(bool)
        color = np.median(image[inside], axis=0)
        assert int(color.argmax()) == int(region.id) - 1, (case.id, region.id)
        assert np.sort(color)[1] < 100 < 180 < color.max(), (case.id, region.id, color)


def test_case_folders_hold_pictures_without_the_tag(cases: Path, built: Path) -> None:
    source = {path.name: path.read_bytes() for path in (cases / "hub_export_exif/images/v").iterdir()}
    assert all(as_shown(data).shape == (WIDTH, HEIGHT, 3) for data in source.values())  # the input is what it should be
    for case in bench.read(built):
        images = []
        assert case.provenance is not None
        for frame, origin in zip(case.frames, case.provenance.frames, strict=True):
            data = (built / frame.path).read_bytes()
            check_shown(data, frame.path)
            original = source[Path(origin.path).name]
            assert len(data) == len(original)  # not encoded again
            assert sum(a != b for a, b in zip(data, original, strict=True)) == 1
            images.append(as_shown(data))
        for path in drawn_paths(case):
            check_shown((built / path).read_bytes(), path)
        check_objects(case, images)
    assert "no problems" in invoke("validate", built, "--deep")


def export_pictures(folder: Path, form: str, out: Path) -> Iterator[tuple[str, bytes]]:
    """The pictures of an export, each with a name."""
    invoke("export", folder, "--to", form, "--out", out)
    if form == "bench":
        yield from ((path.name, path.read_bytes()) for path in sorted(out.rglob("*.jpg")))
    elif form == "vlmevalkit":
        for row in read_rows(out / "mmvm_vlmevalkit.tsv"):
            for number, text in enumerate(json.loads(row.cells["image"].replace("'", '"'))):
                yield f"{row.cells['index']}: {number}", base64.b64decode(text)
    elif form == "webdataset":
        for shard in sorted(out.glob("shards/*.tar")):
            with tarfile.open(shard) as tar:
                for entry in tar:
                    content = tar.extractfile(entry)
                    if entry.name.endswith(".jpg") and content:
                        yield entry.name, content.read()
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        for file in sorted(out.rglob("*.parquet")):
            for row in parquet.read_table(file).to_pylist():
                for image in (*row["images"], *row["marked_images"]):
                    yield image["path"], image["bytes"]


@pytest.mark.parametrize("form", ["bench", "vlmevalkit", "webdataset", "hub"])
def test_exports_hold_pictures_without_the_tag(built: Path, tagged: Path, tmp_path: Path, form: str) -> None:
    for folder, out in ((built, tmp_path / "a"), (tagged, tmp_path / "b")):
        pictures = list(export_pictures(folder, form, out))
        assert len(pictures) >= 6
        for name, data in pictures:
            check_shown(data, f"{folder.name}: {name}")


def test_datasets_decodes_pictures_and_masks_alike(built: Path, tagged: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for folder in (built, tagged):
        out = tmp_path / f"{folder.name} hub"
        invoke("export", folder, "--to", "hub", "--out", out)
        rows = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["test"]
        by_id = {case.id: case for case in bench.read(folder)}
        assert len(rows) == len(by_id)
        for row in rows:
            sizes = {image.size for image in (*row["images"], *row["marked_images"])}
            assert sizes == {(WIDTH, HEIGHT)}
            assert {tuple(region["size"]) for region in (*row["query"], *row["candidates"])} == {(HEIGHT, WIDTH)}
            check_objects(by_id[row["id"]], [np.asarray(image.convert("RGB")) for image in row["images"]])


def test_imports_write_pictures_without_the_tag(tagged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that others made with the tag inside."""
    monkeypatch.setattr("mmvm_data.formats.case_images.media.read_image_bytes", media.read_bytes)
    monkeypatch.setattr("mmvm_data.io.media.remove_orientation", lambda data: data)
    read_cases = list(bench.read(tagged))
    webdataset.write(read_cases, tmp_path)
    vlmevalkit.write(read_cases, tagged, tmp_path / "table.tsv")
    with tarfile.open(next(tmp_path.glob("shards/*.tar"))) as tar:
        content = tar.extractfile(next(entry for entry in tar if entry.name.endswith(".jpg")))
        assert content is not None
        assert as_shown(content.read()).shape == (WIDTH, HEIGHT, 3)
    monkeypatch.undo()
    assert len(list(webdataset.read(tmp_path, tmp_path / "from tar"))) == len(read_cases)
    assert len(list(vlmevalkit.read(tmp_path / "table.tsv", tmp_path / "from table"))) == len(read_cases)
    for folder in ("from tar", "from table"):
        files = sorted((tmp_path / folder).rglob("*.jpg"))
        assert files
        for path in files:
            check_shown(path.read_bytes(), str(path))


def test_requests_hold_pictures_without_the_tag(tagged: Path) -> None:
    case = next(bench.read(tagged))
    request = build_case_request(case, tagged, (), Endpoint("http://localhost:1/v1", "m"))
    pictures = [part["image_url"]["url"] for part in request["messages"][-1]["content"] if part["type"] == "image_url"]
    assert len(pictures) == 2
    for url in pictures:
        check_shown(base64.b64decode(url.partition(",")[2]), "request")


def test_tasks_of_lmms_eval_load_stored_pixels(tagged: Path, tmp_path: Path) -> None:
    export_lmms_eval(tagged, tmp_path / "task", "t", AskOptions())
    functions: dict[str, Any] = {"__file__": str(tmp_path / "task/utils.py"), "__name__": "utils"}
    exec(compile((tmp_path / "task/utils.py").read_text(encoding="utf-8"), "utils.py", "exec"), functions)
    doc = json.loads((tmp_path / "task/questions.jsonl").read_text(encoding="utf-8").splitlines()[0])
    for image in functions["doc_to_visual"](doc):
        assert ImageOps.exif_transpose(image).size == (WIDTH, HEIGHT)


def test_validate_names_pictures_with_the_tag(tagged: Path) -> None:
    output = invoke("validate", tagged, code=1)
    assert output.count("its orientation tag asks for a rotation, which its masks do not follow") == len(
        list(tagged.glob("match_bench/*/*.jpg"))
    )


@pytest.mark.parametrize("kind", ["built", "tagged"])
def test_chromium_shows_stored_pixels_in_the_report(
    kind: str, open_report: Open, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    case = next(bench.read(folder))
    page = open_report(write_report(folder), width=1200)
    page.locator(".card .pair").first.click()
    large = page.locator("#large figure")
    expect(large).to_have_count(len(case.frames))
    ending = "jpg" if kind == "built" else "webp"  # the file itself, or the preview of one that Chromium would rotate
    page.wait_for_function(
        "e => [...document.querySelectorAll('#large figure img')]"
        ".every(i => i.complete && (i.src.endsWith(e) || i.src.startsWith(`data:image/${e}`)))",
        arg=ending,
    )
    if kind == "tagged":
        expect(large.first).to_contain_text("orientation tag")
    for position, path in enumerate(drawn_paths(case)):
        stored = media.decode_image(folder / path, (folder / path).read_bytes())
        for image in (large.nth(position).locator("img"), page.locator(".card").first.locator("img").nth(position)):
            assert image.evaluate("i => i.naturalWidth / i.naturalHeight") == pytest.approx(WIDTH / HEIGHT, rel=0.02)
            shown = image.evaluate("i => [i.clientWidth, i.clientHeight]")
            assert shown[0] > shown[1] > 0
        screenshot = cv2.imdecode(
            np.frombuffer(large.nth(position).locator("img").screenshot(), np.uint8), cv2.IMREAD_COLOR
        )
        small = [cv2.resize(p, (32, 24), interpolation=cv2.INTER_AREA).astype(int) for p in (screenshot, stored)]
        assert np.abs(small[0] - small[1]).mean() < 8
        assert np.abs(small[0] - small[1][::-1, ::-1]).mean() > 20  # what another rotation would give
