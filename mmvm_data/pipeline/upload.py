"""A build whose result goes to a URL, video by video.

    match_bench/case_000000/…        as soon as their video is done
    .build/request.json              what was asked for, so that only the same build goes on
    .build/shards/00000012.json      one a video, after its case folders: its records, and the totals so far
    cases.jsonl, rejects.jsonl, the tsv, and last of all build.json; then .build/ is deleted

A build that is begun again elsewhere reads the shards and goes on with the first video that has none. Two builds must
not write to one URL at a time; nothing there could stop them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError, Reject, UsageError
from mmvm_data.formats import bench
from mmvm_data.io.remote import RemoteStore
from mmvm_data.pipeline.journal import Journal, State

_BUILD, _WORK, _REQUEST = "build.json", ".build/", ".build/request.json"
_SHARDS = ".build/shards/"
_RECORDS = ("cases.jsonl", "rejects.jsonl", bench.TSV)


class Upload:
    """Where the result of a build goes."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            UsageError: the URL's file system is not known.
        """
        self._store = RemoteStore(url)
        self._url = url
        self._done: list[str] = []

    def prepare(self, request: dict[str, Any], existing: str) -> dict[str, Any] | None:
        """Look at what is there.

        Args:
            request: what decides the bytes of the build.
            existing: refuse, resume or overwrite, see ``pipeline.BuildOptions``.

        Returns:
            the record of the same build when it was finished before and is to be resumed, else None.

        Raises:
            UsageError: something is there that is not to be replaced, or was made with other options.
            OSError: the URL does not answer.
        """
        there = self._store.list_files()
        ours = _BUILD in there or _REQUEST in there
        if existing == "overwrite" and ours:
            # build.json first: without it nothing there is a finished build
            mine = (_BUILD, *_RECORDS)
            self._store.remove_files([name for name in mine if name in there])
            parts = (f"{bench.FOLDER}/", _WORK)
            self._store.remove_files([name for name in there if name.startswith(parts)])
            there = []
        if there and not ours:
            raise UsageError(f"{self._url}: is not empty and no build of ours; choose another --out")
        if there and existing != "resume":
            if _BUILD in there:
                raise UsageError(f"{self._url}: holds a finished build; --overwrite makes it anew")
            raise UsageError(
                f"{self._url}: holds an unfinished build; --resume goes on with it, --overwrite starts anew"
            )
        if _BUILD in there:
            record = self._json(_BUILD)
            self._same(record.get("request", {}), request)
            self._store.remove_files([name for name in there if name.startswith(_WORK)])
            return record
        if _REQUEST in there:
            self._same(self._json(_REQUEST), request)
            self._done = [name for name in there if name.startswith(_SHARDS)]
        else:
            self._store.write_files([(_REQUEST, json.dumps(request, indent=1).encode())])
        return None

    def replay(self, journal: Journal) -> None:
        """Note the videos that were uploaded before, in their order, up to the first that is missing.

        Raises:
            InputError: a shard cannot be read.
            OSError: the URL does not answer.
        """
        first = journal.state.units
        wanted = {_shard(number) for number in range(first, first + len(self._done))}
        names = [name for name in sorted(self._done) if name in wanted]
        names = [name for k, name in enumerate(names) if name == _shard(first + k)]
        for name, data in zip(names, self._store.read_files(names), strict=True):
            try:
                shard = json.loads(data)
                state = State(**shard["state"])
                lines = [line.encode() for line in shard["cases"]]
                rejects = [Reject(**reject) for reject in shard["rejects"]]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self._url}/{name}", f"is no shard of a build: {error}") from error
            journal.note(state, lines, rejects)

    def shard(self, state: State, lines: list[bytes], rejects: list[Reject], folders: list[Path]) -> None:
        """Upload the cases of one video, then the record that makes them count; the folders are deleted here.

        Args:
            state: totals with this video.
            lines: records of its cases, each with its end of line.
            rejects: of this video.
            folders: of its cases, by their final names.

        Raises:
            OSError: the URL does not answer; the video does not count then.
        """
        self._store.write_files(_files(folders))
        shard = {
            "state": asdict(state),
            "cases": [line.decode() for line in lines],
            "rejects": [reject.to_json() for reject in rejects],
        }
        # names that are not UTF-8 hold lone surrogates, which JSON's escapes carry
        self._store.write_files([(_shard(state.units - 1), json.dumps(shard).encode())])
        for folder in folders:
            shutil.rmtree(folder)

    def finish(self, out: Path) -> None:
        """Upload the records and, last, build.json; then delete what only an unfinished build needs.

        Raises:
            OSError: the URL does not answer.
        """
        for name in (*_RECORDS, _BUILD):
            self._store.upload_file(out / name, name)
        self._store.remove_files(self._store.list_files(_WORK))

    def _json(self, name: str) -> dict[str, Any]:
        (data,) = self._store.read_files([name])
        try:
            found = json.loads(data)
        except ValueError as error:
            raise InputError(f"{self._url}/{name}", f"not JSON: {error}") from error
        return found if isinstance(found, dict) else {}

    def _same(self, before: dict[str, Any], request: dict[str, Any]) -> None:
        plain = json.loads(json.dumps(request))
        changed = [key for key in plain if before.get(key) != plain[key]]
        if changed:
            raise UsageError(
                f"{self._url}: was begun with other options ({', '.join(changed)}); "
                "repeat the command it was begun with, or use --overwrite"
            )


def _shard(number: int) -> str:
    return f"{_SHARDS}{number:08d}.json"


def _files(folders: list[Path]) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in sorted(folder.iterdir()):
            yield f"{bench.FOLDER}/{folder.name}/{path.name}", path.read_bytes()
