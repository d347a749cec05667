"""Several files that are replaced in one step."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mmvm_data.core.errors import InputError
from mmvm_data.io.transaction import JOURNAL, open_transaction, recover, settle
from tests.worlds import tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "gone"):
        (tmp_path / name).write_text("old")
    return tmp_path


def change(folder: Path) -> None:
    with open_transaction(folder) as transaction:
        for name in ("a", "b", "sub/c"):
            transaction.stage(name).write_text("new")
        transaction.remove("gone")


NEW = {"a": b"new", "b": b"new", "sub/c": b"new"}


def test_all_or_nothing(folder: Path) -> None:
    before = tree(folder)
    with pytest.raises(ZeroDivisionError), open_transaction(folder) as transaction:
        transaction.stage("a").write_text("new")
        1 / 0  # noqa: B018
    assert tree(folder) == before and not (folder / JOURNAL).exists()
    change(folder)
    assert tree(folder) == NEW and not (folder / JOURNAL).exists()


@pytest.mark.parametrize("moved", range(4))
def test_a_reader_completes_what_was_committed(folder: Path, monkeypatch: pytest.MonkeyPatch, moved: int) -> None:
    """The disk fails after some of the renames: commit.json first, then the files."""
    rename = os.replace
    calls: list[Path] = []

    def replace(source: Path, target: Path) -> None:
        if len(calls) > moved:
            raise OSError(5, "Input/output error")
        calls.append(target)
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    if moved < 3:
        with pytest.raises(OSError, match="Input/output"):
            change(folder)
        assert sum(data == b"new" for name, data in tree(folder).items() if JOURNAL not in name) == moved
        with pytest.raises(InputError, match=r"left a change unfinished, and it cannot be completed.*Input/output"):
            settle(folder)
        monkeypatch.undo()
        settle(folder)
    else:
        change(folder)
    assert tree(folder) == NEW and not (folder / JOURNAL).exists()


def test_what_was_not_committed_is_left_by_readers_and_discarded_by_writers(folder: Path) -> None:
    before = tree(folder)
    (folder / JOURNAL / "files").mkdir(parents=True)
    (folder / JOURNAL / "files/a").write_text("half")
    settle(folder)
    assert (folder / JOURNAL / "files/a").exists()
    recover(folder)
    assert tree(folder) == before and not (folder / JOURNAL).exists()


@pytest.mark.parametrize(
    "record",
    [
        "{",
        "[]",
        '{"replaced": [3], "removed": []}',
        '{"replaced": ["../x"], "removed": []}',
        '{"replaced": [], "removed": ["/x"]}',
    ],
)
def test_a_broken_journal_is_one_line_and_changes_nothing(folder: Path, record: str) -> None:
    (folder / JOURNAL).mkdir()
    (folder / JOURNAL / "commit.json").write_text(record)
    before = tree(folder, leave_out=())
    with pytest.raises(InputError, match=r"commit\.json"):
        settle(folder)
    assert tree(folder, leave_out=()) == before


def test_names_stay_inside(folder: Path) -> None:
    with pytest.raises(InputError, match="stay inside"), open_transaction(folder) as transaction:
        transaction.stage("../x")
    assert json.dumps(sorted(os.listdir(folder))) == '["a", "b", "gone"]'
