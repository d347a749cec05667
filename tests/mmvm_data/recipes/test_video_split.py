"""``split --by video``: videos that share pictures come to one part."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cli import cli
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench
from mmvm_data.formats.set_operations import split_set
from mmvm_data.pipeline.build import build
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.recipes.video_split import VideoSplit, split_videos
from tests.worlds import davis, tree

HALVES = {"train": 0.5, "test": 0.5}


@pytest.fixture(scope="module")
def bench_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases of six videos, clip000 to 2 and other000 to 2: those of one number have the same pictures, recompressed."""
    folder = tmp_path_factory.mktemp("copies")
    davis(folder / "set", videos=3, size=(60, 160))
    davis(folder / "more", videos=3, size=(60, 160))
    for picture in (folder / "more/JPEGImages").rglob("*.jpg"):
        image = cv2.imread(str(picture))
        assert image is not None
        cv2.imwrite(str(picture), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    for kind in ("JPEGImages", "Annotations"):
        for video in (folder / f"more/{kind}/480p").iterdir():
            video.rename(folder / f"set/{kind}/480p" / video.name.replace("clip", "other"))
    sampling = SamplingOptions(min_area=50, min_side=5, cases_per_video=2)
    build("davis", folder / "set", folder / "bench", BuildOptions(sampling=sampling))
    return folder / "bench"


def parts_of(folder: Path) -> dict[str, str]:
    """Video -> the part that its cases are in."""
    return {c.provenance.video: p for p in HALVES for c in bench.read(folder / p) if c.provenance is not None}


@pytest.mark.parametrize("seed", range(4))
def test_copies_come_to_one_part(seed: int, bench_dir: Path, tmp_path: Path) -> None:
    result = split_videos(bench_dir, tmp_path / "s", HALVES, seed)
    assert (result.tied, result.groups) == (6, 3) and sum(result.cases.values()) == len(list(bench.read(bench_dir)))
    parts = parts_of(tmp_path / "s")
    assert all(parts[f"clip{k:03d}"] == parts[f"other{k:03d}"] for k in range(3)), parts
    tied = json.loads((tmp_path / "s/train/derived.json").read_text())["options"]["tied"]
    assert tied == [["davis", f"other{k:03d}", "davis", f"clip{k:03d}"] for k in range(3)]


def test_the_command(bench_dir: Path, tmp_path: Path) -> None:
    command = ["split", str(bench_dir), "--shares", "train=0.5,test=0.5", "--seed", "1", "--out"]
    for name, more in (("one", []), ("two", ["--workers", "2"]), ("plain", ["--ignore-duplicates"])):
        done = CliRunner().invoke(cli, [*command, str(tmp_path / name), *more])
        assert done.exit_code == 0, done.output
        said = "6 videos of 3 groups share pictures or an original, and stay together"
        assert (said in " ".join(done.output.split())) is (name != "plain")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    split_set(bench_dir, tmp_path / "by_name", shares=HALVES, seed=1)
    assert tree(tmp_path / "plain") == tree(tmp_path / "by_name")
    parts = parts_of(tmp_path / "plain")
    assert any(parts[f"clip{k:03d}"] != parts[f"other{k:03d}"] for k in range(3))


def test_distinct_videos_are_divided_as_by_their_names(tmp_path: Path) -> None:
    davis(tmp_path / "set", videos=4, size=(60, 160))
    sampling = SamplingOptions(min_area=50, min_side=5, cases_per_video=1)
    build("davis", tmp_path / "set", tmp_path / "bench", BuildOptions(sampling=sampling))
    result = split_videos(tmp_path / "bench", tmp_path / "s", HALVES)
    assert result == VideoSplit(split_set(tmp_path / "bench", tmp_path / "plain", shares=HALVES), 0, 0)
    assert parts_of(tmp_path / "s") == parts_of(tmp_path / "plain")


def test_what_cannot_be_split_writes_nothing(bench_dir: Path, tmp_path: Path) -> None:
    four = dict.fromkeys("abcd", 0.25)
    with pytest.raises(
        UsageError, match=r"4 parts of `shares` need a video each; of its videos, 3 are not kept together"
    ):
        split_videos(bench_dir, tmp_path / "s", four)
    with pytest.raises(OptionError, match=r"must sum to 1, got 0\.4"):
        split_videos(bench_dir, tmp_path / "s", {"a": 0.4})
    with pytest.raises(UsageError, match="already exists and is not empty"):
        split_videos(bench_dir, bench_dir, HALVES)
    split_set(bench_dir, tmp_path / "broken", shares={"all": 1.0})
    picture = next((tmp_path / "broken/all").rglob("*_ORI.jpg"))
    picture.unlink()  # a link of the first set's
    picture.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"cannot be read.*; with `ignore_duplicates` no image is read"):
        split_videos(tmp_path / "broken/all", tmp_path / "s", HALVES)
    assert not (tmp_path / "s").exists()
