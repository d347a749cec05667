"""Tar shards: readable by the webdataset library, and back again exactly."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmvm_data.cli import cli
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.formats import bench, webdataset
from tests.mmvm_data.formats.test_hub import built_sample
from tests.worlds import tree


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return built_sample(tmp_path / "bench")


def test_exported_cases_are_read_back(built: Path, tmp_path: Path) -> None:
    before = list(bench.read(built))
    webdataset.write(before, tmp_path / "w")
    after = list(webdataset.read(tmp_path / "w", tmp_path / "back"))
    assert after == before
    for frame in after[5].frames:
        assert (tmp_path / "back" / frame.path).read_bytes() == (built / frame.path).read_bytes()


def test_the_library_reads_the_samples(built: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("webdataset")
    cases = list(bench.read(built))
    (shard,) = webdataset.write(cases, tmp_path / "w")
    found = list(library.WebDataset(str(shard), shardshuffle=False).decode("rgb8"))
    assert len(found) == len(cases)
    for sample_, case in zip(found, cases, strict=True):
        assert sample_["json"]["answer"] == case.letter
        assert sample_["json"]["question"].startswith(case.question)
        for k, frame in enumerate(case.frames):
            assert sample_[f"image{k}.jpg"].shape == (frame.height, frame.width, 3)
            assert sample_[f"marked{k}.jpg"].shape == (frame.height, frame.width, 3)


def test_shards_are_below_their_limit_and_the_same_each_time(built: Path, tmp_path: Path) -> None:
    cases = list(bench.read(built))
    files = webdataset.write(cases, tmp_path / "a", shard_bytes=100_000)
    webdataset.write(cases, tmp_path / "b", shard_bytes=100_000)
    assert len(files) > 2
    assert max(f.stat().st_size for f in files) <= 100_000
    assert list(webdataset.read(tmp_path / "a")) == cases
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_the_command_refuses_what_is_there(built: Path, tmp_path: Path) -> None:
    words = ["export", str(built), "--to", "webdataset", "--out", str(tmp_path / "w")]
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert isinstance(CliRunner().invoke(cli, words).exception, UsageError)


def test_a_missing_image_leaves_nothing_behind(built: Path, tmp_path: Path) -> None:
    (built / "match_bench/case_000003/FRAME01_ORI.jpg").unlink()
    with pytest.raises(InputError, match="FRAME01_ORI"):
        webdataset.write(bench.read(built), tmp_path / "w")
    assert not list((tmp_path / "w").iterdir())


def test_paths_and_links_do_not_leave_their_folder(built: Path, tmp_path: Path) -> None:
    (shard,) = webdataset.write(list(bench.read(built))[:1], tmp_path / "w")
    with tarfile.open(shard) as tar:
        entries = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    name = next(n for n in entries if n.endswith(".json"))
    record = json.loads(entries[name])
    record["case"]["frames"][0]["path"] = "../escape.jpg"
    for data, link in ((json.dumps(record).encode(), False), (entries[name], True)):
        with tarfile.open(shard, "w") as tar:
            for other, content in (entries | {name: data}).items():
                entry = tarfile.TarInfo(other)
                if link and other.endswith("image0.jpg"):
                    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                    tar.addfile(entry)
                    continue
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        with pytest.raises(InputError, match="image is missing" if link else "must be relative"):
            list(webdataset.read(tmp_path / "w", tmp_path / "into"))
    assert not (tmp_path / "escape.jpg").exists()


def test_mutated_shards_are_named_and_never_crash(built: Path, tmp_path: Path) -> None:
    (shard,) = webdataset.write(list(bench.read(built))[:2], tmp_path / "w")
    whole, rng = shard.read_bytes(), random.Random(0)
    for _ in range(500):
        data = bytearray(whole)
        at = rng.randrange(len(data)) if rng.random() < 0.5 else 512 * rng.randrange(len(data) // 512)
        if rng.random() < 0.3:
            data = data[:at]
        else:
            data[at : at + 40] = rng.randbytes(rng.randrange(60))
        shard.write_bytes(data)
        try:
            list(webdataset.read(tmp_path / "w"))
        except InputError as error:
            assert shard.name in str(error)


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_shard_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    os.mkfifo(tmp_path / "shards/cases-000000.tar")
    with pytest.raises(InputError, match=r"cases-000000\.tar: file cannot be read: not a regular file"):
        list(webdataset.read(tmp_path))
