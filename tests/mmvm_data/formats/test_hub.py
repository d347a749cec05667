"""Parquet for `datasets`: loadable, sharded, described, and back again exactly."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mmvm_data.cli import cli
from mmvm_data.core.case_facts import source_name
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case, RationaleAuthor
from mmvm_data.formats import bench, hub, hub_rows
from tests.builds import make_case, write_build
from tests.worlds import tree

pytest.importorskip("pyarrow")


def sample(count: int = 24) -> list[Case]:
    """Masks and boxes, two and three images, without an answer, with extras and without provenance."""
    cases = [make_case(k) for k in range(count)]
    cases[3] = make_case(3, extra={"tags": ["é", None, 1.5], "source": "elsewhere"}, provenance=None)
    region = cases[4].query[0].model_copy(update={"extra": {"visibility": 0.25}, "category": None})
    written = RationaleAuthor(by="model", model="m", version="1", digest="0" * 64)
    cases[4] = cases[4].model_copy(update={"query": (region,), "written": written, "rationale": "weil\n“so”"})
    return cases


def built_sample(folder: Path) -> Path:
    write_build(folder, sample())
    place = folder / "match_bench/case_000005"
    (place / "FRAME02_ORI.jpg").write_bytes((place / "FRAME01_ORI.jpg").read_bytes())
    return folder


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return built_sample(tmp_path / "bench")


def test_exported_cases_are_read_back(built: Path, tmp_path: Path) -> None:
    before = list(bench.read(built))
    hub.write(before, tmp_path / "hub")
    after = list(hub.read(tmp_path / "hub", tmp_path / "back"))
    assert after == before
    assert [case.model_dump_json() for case in after] == [case.model_dump_json() for case in before]
    for case in after:
        for frame in case.frames:
            assert (tmp_path / "back" / frame.path).read_bytes() == (built / frame.path).read_bytes()
    # what came back is a benchmark again, byte for byte
    bench.write(before, tmp_path / "one", built)
    bench.write(after, tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_datasets_loads_it_with_images(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    cases = list(bench.read(built))
    hub.write(cases, tmp_path / "hub", split="train")
    loaded = datasets.load_dataset(str(tmp_path / "hub"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    rows = loaded["train"]
    assert len(rows) == len(cases)
    assert isinstance(rows.features["images"].feature, datasets.Image)
    for row, case in zip(rows, cases, strict=True):
        assert [image.size for image in row["images"]] == [(f.width, f.height) for f in case.frames]
        assert len(row["marked_images"]) == len(case.frames)
        assert (row["answer"], row["answer_number"]) == (case.letter, case.answer)
        assert [c["number"] for c in row["candidates"]] == [c.number for c in case.candidates]
        assert row["match_types"] == list(case.match_types)
    # the features in the schema are those that datasets itself derives and writes
    again = datasets.Features.from_dict(json.loads(hub_rows.schema().metadata[b"huggingface"])["info"]["features"])
    assert again == rows.features
    assert again.arrow_schema.remove_metadata() == hub_rows.schema().remove_metadata()


def test_files_have_a_page_index_and_several_row_groups(tmp_path: Path) -> None:
    folder = write_build(tmp_path / "bench", [make_case(k) for k in range(72) if k % 8 != 5])
    [file] = hub.write(bench.read(folder), tmp_path / "hub")
    footer = hub_rows.import_pyarrow()[1].read_metadata(file)
    assert [footer.row_group(k).num_rows for k in range(footer.num_row_groups)] == [32, 31]
    columns = [footer.row_group(0).column(k) for k in range(footer.num_columns)]
    assert all(column.has_offset_index for column in columns)


def test_features_are_in_the_dialect_that_all_versions_read() -> None:
    info = json.loads(hub_rows.schema().metadata[b"huggingface"])
    assert info["info"]["features"]["images"] == [{"_type": "Image"}]
    assert '"List"' not in json.dumps(info) and '"Sequence"' not in json.dumps(info)


def test_shards_are_below_their_limit(built: Path, tmp_path: Path) -> None:
    cases = list(bench.read(built))
    limit = 120_000
    files = hub.write(cases, tmp_path / "hub", shard_bytes=limit)
    assert len(files) > 2
    assert [f.name for f in files] == [f"test-{k:05d}-of-{len(files):05d}.parquet" for k in range(len(files))]
    assert list(hub.read(tmp_path / "hub")) == cases
    assert max(f.stat().st_size for f in files) <= limit
    assert len(hub.write(cases, tmp_path / "whole")) == 1


def test_same_cases_same_bytes(built: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        hub.write(bench.read(built), tmp_path / name)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_the_card_tells_what_it_is(built: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    request = {"request": {"seed": 3, "root": "/secret/place", "sampling": {"min_gap": 7}}}
    kept = [case for case in bench.read(built) if case.review.state != "rejected"]
    davis = sum(source_name(case) == "davis" for case in kept)
    files = hub.write(kept, tmp_path / "hub", build=request)
    text = (tmp_path / "hub/README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["dataset_info"]["splits"][0]["num_examples"] == len(kept)
    assert front["dataset_info"]["download_size"] == sum(f.stat().st_size for f in files)
    assert front["configs"][0]["data_files"] == [{"split": "test", "path": "data/test-*.parquet"}]
    assert re.search(rf"\| davis \| {davis} \| \d+ \| CC BY 4\.0", text)
    assert "CC BY-NC-SA 3.0" in text
    assert '"min_gap": 7' in text
    assert "/secret" not in text
    pictures = re.findall(r"\]\((figures/\S+)\)", text)
    assert pictures
    for name in pictures:
        assert cv2.imread(str(tmp_path / "hub" / name)).shape[0] == 360


def test_the_command(built: Path, tmp_path: Path) -> None:
    def run(*words: object) -> Any:
        return CliRunner().invoke(cli, ["export", str(built), *map(str, words)])

    assert run("--to", "hub", "--out", tmp_path / "h", "--split", "train").exit_code == 0
    assert len(list(hub.read(tmp_path / "h", split="train"))) == sum(
        case.review.state != "rejected" for case in bench.read(built)
    )
    with pytest.raises(InputError, match="no Parquet"):
        list(hub.read(tmp_path / "h", split="test"))
    again = run("--to", "hub", "--out", tmp_path / "h")
    assert isinstance(again.exception, UsageError)
    assert "not empty" in str(again.exception)
    assert isinstance(run("--to", "sft", "--out", tmp_path / "s", "--push", "a/b").exception, UsageError)
    assert isinstance(run("--to", "hub", "--out", tmp_path / "x", "--split", "a b").exception, UsageError)


def test_a_missing_image_leaves_nothing_behind(built: Path, tmp_path: Path) -> None:
    (built / "match_bench/case_000003/FRAME01_ORI.jpg").unlink()
    with pytest.raises(InputError, match="FRAME01_ORI"):
        hub.write(bench.read(built), tmp_path / "hub")
    assert not list(tmp_path.glob("*hub*"))
    cases = [case for case in bench.read(built) if "000003" not in case.frames[0].path]
    with pytest.raises(InputError, match="twice"):
        hub.write([*cases, cases[0]], tmp_path / "hub")
    assert not list(tmp_path.glob("*hub*"))


def test_no_cases_are_a_data_set_too(tmp_path: Path) -> None:
    hub.write([], tmp_path / "hub")
    assert list(hub.read(tmp_path / "hub")) == []


def test_paths_do_not_leave_their_folder(built: Path, tmp_path: Path) -> None:
    case = next(bench.read(built))
    for path in ("../escape.jpg", "/tmp/escape.jpg", "a/../../escape.jpg"):
        hub.write([case], tmp_path / "hub")
        table = hub_rows.import_pyarrow()[1].read_table(next((tmp_path / "hub/data").iterdir()))
        rows = table.to_pylist()
        rest = json.loads(rows[0]["rest"])
        rest["frames"][0]["path"] = path
        rows[0]["rest"] = json.dumps(rest)
        target = tmp_path / "hub/data/test-00000-of-00001.parquet"
        hub_rows.import_pyarrow()[1].write_table(
            hub_rows.import_pyarrow()[0].Table.from_pylist(rows, schema=hub_rows.schema()), target
        )
        with pytest.raises(InputError, match="must be relative"):
            list(hub.read(tmp_path / "hub", tmp_path / "into"))
        for file in sorted((tmp_path / "hub").rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    assert not (tmp_path / "escape.jpg").exists()


def test_mutated_files_are_named_and_never_crash(built: Path, tmp_path: Path) -> None:
    (file,) = hub.write(list(bench.read(built))[:3], tmp_path / "hub")
    whole, rng = file.read_bytes(), random.Random(0)
    unharmed = 0
    for _ in range(500):
        data = bytearray(whole)
        kind = rng.randrange(3)
        if kind == 0:
            data = data[: rng.randrange(len(data))]
        elif kind == 1:
            # the footer says where everything is
            data[-rng.randrange(1, 9000)] ^= 1 << rng.randrange(8)
        else:
            start = rng.randrange(len(data))
            data[start : start + rng.randrange(1, 60)] = rng.randbytes(rng.randrange(60))
        file.write_bytes(data)
        try:
            unharmed += len(list(hub.read(tmp_path / "hub"))) > 0
        except InputError as error:
            assert file.name in str(error)
    assert unharmed < 250


class _Hub(BaseHTTPRequestHandler):
    """As much of a hub as an upload of small files talks to: all of them go into the commit itself."""

    files: dict[str, bytes]
    made: list[dict[str, Any]]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer: Any = {}
        if self.path == "/api/repos/create":
            self.made.append(json.loads(body))
            answer = {"url": f"http://{self.headers['Host']}/datasets/me/set"}
        elif self.path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
        elif self.path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            answer = {
                "commitOid": "1" * 40,
                "commitUrl": f"http://{self.headers['Host']}/datasets/me/set/commit/1",
                "success": True,
            }
        self._reply(answer)

    def do_GET(self) -> None:
        self._reply({"sha": "0" * 40, "id": "me/set", "siblings": []})

    def _reply(self, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    handler = type("Handler", (_Hub,), {"files": {}, "made": []})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{running.server_address[1]}")
    yield handler
    running.shutdown()
    running.server_close()


def test_push_uploads_every_file(built: Path, tmp_path: Path, server: type[_Hub]) -> None:
    hub.write(bench.read(built), tmp_path / "hub")
    assert hub.push(tmp_path / "hub", "me/set", token="hf_x").endswith("/datasets/me/set/commit/1")
    assert server.made[0]["private"] is True
    assert server.made[0]["type"] == "dataset"
    assert server.files == tree(tmp_path / "hub")
    server.status = 403
    with pytest.raises(UsageError, match="cannot be pushed"):
        hub.push(tmp_path / "hub", "me/set", token="hf_x")


def test_a_png_original_stays_a_png(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (45, 80, 3), dtype=np.uint8)
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), image)
    case = make_case(1)
    frames = tuple(f.model_copy(update={"path": f"{k}.png"}) for k, f in enumerate(case.frames))
    placed = case.model_copy(update={"frames": frames}).with_root(tmp_path)
    hub.write([placed], tmp_path / "hub")
    (back,) = hub.read(tmp_path / "hub", tmp_path / "back")
    assert back == placed
    assert (tmp_path / "back/1.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    row = hub_rows.import_pyarrow()[1].read_table(next((tmp_path / "hub/data").iterdir())).to_pylist()[0]
    drawn = cv2.imdecode(np.frombuffer(row["marked_images"][0]["bytes"], np.uint8), cv2.IMREAD_COLOR)
    assert (drawn != image).any()
    assert io.BytesIO(row["images"][0]["bytes"]).read(4) == b"\x89PNG"


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data/test-00000-of-00001.parquet")
    with pytest.raises(InputError, match=r"-00001\.parquet: cannot be read as Parquet: not a regular file"):
        list(hub.read(tmp_path))
