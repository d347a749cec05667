"""A recipe whose sources change while it is interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmvm_data.core.errors import UsageError
from mmvm_data.pipeline.options import BuildOptions, BuildProgress
from mmvm_data.recipes.multi_source.build import build_recipe
from mmvm_data.recipes.multi_source.recipe import read_recipe
from tests.worlds import davis, note_built_videos, tree

CONTINUE = BuildOptions(existing="resume")
ACCEPT = BuildOptions(existing="resume", accept_changes=True)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the videos that are read, in their order."""
    return note_built_videos(monkeypatch)


def write_recipe(folder: Path, **changes: Any) -> Path:
    davis(folder / "a", videos=3, frames=4)
    davis(folder / "b", videos=3, frames=4, objects=3)
    for kind in ("JPEGImages", "Annotations"):
        for video in sorted((folder / f"b/{kind}/480p").iterdir()):
            video.rename(video.with_name(video.name.replace("clip", "other")))
    sources = [{"name": name, "reader": "davis", "root": name} for name in "ab"]
    content = {"sources": sources, "sampling": {"min_area": 50, "cases_per_video": 1}} | changes
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


def build(path: Path, out: str = "out", options: BuildOptions | None = None, **hooks: Any) -> Path:
    build_recipe(read_recipe(path), path.parent, path.parent / out, options, **hooks)
    return path.parent / out


def stop_after(videos: int) -> Callable[[BuildProgress], None]:
    def stop(progress: BuildProgress) -> None:
        if progress.videos >= videos:
            raise KeyboardInterrupt

    return stop


def swap(root: Path, video: str, other: str) -> None:
    """Replace the pictures of a video by those of another one."""
    for file in sorted((root / "JPEGImages/480p" / video).iterdir()):
        file.write_bytes((root / "JPEGImages/480p" / other / file.name).read_bytes())


def test_a_source_that_was_finished_is_compared_again(tmp_path: Path, read: list[str]) -> None:
    path = write_recipe(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build(path, progress=stop_after(4))
    assert len(read) == 4
    swap(tmp_path / "a", "clip001", "clip002")
    with pytest.raises(UsageError, match=r"^source 'a' of the recipe: the source has changed .*\n  video clip001: "):
        build(path, options=CONTINUE)
    read.clear()
    out = build(path, options=ACCEPT)
    assert sorted(read)[0] == "clip001" and len(read) == 1 + 2  # the changed one, and what was left of the second
    assert tree(out) == tree(build(path, "fresh"))
    assert not list(tmp_path.glob(".out.recipe"))


def test_nothing_is_read_twice_where_nothing_has_changed(tmp_path: Path, read: list[str]) -> None:
    path = write_recipe(tmp_path)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            build(path, options=CONTINUE, choosing=lambda number: (_ for _ in ()).throw(KeyboardInterrupt))
    assert len(read) == 6
    out = build(path, options=CONTINUE)
    assert len(read) == 6
    assert tree(out) == tree(build(path, "fresh"))


def test_new_videos_that_change_the_quotas(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, total=4)
    with pytest.raises(KeyboardInterrupt):
        build(path, progress=stop_after(4))
    for kind in ("JPEGImages", "Annotations"):
        for number in range(3, 9):
            shutil.copytree(tmp_path / f"a/{kind}/480p/clip000", tmp_path / f"a/{kind}/480p/clip00{number}")
    with pytest.raises(UsageError, match=r"the sources have changed .* other numbers of cases are wanted of a, b;"):
        build(path, options=CONTINUE)
    out = build(path, options=ACCEPT)
    assert tree(out) == tree(build(path, "fresh"))
