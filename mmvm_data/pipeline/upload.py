"""Uploads the result of a build to a URL, video by video.

    match_bench/case_000000/…        as soon as their video is done
    .build/request.json              the request, so that only the same build continues
    .build/source.json               the state of the source, see ``source_state``
    .build/shards/00000012.json      one a video, after its case folders: its records, and the totals so far
    cases.jsonl, rejects.jsonl, the tsv, and last build.json; then .build/ is deleted

A build that is restarted elsewhere reads the shards and continues with the first video that has none. Two builds must
not write to one URL at a time; nothing prevents it.
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
from mmvm_data.formats.build_files import BUILD, REJECTS
from mmvm_data.io.json_files import parse_json
from mmvm_data.io.remote import RemoteStore
from mmvm_data.pipeline.journal import Journal, Totals, VideoRecord

_JOURNAL = ".build/"
_REQUEST = ".build/request.json"
_SOURCE = ".build/source.json"
_SHARDS = ".build/shards/"
_RECORDS = (bench.CASES, REJECTS, bench.TSV)


class BuildUpload:
    """The upload of a build's result to a URL."""

    def __init__(self, url: str) -> None:
        """Open the URL.

        Raises:
            UsageError: the URL's file system is not known.
        """
        self._store = RemoteStore(url)
        self._url = url
        self._uploaded: list[str] = []
        self._source: dict[str, Any] | None = None

    def prepare(self, request: dict[str, Any], existing: str) -> dict[str, Any] | None:
        """Check what is at the URL, and record the request there.

        Args:
            request: what decides the bytes of the build.
            existing: ``refuse``, ``resume`` or ``overwrite``, see ``pipeline.BuildOptions``.

        Returns:
            The content of build.json when the same build was finished before and is to be resumed, else None.

        Raises:
            UsageError: something is there that is not to be replaced, or was built with other options.
            OSError: the URL does not answer.
        """
        names = self._store.list_files()
        is_build = BUILD in names or _REQUEST in names
        if existing == "overwrite" and is_build:
            # build.json first: without it the rest is no finished build
            self._store.remove_files([name for name in (BUILD, *_RECORDS) if name in names])
            prefixes = (f"{bench.FOLDER}/", _JOURNAL)
            self._store.remove_files([name for name in names if name.startswith(prefixes)])
            names = []
        if names and not is_build:
            raise UsageError(f"{self._url}: is not empty and holds no build; choose another `out`")
        if names and existing != "resume":
            if BUILD in names:
                raise UsageError(f"{self._url}: holds a finished build; `existing='overwrite'` replaces it")
            raise UsageError(
                f"{self._url}: holds an unfinished build; `existing='resume'` continues it, "
                "`existing='overwrite'` starts again"
            )
        if BUILD in names:
            record = self._read_json(BUILD)
            self._check_request(record.get("request", {}), request)
            self._store.remove_files([name for name in names if name.startswith(_JOURNAL)])
            return record
        if _REQUEST in names:
            self._check_request(self._read_json(_REQUEST), request)
            self._uploaded = [name for name in names if name.startswith(_SHARDS)]
            self._source = self._read_json(_SOURCE) if _SOURCE in names else None
        else:
            self._store.write_files([(_REQUEST, json.dumps(request, indent=1).encode())])
        return None

    def replay(self, journal: Journal) -> None:
        """Append the videos that were uploaded before to the journal, in order, up to the first that is missing.

        Raises:
            InputError: a shard cannot be read.
            OSError: the URL does not answer.
        """
        first = journal.totals.units
        wanted = {_shard_name(number) for number in range(first, first + len(self._uploaded))}
        names = [name for name in sorted(self._uploaded) if name in wanted]
        names = [name for k, name in enumerate(names) if name == _shard_name(first + k)]
        for name, data in zip(names, self._store.read_files(names), strict=True):
            try:
                shard = parse_json(data, f"{self._url}/{name}")
                record = VideoRecord(shard["video"], Totals(**shard["state"]), shard["is_whole"], shard["reads"])
                lines = [line.encode() for line in shard["cases"]]
                rejects = [Reject(**reject) for reject in shard["rejects"]]
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{self._url}/{name}", f"is no shard of a build: {error}") from error
            journal.append(record.totals, lines, rejects, record)
        if self._source is not None:
            journal.write_source(self._source)

    def write_source(self, journal: Journal) -> None:
        """Upload the state of the source that the build is made from, once.

        Raises:
            OSError: the URL does not answer.
        """
        if self._source is None:
            self._store.write_files([(_SOURCE, json.dumps(journal.read_source()).encode())])

    def upload_video(self, record: VideoRecord, lines: list[bytes], rejects: list[Reject], folders: list[Path]) -> None:
        """Upload the cases of one video, then the record that makes them count; the folders are deleted here.

        Args:
            record: of the video.
            lines: records of its cases, each with its end of line.
            rejects: of this video.
            folders: folders of its cases, under their final names.

        Raises:
            OSError: the URL does not answer; the video does not count then.
        """
        self._store.write_files(_read_files(folders))
        shard = {
            "state": asdict(record.totals),
            "video": record.video,
            "is_whole": record.is_whole,
            "reads": record.reads,
            "cases": [line.decode() for line in lines],
            "rejects": [reject.to_json() for reject in rejects],
        }
        # names that are not UTF-8 hold lone surrogates, which JSON's escapes carry
        self._store.write_files([(_shard_name(record.totals.units - 1), json.dumps(shard).encode())])
        for folder in folders:
            shutil.rmtree(folder)

    def finish(self, out: Path) -> None:
        """Upload the records and, last, build.json; then delete the shards.

        Raises:
            OSError: the URL does not answer.
        """
        for name in (*_RECORDS, BUILD):
            self._store.upload_file(out / name, name)
        self._store.remove_files(self._store.list_files(_JOURNAL))

    def _read_json(self, name: str) -> dict[str, Any]:
        (data,) = self._store.read_files([name])
        content = parse_json(data, f"{self._url}/{name}")
        return content if isinstance(content, dict) else {}

    def _check_request(self, earlier: dict[str, Any], request: dict[str, Any]) -> None:
        """Raise UsageError when the request differs from that of the build that is there."""
        wanted = json.loads(json.dumps(request))
        changed = [key for key in wanted if earlier.get(key) != wanted[key]]
        if changed:
            raise UsageError(
                f"{self._url}: was started with other options ({', '.join(changed)}); "
                "repeat them, or `existing='overwrite'` starts again"
            )


def _shard_name(number: int) -> str:
    return f"{_SHARDS}{number:08d}.json"


def _read_files(folders: list[Path]) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in sorted(folder.iterdir()):
            yield f"{bench.FOLDER}/{folder.name}/{path.name}", path.read_bytes()
