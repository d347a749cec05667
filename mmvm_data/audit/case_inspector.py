"""Inspects cases for an audit: answers of the baselines, hashes of the frames, a digest of the question.

Records are read in the main process and inspected in workers, in batches. Cases that were measured when they were built
are not inspected again, see ``inspected_case``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import chain, islice, repeat
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mmvm_data.audit.case_measures import CaseMeasures, RegionRows, measure_case, measure_with_images
from mmvm_data.audit.inspected_case import InspectedCase, decode_measures, encode_measures
from mmvm_data.audit.perceptual_hash import compute_hashes
from mmvm_data.audit.results import AuditOptions
from mmvm_data.cases import baselines
from mmvm_data.core import masks
from mmvm_data.core.case_facts import source_name, video_id
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Region
from mmvm_data.formats.bench_read import CASES, Problem, parse_record
from mmvm_data.formats.build_files import read_cases
from mmvm_data.formats.tsv import MEASURES
from mmvm_data.io import process_pool
from mmvm_data.io.files import open_regular
from mmvm_data.io.transaction import settle

Progress = Callable[[int], None]
"""Called with the number of cases that have been inspected so far."""

_CACHED_IMAGES = 32  # of one video
_BATCH_SIZE, _MEASURED_BATCH_SIZE = 32, 256  # cases that are sent to a worker together
Item = TypeVar("Item")


def inspect_cases(
    directory: Path,
    options: AuditOptions,
    problems: list[Problem],
    with_baselines: bool,
    progress: Progress | None,
    with_hashes: bool = True,
) -> Iterator[InspectedCase]:
    """Inspect every case of a benchmark that is not rejected.

    Args:
        directory: folder of the benchmark.
        options: of the audit.
        problems: gets the cases that cannot be read, where the set has no ``cases.jsonl``.
        with_baselines: whether the baselines answer the cases.
        progress: called after each batch.
        with_hashes: whether frames are hashed, where images are opened; without, questions have no digest.

    Raises:
        InputError: the benchmark cannot be read, or a worker process died.
    """
    is_measured = (directory / MEASURES).is_file()
    batches = _split_batches(_read_lines(directory, problems), _MEASURED_BATCH_SIZE if is_measured else _BATCH_SIZE)
    done = 0
    for _, inspected in process_pool.map_ordered(
        batches,
        CaseInspector,
        (directory, options.pixels, with_baselines, with_hashes),
        _inspect_batch,
        options.workers,
    ):
        if isinstance(inspected, process_pool.WorkerDied):
            raise InputError(directory, f"a batch of cases cannot be inspected: {inspected}")
        yield from inspected
        done += len(inspected)
        if progress:
            progress(done)


class _Record(NamedTuple):
    """A record as a line of JSON, the number of the line, and the line of MEASURES or b""."""

    number: int
    line: bytes
    measures: bytes = b""


def _read_lines(directory: Path, problems: list[Problem]) -> Iterator[_Record]:
    """The records; a set without ``cases.jsonl`` is converted."""
    path = directory / CASES
    settle(directory)
    if path.is_file():
        try:
            with ExitStack() as stack:
                lines = stack.enter_context(open_regular(path))
                measures: Iterable[bytes] = repeat(b"")
                if (directory / MEASURES).is_file():
                    measures = chain(stack.enter_context(open_regular(directory / MEASURES)), measures)
                for number, (line, measured) in enumerate(zip(lines, measures, strict=False), 1):
                    if line.strip():
                        yield _Record(number, line, measured)
        except OSError as error:
            raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
        return
    for number, case in enumerate(read_cases(directory, problems), 1):
        yield _Record(number, case.model_dump_json().encode())


def _split_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _inspect_batch(inspector: CaseInspector, batch: list[_Record]) -> list[InspectedCase]:
    inspected = (_inspect_record(inspector, record) for record in batch)
    return [case for case in inspected if case is not None]


def _inspect_record(inspector: CaseInspector, record: _Record) -> InspectedCase | None:
    """What an audit needs of a case; None when the case is rejected.

    Raises:
        InputError: the line is no case. A mask that cannot be decoded is a problem of its case.
    """
    number, line, measures = record
    measured = inspector.decode_measures(measures, line)
    if measured is not None:
        return measured
    try:
        case = parse_record(inspector.directory / CASES, line, number).with_root(inspector.directory)
    except InputError as error:
        cause = error.__cause__
        if not isinstance(cause, ValidationError) or {e["type"] for e in cause.errors()} != {"broken_counts"}:
            raise
        values = json.loads(line)
        if (values.get("review") or {}).get("state") == "rejected":
            return None
        name = values["id"]
        return InspectedCase(name, "", None, None, (), name.encode(), (Problem(name, error.reason),))
    return inspector.inspect_case(case) if case.review.state != "rejected" else None


_FrameKey = tuple[str, int | None, int]
"""Path of a frame, its position in a video file, and its index."""


class CaseInspector:
    """Inspects cases one after the other; a frame that several cases of a video share is hashed once."""

    def __init__(self, directory: Path, pixels: bool, with_baselines: bool, with_hashes: bool = True) -> None:
        """
        Args:
            directory: folder of the benchmark.
            pixels: whether to open images.
            with_baselines: whether the baselines answer the cases.
            with_hashes: see ``inspect_cases``.
        """
        self.directory = directory
        self._pixels = pixels
        self._with_baselines = with_baselines
        self._with_hashes = with_hashes
        self._in_memory: baselines.ReadImage | None = None
        self._crop: baselines.CropMask = masks.crop
        self._video: tuple[str, str | None] = ("", None)
        self._known_hashes: dict[_FrameKey, bytes | None] = {}
        self._images: dict[_FrameKey, NDArray[np.uint8]] = {}
        self._rows: RegionRows = {}

    def decode_measures(self, measures: bytes, line: bytes) -> InspectedCase | None:
        """What the build has measured of the case of a line, where that is all that is asked for."""
        return decode_measures(measures, line, self._with_hashes) if self._pixels and self._with_baselines else None

    def inspect_case(self, case: Case) -> InspectedCase:
        """What an audit needs of a case. What is wrong with it is in ``problems`` of the result."""
        try:
            _check_case(case)
        except ValueError as error:
            problem = Problem(case.id, str(error))
            return InspectedCase(case.id, source_name(case), video_id(case), None, (), case.id.encode(), (problem,))
        return self._measure(case)

    def measure_built(
        self, case: Case, line: bytes, read_image: baselines.ReadImage, crop: baselines.CropMask
    ) -> bytes:
        """The line of MEASURES of a case that was just built, without its end; its images are in memory.

        Args:
            case: of the same video as the one before.
            line: its record.
            read_image: returns its images.
            crop: crops its masks.
        """
        self._in_memory, self._crop = read_image, crop
        return encode_measures(self._measure(case), line, self._with_hashes)

    def _measure(self, case: Case) -> InspectedCase:
        source, video = source_name(case), video_id(case)
        if video is None or (source, video) != self._video:
            self._video, self._known_hashes = (source, video), {}
            self._images, self._rows = {}, {}
        problems: list[Problem] = []
        images: dict[int, NDArray[np.uint8]] = {}
        hashes: list[tuple[int, bytes | None]] = []
        if self._in_memory is not None and not self._with_hashes:
            with suppress(InputError):  # an image that cannot be read is a problem of the case, see below
                measured = measure_with_images(case, self._in_memory, self._rows, _row_keys(case), self._crop)
                return InspectedCase(case.id, source, video, measured, (), b"")
        digest = hashlib.sha256()
        if self._pixels:
            hashes = self._hash_images(case, images, digest.update, problems)
        elif case.provenance:
            digest.update(repr([(f.path, f.video_frame) for f in case.provenance.frames]).encode())
        else:
            digest.update(case.id.encode())
        if self._with_hashes:
            shapes = sorted(_region_shape(candidate.region) for candidate in case.candidates)
            digest.update(repr((source, video, [_region_shape(region) for region in case.query], shapes)).encode())
        measures = self._measure_regions(case, video, images) if self._with_baselines else None
        question = digest.digest() if self._with_hashes else b""
        return InspectedCase(case.id, source, video, measures, tuple(hashes), question, tuple(problems))

    def _hash_images(
        self,
        case: Case,
        images: dict[int, NDArray[np.uint8]],
        update_digest: Callable[[bytes], None],
        problems: list[Problem],
    ) -> list[tuple[int, bytes | None]]:
        """Read the images into ``images``, and hash those whose frame is not known from an earlier case."""
        new_hashes = []
        for position in range(len(case.frames)):
            key = _frame_key(case, position)
            try:
                images[position] = self._read_image(case, position)
            except InputError as error:
                problems.append(Problem(case.id, str(error)))
                update_digest(f"{case.id} {position}".encode())
                continue
            if not self._with_hashes:
                continue
            if key is not None and key in self._known_hashes:
                hashed = self._known_hashes[key]
            else:
                hashes = compute_hashes(images[position])
                hashed = None if hashes is None else hashes.tobytes()
                new_hashes.append((position, hashed))
                if key is not None:
                    self._known_hashes[key] = hashed
            update_digest(hashed or b"blank")
        return new_hashes

    def _read_image(self, case: Case, position: int) -> NDArray[np.uint8]:
        """An image at a fraction of its size. Without hashes, the same frame of another case may stand for it."""
        if self._in_memory is not None:
            return self._in_memory(position)
        key = None if self._with_hashes or self._video[1] is None else _frame_key(case, position)
        if key is None:
            return baselines.read_reduced_image(case, position)
        if key not in self._images:
            if len(self._images) == _CACHED_IMAGES:
                del self._images[next(iter(self._images))]
            self._images[key] = baselines.read_reduced_image(case, position)
        return self._images[key]

    def _measure_regions(self, case: Case, video: str | None, images: dict[int, NDArray[np.uint8]]) -> CaseMeasures:
        """What the baselines answer by; without colors where an image is missing."""
        if not self._pixels or len(images) < len(case.frames):
            return measure_case(case)
        # with hashes every image is opened, and what it shows is measured
        is_alone = video is None or (self._with_hashes and self._in_memory is None)
        rows: RegionRows = {} if is_alone else self._rows
        return measure_with_images(case, images.__getitem__, rows, _row_keys(case), self._crop)


def _check_case(case: Case) -> None:
    """Check what the baselines require.

    Raises:
        ValueError: there is no option for the answer, or a mask is broken or not of its image's size.
    """
    _ = case.letter
    regions = [*zip(case.query, case.frames, strict=False), *((c.region, case.frames[-1]) for c in case.candidates)]
    for region, frame in regions:
        if region.mask is None:
            continue
        if region.mask.size != (frame.height, frame.width):
            size = f"{region.mask.size[1]} x {region.mask.size[0]}"
            raise ValueError(f"mask of object {region.id!r} is {size}, its image {frame.width} x {frame.height}")
        try:
            masks.spans(region.mask)
        except ValueError as error:
            raise ValueError(f"mask of object {region.id!r} is broken: {error}") from error


def _region_shape(region: Region) -> tuple[object, ...]:
    return (region.mask.size, region.mask.counts) if region.mask else (region.box or ())


def _row_keys(case: Case) -> list[object]:
    """The names of the frames of a case in ``RegionRows``; those that no other case has where the set does not say."""
    return [_frame_key(case, position) or (case.id, position) for position in range(len(case.frames))]


def _frame_key(case: Case, position: int) -> _FrameKey | None:
    """Which frame of the source an image is, the same for equal pixels, or None when the set does not say. Views of one
    image have its path, and differ in their index."""
    if case.provenance is None or position >= len(case.provenance.frames):
        return None
    frame = case.provenance.frames[position]
    return frame.path, frame.video_frame, frame.index
