"""What a build uploads, in which order, and what of it counts afterwards, on a store in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError, Reject, UsageError
from mmvm_data.io.remote import RemoteStore
from mmvm_data.pipeline import build as pipeline
from mmvm_data.pipeline.build import BuildOptions
from mmvm_data.pipeline.journal import Journal, Totals, VideoRecord
from mmvm_data.pipeline.upload import BuildUpload
from tests.worlds import davis, tree

fsspec = pytest.importorskip("fsspec")

URL = "memory://bucket/out"
REQUEST = {"source": "davis", "seed": 3}
STATE = {"videos": ["v0"]}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteStore]:
    monkeypatch.setenv("MMVM_DATA_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield RemoteStore(URL)
    system.store.clear()


def read(store: RemoteStore) -> dict[str, bytes]:
    names = store.list_files()
    return dict(zip(names, store.read_files(names), strict=True))


def open_journal(folder: Path) -> Journal:
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    return Journal.open(folder / "work", folder / "cases", REQUEST)


def record_of(unit: int) -> VideoRecord:
    return VideoRecord(f"v{unit}", Totals(unit + 1, unit + 1, 0, unit + 1, unit), unit != 1, {"files": {"a": {}}})


def upload_units(upload: BuildUpload, folder: Path, units: int) -> None:
    for unit in range(units):
        case = folder / f"final/case_{unit:06d}"
        case.mkdir(parents=True)
        (case / "a.jpg").write_bytes(b"%d" % unit)
        (case / "b.json").write_bytes(b"{}")
        upload.upload_video(record_of(unit), [b"%d\n" % unit], [Reject("s", f"v{unit}", -1, "r")], [case])
        assert not case.exists()


def test_a_build_is_that_of_this_machine(store: RemoteStore, tmp_path: Path) -> None:
    world = davis(tmp_path / "world", videos=3)
    options = BuildOptions(SamplingOptions(seed=5, min_area=100))
    here = pipeline.build("davis", world, tmp_path / "here", options)
    there = pipeline.build("davis", world, URL, options)
    assert replace(there, out=here.out, seconds=here.seconds) == here
    assert there.out == URL
    files = read(store)
    record = json.loads(files.pop("build.json"))
    assert record["counts"]["cases"] == here.cases
    assert files == tree(tmp_path / "here")
    again = pipeline.build("davis", world, URL, replace(options, existing="resume"))
    assert again.already_done and (again.out, again.cases) == (URL, here.cases)
    with pytest.raises(UsageError, match=r"out: holds a finished build; `existing='overwrite'` replaces it$"):
        pipeline.build("davis", world, URL, options)
    with pytest.raises(UsageError, match=r"started with other options \(quality\)"):
        pipeline.build("davis", world, URL, replace(options, existing="resume", quality=50))
    store.write_files([("notes.txt", b"mine"), ("match_bench/case_999999/a", b"stale"), (".build/x", b"stale")])
    pipeline.build("davis", world, URL, replace(options, existing="overwrite"))
    files = read(store)
    assert files.pop("notes.txt") == b"mine"
    del files["build.json"]
    assert files == tree(tmp_path / "here")


def test_a_folder_that_is_no_build_is_refused(store: RemoteStore) -> None:
    store.write_files([("notes.txt", b"mine")])
    for existing in ("refuse", "resume", "overwrite"):
        with pytest.raises(UsageError, match=r"is not empty and holds no build; choose another `out`$"):
            BuildUpload(URL).prepare(REQUEST, existing)
    assert read(store) == {"notes.txt": b"mine"}


def test_shards_are_replayed_up_to_the_first_that_is_missing(store: RemoteStore, tmp_path: Path) -> None:
    upload = BuildUpload(URL)
    assert upload.prepare(REQUEST, "refuse") is None
    with open_journal(tmp_path / "first") as journal:
        journal.write_source(STATE)
        upload.write_source(journal)
    upload_units(upload, tmp_path, 5)
    files = read(store)
    assert json.loads(files[".build/request.json"]) == REQUEST
    assert json.loads(files[".build/source.json"]) == STATE
    assert json.loads(files[".build/shards/00000001.json"]) == {
        "state": {"units": 2, "cases": 2, "none_cases": 0, "rejects": 2, "bad_inputs": 1},
        "video": "v1",
        "is_whole": False,
        "reads": {"files": {"a": {}}},
        "cases": ["1\n"],
        "rejects": [Reject("s", "v1", -1, "r").to_json()],
    }
    assert files["match_bench/case_000004/a.jpg"] == b"4" and files["match_bench/case_000004/b.json"] == b"{}"

    with pytest.raises(UsageError) as caught:
        BuildUpload(URL).prepare(REQUEST, "refuse")
    expected = "holds an unfinished build; `existing='resume'` continues it, `existing='overwrite'` starts again"
    assert str(caught.value) == f"{URL}: {expected}"
    with pytest.raises(UsageError) as caught:
        BuildUpload(URL).prepare({"source": "mose", "seed": 4, "added": None}, "resume")
    expected = "was started with other options (source, seed); repeat them, or `existing='overwrite'` starts again"
    assert str(caught.value) == f"{URL}: {expected}"

    store.remove_files([".build/shards/00000003.json"])
    upload = BuildUpload(URL)
    assert upload.prepare(REQUEST, "resume") is None
    with open_journal(tmp_path / "second") as journal:
        journal.append(Totals(), [], [])
        upload.replay(journal)
        assert list(journal.iter_videos())[1:] == [record_of(unit) for unit in range(3)]
        assert journal.read_source() == STATE
        journal.write_source({"videos": []})
        upload.write_source(journal)  # it is there already
        assert json.loads(read(store)[".build/source.json"]) == STATE
    assert (tmp_path / "second/work/cases.jsonl").read_bytes() == b"0\n1\n2\n"
    rejects = (tmp_path / "second/work/rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["video"] for line in rejects] == ["v0", "v1", "v2"]
    with open_journal(tmp_path / "second") as journal:  # a journal that was here, too
        upload.replay(journal)
        assert journal.totals == record_of(2).totals


@pytest.mark.parametrize("content", [{}, {"state": 3}, [], {"state": {}, "cases": [3]}])
def test_a_broken_shard_is_named(store: RemoteStore, tmp_path: Path, content: Any) -> None:
    upload = BuildUpload(URL)
    upload.prepare(REQUEST, "refuse")
    upload_units(upload, tmp_path, 1)
    shard = json.loads(read(store)[".build/shards/00000000.json"])
    store.write_files([(".build/shards/00000000.json", json.dumps(content and shard | content).encode())])
    upload = BuildUpload(URL)
    upload.prepare(REQUEST, "resume")
    with open_journal(tmp_path) as journal, pytest.raises(InputError) as caught:
        upload.replay(journal)
    assert str(caught.value).startswith(f"{URL}/.build/shards/00000000.json: is no shard of a build: ")


def test_what_ends_an_upload(store: RemoteStore, tmp_path: Path) -> None:
    """Names are uploaded in an order in which build.json is last, and the shards are gone."""
    upload = BuildUpload(URL)
    upload.prepare(REQUEST, "refuse")
    upload_units(upload, tmp_path, 1)
    names = ["cases.jsonl", "rejects.jsonl", "mllm_match_eval_full.tsv", "build.json"]
    for name in names:
        (tmp_path / name).write_text(json.dumps({"request": REQUEST, "name": name}))
    uploaded: list[str] = []
    upload_file = upload._store.upload_file

    def note(path: Path, name: str) -> None:
        uploaded.append(name)
        assert ".build/request.json" in store.list_files()
        upload_file(path, name)

    upload._store.upload_file = note  # type: ignore[method-assign]
    upload.finish(tmp_path)
    assert uploaded == names
    assert [name for name in store.list_files() if name.startswith(".build")] == []
    store.write_files([(".build/request.json", b"{}")])  # of a process that was killed before it was deleted
    record = BuildUpload(URL).prepare(REQUEST, "resume")
    assert record == {"request": REQUEST, "name": "build.json"}
    assert ".build/request.json" not in store.list_files()
