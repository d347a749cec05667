"""Videos that are set aside count when they are complete, and once."""

from __future__ import annotations

from pathlib import Path

from mmvm_data.pipeline.kept_videos import KeptVideo, keep_cases, keep_records, load_kept

LINES = [b'{"answer": 1}\n', b'{"answer": null}\n']


def test_a_video_counts_when_its_cases_have_been_moved(tmp_path: Path) -> None:
    journal, cases = tmp_path / "journal", tmp_path / "cases"
    for folder in (journal, *(cases / f"case_00000{number}" for number in (3, 4))):
        folder.mkdir(parents=True)
        (folder / "file").write_text(folder.name)
    partial = keep_records(journal, [KeptVideo("a", LINES, [], {}, range(3, 5))])
    keep_cases(partial, cases)
    (video,) = load_kept(journal, tmp_path).values()
    staging = tmp_path / "staging"
    staging.mkdir()
    result = video.take(7, staging)
    assert [case.is_none for case in result.cases] == [False, True]
    assert [(staging / f"7-{k}" / "file").read_text() for k in range(2)] == ["case_000003", "case_000004"]


def test_what_was_interrupted_before_is_deleted(tmp_path: Path) -> None:
    keep_records(tmp_path, [KeptVideo("a", [], [], {}), KeptVideo("b", LINES, [], {}, range(2))])
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert load_kept(tmp_path, tmp_path) == {}
    assert not list((tmp_path / "kept").iterdir())
