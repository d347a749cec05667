"""A source that changes while its build is interrupted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.pipeline.build import BuildOptions, BuildProgress, build
from tests.worlds import davis, note_built_videos, tree
from tests.ytvis_files import make_content, write_files

VIDEOS = 6
SAMPLING = SamplingOptions(seed=3, min_area=100)
START, CONTINUE = BuildOptions(sampling=SAMPLING), BuildOptions(sampling=SAMPLING, existing="resume")
ACCEPT = BuildOptions(sampling=SAMPLING, existing="resume", accept_changes=True)


@pytest.fixture()
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the videos that are read, in their order."""
    return note_built_videos(monkeypatch)


def interrupt_after(videos: int) -> Callable[[BuildProgress], None]:
    def progress(now: BuildProgress) -> None:
        if now.videos >= videos:
            raise KeyboardInterrupt

    return progress


def start(root: Path, out: Path, videos: int = 4, options: BuildOptions = START, source: str = "davis") -> None:
    with pytest.raises(KeyboardInterrupt):
        build(source, root, out, options, interrupt_after(videos))


def clip(root: Path, video: str, kind: str = "JPEGImages") -> Path:
    return root / kind / "480p" / video


def copy_frame(root: Path, video: str, other: str) -> None:
    """Replace the frames of a video by those of another one."""
    for file in sorted(clip(root, video).iterdir()):
        file.write_bytes((clip(root, other) / file.name).read_bytes())


def add_video(root: Path, video: str, other: str) -> None:
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(clip(root, other, kind), clip(root, video, kind))


def remove_video(root: Path, video: str) -> None:
    for kind in ("JPEGImages", "Annotations"):
        shutil.rmtree(clip(root, video, kind))


def check_accepted(root: Path, out: Path, expected: list[str], built: list[str], source: str = "davis") -> None:
    """Continue with the changes: exactly these videos are read, and the result is that of a new build."""
    built.clear()
    build(source, root, out, ACCEPT)
    assert sorted(built) == sorted(expected)
    build(source, root, out.with_name("fresh"), START)
    assert tree(out) == tree(out.with_name("fresh"))
    assert not (out / ".build").exists()


@pytest.mark.parametrize("position", [0, 2, 3])
def test_replaced_pixels(tmp_path: Path, built: list[str], position: int) -> None:
    root, out = davis(tmp_path / "world", VIDEOS), tmp_path / "b"
    start(root, out)
    changed, last = built[position], built[-1]
    copy_frame(root, changed, last if last != changed else built[0])
    before = tree(out, leave_out=("journal.jsonl",))
    with pytest.raises(
        UsageError, match=f"video {changed}: .*JPEGImages/480p/{changed}/0000[0-9].jpg has changed"
    ) as refused:
        build("davis", root, out, CONTINUE)
    assert str(refused.value).count("\n") == 1
    assert tree(out, leave_out=("journal.jsonl",)) == before
    unread = {f"clip{k:03d}" for k in range(VIDEOS)} - set(built)
    check_accepted(root, out, [changed, *unread], built)


def test_videos_that_come_and_go(tmp_path: Path, built: list[str]) -> None:
    root, out = davis(tmp_path / "world", VIDEOS), tmp_path / "b"
    start(root, out)
    gone, finished = built[1], set(built)
    unread = {f"clip{k:03d}" for k in range(VIDEOS)} - finished
    for k in range(3):
        add_video(root, f"new{k}", gone)
    remove_video(root, gone)
    with pytest.raises(UsageError) as refused:
        build("davis", root, out, CONTINUE)
    lines = str(refused.value).splitlines()[1:]
    expected = [*(f"  video new{k} is new" for k in range(3)), f"  video {gone} is no longer there"]
    assert [line for line in lines if not line.startswith("  ImageSets")] == expected
    check_accepted(root, out, [*unread, "new0", "new1", "new2"], built)


