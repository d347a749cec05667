"""What lies at a path, and its removal."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mmvm_data.builders import open_source
from mmvm_data.core.errors import InputError
from mmvm_data.io import files
from mmvm_data.io.files import list_names, path_kind, remove_tree, sync_tree
from tests.worlds import davis


def test_path_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    assert path_kind(tmp_path) == "folder"
    assert path_kind(tmp_path / "file") == path_kind(tmp_path / "link") == "file"
    assert path_kind(tmp_path / "pipe") == "other"
    for name in ("gone", "loop", "nowhere", "file/below", "a" * 300, "a\0b"):
        assert path_kind(tmp_path / name) == "nothing"


def test_path_kind_in_a_closed_folder_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(InputError, match="a: cannot be read: Permission denied"):
        path_kind(tmp_path / "a")


def test_names_with_one_dot_are_hidden_and_those_with_two_are_not(tmp_path: Path) -> None:
    root = davis(tmp_path, videos=2, frames=2)
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "480p/clip001").rename(root / kind / "480p/..clip")
        (root / kind / "480p/.cache").mkdir()
    assert list_names(root / "JPEGImages/480p") == ["..clip", "clip000"]
    source = open_source("davis", root)
    assert list(source.videos) == ["..clip", "clip000"]
    assert source.load("..clip").regions(0)


@pytest.mark.parametrize(("count", "is_whole_disk"), [(99, False), (100, True)])
def test_small_folders_are_synced_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, is_whole_disk: bool
) -> None:
    synced: list[Path] = []
    disks: list[Path] = []
    monkeypatch.setattr(files, "fsync_path", synced.append)
    monkeypatch.setattr(files, "sync_disk", disks.append)
    (tmp_path / "below").mkdir()
    for k in range(count):
        (tmp_path / "below" / f"{k:03d}").touch()
    sync_tree(tmp_path)
    everything = {tmp_path, *tmp_path.rglob("*")}
    assert (set(synced), disks) == ((set(), [tmp_path]) if is_whole_disk else (everything, []))
    with pytest.raises(FileNotFoundError):
        sync_tree(tmp_path / "gone")


def test_a_tree_is_removed_and_what_links_lead_to_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmvm_data.io.files._MAX_NAMES", 3)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/a").write_text("a")
    for k in range(10):
        (tmp_path / f"tree/{k}/inner").mkdir(parents=True)
        (tmp_path / f"tree/{k}/file").write_text("b")
    (tmp_path / "tree/folder").symlink_to(tmp_path / "kept")
    (tmp_path / "tree/0/file-link").symlink_to(tmp_path / "kept/a")
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists() and (tmp_path / "kept/a").read_text() == "a"
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "tree")
