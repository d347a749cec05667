"""What of a journal counts after a kill, a crash of the machine, or a full disk."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from mmvm_data.core.errors import Reject, UsageError
from mmvm_data.pipeline import journal
from mmvm_data.pipeline.journal import Journal, Totals

REQUEST = {"seed": 1}


def open_journal(folder: Path) -> Journal:
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    return Journal.open(folder / "work", folder / "cases", REQUEST)


def append_units(journal_before: Journal, folder: Path, units: int) -> None:
    """Append units up to a number, with one case and one reject each; the table's lines of odd ones are known."""
    for unit in range(journal_before.totals.units, units):
        (folder / f"cases/case_{unit:06d}").mkdir()
        reject = Reject("s", f"v{unit}", -1, "reason \udcff")
        totals = Totals(units=unit + 1, cases=unit + 1, rejects=unit + 1)
        rows: list[str | None] | None = [row_of(unit)] if unit % 2 else None
        journal_before.append(totals, [b"%d\n" % unit], [reject], rows=rows)


def row_of(unit: int) -> str:
    return f'{unit}\t"A\nB"'


def test_a_killed_process_keeps_what_was_recorded(tmp_path: Path) -> None:
    journal_before = open_journal(tmp_path)
    append_units(journal_before, tmp_path, 3)
    (tmp_path / "cases/case_000003").mkdir()  # moved to its place, not recorded yet
    (tmp_path / "work/cases.jsonl").open("ab").write(b"half a li")
    (tmp_path / "work/journal.jsonl").open("ab").write(b'{"state": {"un')
    with open_journal(tmp_path) as reopened:
        assert reopened.totals == Totals(units=3, cases=3, rejects=3)
        assert sorted(p.name for p in (tmp_path / "cases").iterdir()) == [f"case_{k:06d}" for k in range(3)]
        append_units(reopened, tmp_path, 5)
        reopened.sync()
        for name in ("cases.jsonl", "rejects.jsonl"):
            reopened.link_records(name, tmp_path / name)
        assert (tmp_path / "cases.jsonl").read_bytes() == b"0\n1\n2\n3\n4\n"
        assert list(reopened.iter_rows()) == [None, row_of(1), None, row_of(3), None]
        lines = (tmp_path / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["video"] for line in lines] == [f"v{k}" for k in range(5)]


def test_rows_of_an_earlier_version_are_not_known(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal_before:
        append_units(journal_before, tmp_path, 2)
    log = tmp_path / "work/journal.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        del line["bytes"]["rows.jsonl"]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "work/rows.jsonl").unlink()
    with open_journal(tmp_path) as reopened:
        append_units(reopened, tmp_path, 4)
        assert list(reopened.iter_rows()) == [None, None, None, row_of(3)]
        reopened.rewind(1)
        reopened.delete_stray_cases(tmp_path / "cases")
        append_units(reopened, tmp_path, 2)
        assert list(reopened.iter_rows()) == [None, row_of(1)]


def test_after_a_crash_of_the_machine_only_what_was_synced_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_journal(tmp_path) as journal_before:
        append_units(journal_before, tmp_path, 2)
        journal_before.sync()
        append_units(journal_before, tmp_path, 4)
    with (tmp_path / "work/journal.jsonl").open("ab") as log:
        log.write(b"\0" * 512 + b"\n")  # as a file system leaves it
    monkeypatch.setattr(journal, "_boot_id", lambda: "the next start")
    with open_journal(tmp_path) as reopened:
        assert reopened.totals.units == 2
        assert len(list((tmp_path / "cases").iterdir())) == 2
        append_units(reopened, tmp_path, 3)
    with open_journal(tmp_path) as reopened:
        assert reopened.totals.units == 3


def test_the_disk_is_synced_while_the_build_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_SYNC_SECONDS", 0.0)
    with open_journal(tmp_path) as journal_before:
        append_units(journal_before, tmp_path, 1)
        assert journal_before._syncing is not None
        journal_before._syncing.join()
        append_units(journal_before, tmp_path, 3)
    log = (tmp_path / "work/journal.jsonl").read_bytes().splitlines(keepends=True)
    synced = [json.loads(line)["synced"] for line in log if b"synced" in line]
    assert synced[0] == len(log[0])


def test_a_failed_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_to_sync(folder: Path) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(journal, "sync_disk", fail_to_sync)
    with open_journal(tmp_path) as journal_before:
        append_units(journal_before, tmp_path, 1)
        with pytest.raises(OSError, match="I/O error"):
            journal_before.sync()


def test_another_request_is_refused(tmp_path: Path) -> None:
    with open_journal(tmp_path):
        pass
    with pytest.raises(UsageError, match="seed"):
        Journal.open(tmp_path / "work", tmp_path / "cases", {"seed": 2})


def test_what_is_dropped_does_not_count_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a crash of the machine, and in a process that continues."""
    with open_journal(tmp_path) as journal_before:
        append_units(journal_before, tmp_path, 4)
        journal_before.rewind(2)
        assert journal_before.totals == Totals(units=2, cases=2, rejects=2)
    for boot in (journal._boot_id(), "the next start", "the next start", "the one after"):
        monkeypatch.setattr(journal, "_boot_id", lambda boot=boot: boot)
        with open_journal(tmp_path) as reopened:
            assert reopened.totals.units == 2
            assert [record.totals.units for record in reopened.iter_videos()] == [1, 2]
            assert sorted(p.name for p in (tmp_path / "cases").iterdir()) == ["case_000000", "case_000001"]
    with open_journal(tmp_path) as reopened:
        append_units(reopened, tmp_path, 3)
        reopened.rewind(0)
        assert not reopened.has_entries
        reopened.delete_stray_cases(tmp_path / "cases")
        append_units(reopened, tmp_path, 2)
    with open_journal(tmp_path) as reopened:
        assert reopened.totals == Totals(units=2, cases=2, rejects=2)