def test_what_was_not_read_may_change(tmp_path: Path, built: list[str]) -> None:
    """A video whose turn has not come, and files that are none of the source's."""
    root, out = davis(tmp_path / "world", VIDEOS), tmp_path / "b"
    start(root, out)
    unread = sorted({f"clip{k:03d}" for k in range(VIDEOS)} - set(built))
    copy_frame(root, unread[0], built[0])
    (clip(root, built[0]) / "notes.txt").write_text("mine")
    built.clear()
    build("davis", root, out, CONTINUE)
    assert sorted(built) == unread
    build("davis", root, tmp_path / "fresh", START)
    assert tree(out) == tree(tmp_path / "fresh")


def test_a_file_that_was_missing(tmp_path: Path, built: list[str]) -> None:
    """A frame without its mask, which comes later: the listing of the folder has changed."""
    root, out = davis(tmp_path / "world", VIDEOS), tmp_path / "b"
    kept = {
        file: file.read_bytes()
        for k in range(VIDEOS)
        for file in clip(root, f"clip{k:03d}", "Annotations").glob("*3.png")
    }
    for file in kept:
        file.unlink()
    start(root, out)
    finished, changed = list(built), built[1]
    for file, data in kept.items():
        if changed in file.parts:
            file.write_bytes(data)
    with pytest.raises(UsageError, match=f"video {changed}: "):
        build("davis", root, out, CONTINUE)
    unread = {f"clip{k:03d}" for k in range(VIDEOS)} - set(finished)
    check_accepted(root, out, [changed, *unread], built)


def test_an_annotation_file_of_all_videos(tmp_path: Path, built: list[str]) -> None:
    """Each video may depend on it, so that all are built again."""
    root, out = write_files(tmp_path / "world", make_content()), tmp_path / "b"
    build("ytvis2021", root, tmp_path / "reference", START)
    videos = list(built)
    built.clear()
    start(root, out, 1, source="ytvis2021")
    (root / "train.json").write_text(json.dumps(make_content(), indent=1))
    with pytest.raises(UsageError, match=r"train\.json has changed"):
        build("ytvis2021", root, out, CONTINUE)
    check_accepted(root, out, videos, built, "ytvis2021")


def test_a_time_that_changes_alone_is_a_change(tmp_path: Path, built: list[str]) -> None:
    root, out = davis(tmp_path / "world", VIDEOS), tmp_path / "b"
    start(root, out)
    for file in clip(root, built[0], "Annotations").iterdir():
        os.utime(file, ns=(1, 1))
    with pytest.raises(UsageError, match="has changed"):
        build("davis", root, out, CONTINUE)


def test_interrupted_again_with_kept_videos(tmp_path: Path, built: list[str]) -> None:
    """Videos that were set aside are neither lost nor read again, and one that changes meanwhile is."""
    root, out = davis(tmp_path / "world", VIDEOS), tmp_path / "b"
    start(root, out, 5)
    first, *others = built[:5]
    copy_frame(root, first, others[0])
    built.clear()
    start(root, out, 2, ACCEPT)
    assert built == [first]
    copy_frame(root, others[2], others[0])
    unread = {f"clip{k:03d}" for k in range(VIDEOS)} - {first, *others}
    check_accepted(root, out, [others[2], *unread], built)


def test_a_build_that_was_full(tmp_path: Path, built: list[str]) -> None:
    """The last video gave only a part of its cases, so it is read again when it may give more."""
    root, out = davis(tmp_path / "world", VIDEOS), tmp_path / "b"
    limited = BuildOptions(sampling=SAMPLING, max_cases=7)
    build("davis", root, tmp_path / "reference", limited)
    read = list(built)
    built.clear()
    start(root, out, len(read), limited)
    remove_video(root, read[0])
    build("davis", root, out, BuildOptions(sampling=SAMPLING, max_cases=7, existing="resume", accept_changes=True))
    build("davis", root, tmp_path / "fresh", limited)
    assert tree(out) == tree(tmp_path / "fresh")


def test_changes_are_accepted_in_an_unfinished_build_only() -> None:
    with pytest.raises(OptionError, match="existing='resume'"):
        BuildOptions(accept_changes=True)
