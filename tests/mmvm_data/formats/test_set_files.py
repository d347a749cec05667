"""Writing sets: records that were checked before give the same files as those that are checked again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.set_files import SetPart, write_sets
from tests.mmvm_data.formats.test_set_operations import write_benchmark
from tests.worlds import tree


@pytest.mark.parametrize("facts", [{}, {"recipe_source": "a"}])
@pytest.mark.parametrize("rename", [str, "new_{}".format])
def test_checked_records_give_the_same_files(
    tmp_path: Path, facts: dict[str, str], rename: Callable[[str], str]
) -> None:
    folder = write_benchmark(tmp_path / "a", list(range(12)))
    ids = {case.id: rename(case.id) for case in bench.read(folder)}
    for is_checked in (False, True):
        part = SetPart(folder, ids, facts=facts, is_checked=is_checked)
        write_sets(tmp_path / f"{is_checked}", {".": [part]}, "sample", {})
    assert tree(tmp_path / "True") == tree(tmp_path / "False")
    assert [case.id for case in bench.read(tmp_path / "True")] == list(ids.values())


def test_an_image_outside_of_its_folder_is_refused_in_checked_records_too(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path / "a", [1])
    (case,) = bench.read(folder)
    elsewhere = case.frames[0].model_copy(update={"path": "elsewhere.jpg"})
    moved: Case = case.model_copy(update={"frames": (elsewhere, *case.frames[1:])})
    (folder / bench.CASES).write_text(moved.model_dump_json() + "\n")
    for is_checked in (False, True):
        with pytest.raises(InputError, match=r"has the image 'elsewhere.jpg' outside of match_bench/case_000001/"):
            write_sets(tmp_path / "out", {".": [SetPart(folder, {case.id: "b"}, is_checked=is_checked)]}, "sample", {})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("origin", [{}, {"license": "CC BY 4.0"}])
@pytest.mark.parametrize("extra", [{}, {"a": {"extra": {}}, "extra": 1}, {"note": '"extra":{}},"extra":'}])
def test_facts_are_added_to_the_provenance_alone(
    tmp_path: Path, origin: dict[str, str], extra: dict[str, object]
) -> None:
    folder = write_benchmark(tmp_path / "a", [1])
    (case,) = bench.read(folder)
    assert case.provenance is not None
    case = case.model_copy(update={"provenance": case.provenance.model_copy(update={"extra": origin}), "extra": extra})
    (folder / bench.CASES).write_text(case.model_dump_json() + "\n")
    facts = {"recipe_source": 'a "b" \N{LATIN SMALL LETTER E WITH ACUTE}'}
    for is_checked in (False, True):
        out = tmp_path / f"{is_checked}"
        write_sets(out, {".": [SetPart(folder, {case.id: case.id}, facts=facts, is_checked=is_checked)]}, "sample", {})
        (found,) = bench.read(out)
        assert found.provenance is not None
        assert (found.provenance.extra, found.extra) == ({**origin, **facts}, extra)
        assert (out / bench.CASES).read_text() == found.model_dump_json() + "\n"
