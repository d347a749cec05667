"""What lies at a path."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import path_kind


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
