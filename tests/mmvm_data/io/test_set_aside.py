"""A former result that is kept while a new one is written, with a kill at each rename."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.io import set_aside as module
from mmvm_data.io.set_aside import BOOKKEEPING, REPLACED, delete_replaced, restore_moving, restore_replaced, set_aside

NAMES = ("cases", "table.tsv", "missing")


class Killed(BaseException):
    pass


def make_result(folder: Path, text: str) -> None:
    (folder / "cases").mkdir(parents=True)
    (folder / "cases/one.json").write_text(text)
    (folder / "table.tsv").write_text(text)


def read_result(folder: Path) -> str | None:
    """The text of a complete result; None when nothing of one is there."""
    texts = {path.read_text() for name in ("cases/one.json", "table.tsv") if (path := folder / name).exists()}
    assert len(texts) <= 1
    if texts:
        assert (folder / "cases/one.json").exists() and (folder / "table.tsv").exists()
    return texts.pop() if texts else None


def kill_at_each_step(monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], Path], run: Callable[[Path], Any]) -> int:
    """Call ``run`` again and again, and end it at its n-th rename, removal or new folder."""
    for at in range(100):
        folder, seen = prepare(), 0

        def count(original: Callable[..., Any], at: int = at) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal seen
                if seen == at:
                    raise Killed
                seen += 1
                return original(*args, **kwargs)

            return call

        with monkeypatch.context() as patched:
            for name in ("rename", "mkdir", "rmdir", "unlink"):
                patched.setattr(os, name, count(getattr(os, name)))
            try:
                run(folder)
            except Killed:
                pass
            else:
                return at
        restore_moving(folder)
        yield_check(folder)
    raise AssertionError


def yield_check(folder: Path) -> None:
    """The former result stands in its place or in ``.replaced``."""
    assert (read_result(folder) or read_result(folder / REPLACED)) == "old"


def test_killed_while_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = iter(range(100))

    def prepare() -> Path:
        folder = tmp_path / str(next(folders))
        make_result(folder, "old")
        return folder

    assert kill_at_each_step(monkeypatch, prepare, lambda folder: set_aside(folder, NAMES)) >= 4
    assert module.REPLACED in BOOKKEEPING


def test_killed_while_it_is_moved_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = iter(range(100))

    def prepare() -> Path:
        folder = tmp_path / str(next(folders))
        make_result(folder, "old")
        set_aside(folder, NAMES)
        return folder

    assert kill_at_each_step(monkeypatch, prepare, restore_replaced) >= 3


def test_it_is_deleted_when_the_new_one_is_complete(tmp_path: Path) -> None:
    make_result(tmp_path, "old")
    set_aside(tmp_path, NAMES)
    assert read_result(tmp_path) is None
    assert read_result(tmp_path / REPLACED) == "old"
    make_result(tmp_path, "new")
    delete_replaced(tmp_path)
    assert read_result(tmp_path) == "new"
    assert sorted(os.listdir(tmp_path)) == ["cases", "table.tsv"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_new_result_that_is_not_complete_is_replaced(tmp_path: Path, keep: bool) -> None:
    """The one before stays in any case."""
    make_result(tmp_path, "old")
    set_aside(tmp_path, NAMES)
    make_result(tmp_path, "unfinished")
    set_aside(tmp_path, NAMES, keep_unfinished=keep)
    assert read_result(tmp_path) is None
    kept = tmp_path / REPLACED
    assert read_result(kept) == ("unfinished" if keep else "old")
    if keep:
        assert read_result(kept / REPLACED) == "old"
    assert sorted(set(os.listdir(tmp_path)) - {REPLACED}) == []
