"""Index of a video file: which frames it shows, in presentation order.

Frame N is the N-th frame that decoding the file from its start shows. Where the packets alone tell which frames these
are (see ``video_packets``), the index is made without decoding. Other files are decoded once from start to end, and the
index keeps a checksum of each frame, against which random access is checked.

An index is kept in memory, and on disk in a folder that the caller names. It is valid for one content of the file
(size, time of modification, a hash of its first and last bytes) and one version of FFmpeg.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import atomic_write, open_regular, read_regular
from mmvm_data.io.video_packets import NO_STAMP, PacketTable, read_packets
from mmvm_data.io.video_stream import DecodeError, frame_checksum, iter_decoded, open_stream

_FORMAT = 1
_DIGEST_SIZE = 16
_SAMPLE_BYTES = 1 << 16
_MAX_INDICES = 256
_indices: OrderedDict[str, tuple[list[Any], VideoIndex]] = OrderedDict()
_cache_folders: dict[str, Path] = {}


@dataclass(frozen=True)
class VideoIndex:
    """The frames that a video file shows.

    Attributes:
        timestamps: int64 [n], presentation time stamps in units of ``time_base``, ascending; those of a file without
            usable time stamps are zeros.
        checksums: uint32 [n], of the decoded frames; [0] where the index was made without decoding.
        keys: int64 [k, 2], presentation time stamp of each frame at which decoding may start, ascending, and the time
            stamp to seek to; [0, 2] where frames have to be counted from the start of the file.
        time_base: seconds.
        fps: average frames per second; 0.0 when the file does not say.
        width, height: of the first frame as stored, in pixels.
        rotation: degrees that players turn frames by; it is not applied.
        depth: bits of a color sample.
        problem: why the file was decoded to make the index; "" where it was not.
    """

    timestamps: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    keys: NDArray[np.int64]
    time_base: float
    fps: float
    width: int
    height: int
    rotation: int
    depth: int
    problem: str

    def __len__(self) -> int:
        return len(self.timestamps)

    def key_position(self, index: int) -> int:
        """Return the position in ``keys`` of the last key frame that is not after a frame; -1 when there is none."""
        return int(np.searchsorted(self.keys[:, 0], self.timestamps[index], side="right")) - 1


def get_index(path: Path, cache: Path | None = None) -> VideoIndex:
    """Return the index of a local video file.

    Args:
        path: an existing file.
        cache: folder for the index on disk, created when missing; None: the one named for this file before, if any. A
            folder that cannot be written to only costs time.

    Raises:
        InputError: the file cannot be opened, shows no frames, or has a part that cannot be decoded in a place that
            leaves the numbers of later frames uncertain.
    """
    key = os.path.abspath(path)
    if cache is not None:
        _cache_folders[key] = cache
    try:
        fingerprint = _read_fingerprint(path)
    except OSError as error:
        raise InputError(path, f"video cannot be opened: {error.strerror}") from error
    known = _indices.get(key)
    if known is None or known[0] != fingerprint:
        _indices[key] = known = (fingerprint, _load_or_build(path, fingerprint, _cache_folders.get(key)))
    _indices.move_to_end(key)
    while len(_indices) > _MAX_INDICES:
        _indices.popitem(last=False)
    return known[1]


def build_index(path: Path) -> VideoIndex:
    """Make the index of a video file; see ``get_index``."""
    container, stream = open_stream(path)
    with container:
        packets = read_packets(path, container, stream)
    container, stream = open_stream(path)
    with container:
        frames = iter_decoded(container, stream)
        stamps, checksums = array("q"), array("I")
        size, rotation, depth = (0, 0), 0, 0
        try:
            for frame in frames:
                if not stamps:
                    size, rotation = (frame.width, frame.height), int(getattr(frame, "rotation", 0))
                    depth = max(component.bits for component in frame.format.components)
                    if not packets.problem and frame.pts != packets.timestamps.min():
                        packets = replace(packets, problem="the first frame cannot be decoded")
                stamps.append(NO_STAMP if frame.pts is None else frame.pts)
                if not packets.problem:
                    break
                checksums.append(frame_checksum(frame))
        except DecodeError as error:
            reason = f"frames after frame {len(stamps) - 1} cannot be decoded, so the numbers of later ones are unknown"
            raise InputError(path, f"video cannot be indexed: {reason} ({packets.problem})") from error
        if not stamps:
            raise InputError(path, "video cannot be opened: none of its frames can be decoded")
        timestamps, keys = _choose_timestamps(packets, np.array(stamps, np.int64))
        rate, base = stream.average_rate, stream.time_base
        return VideoIndex(
            timestamps=timestamps,
            checksums=np.array(checksums, np.uint32),
            keys=keys,
            time_base=float(base) if base else 0.0,
            fps=float(rate) if rate else 0.0,
            width=size[0],
            height=size[1],
            rotation=rotation,
            depth=depth,
            problem=packets.problem,
        )


def _choose_timestamps(
    packets: PacketTable, timestamps: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the time stamps of the frames and of the key frames: of the packets, else of the decoded frames."""
    if not packets.problem:
        return np.sort(packets.timestamps), packets.key_table()
    if (timestamps == NO_STAMP).any() or (timestamps[1:] <= timestamps[:-1]).any():
        return np.zeros(len(timestamps), np.int64), np.zeros((0, 2), np.int64)
    return timestamps, packets.key_table()


def _read_fingerprint(path: Path) -> list[Any]:
    """Return what an index is valid for."""
    import av

    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        digest = hashlib.blake2b(file.read(_SAMPLE_BYTES), digest_size=_DIGEST_SIZE)
        file.seek(max(0, status.st_size - _SAMPLE_BYTES))
        digest.update(file.read(_SAMPLE_BYTES))
    versions = [list(av.library_versions[name]) for name in ("libavformat", "libavcodec")]
    return [_FORMAT, versions, status.st_size, status.st_mtime_ns, digest.hexdigest()]


def _load_or_build(path: Path, fingerprint: list[Any], cache: Path | None) -> VideoIndex:
    if cache is None:
        return build_index(path)
    name = hashlib.blake2b(os.fsencode(os.path.abspath(path)), digest_size=8).hexdigest()
    file = cache / f"{name}.video"
    try:
        index = _unpack(read_regular(file), fingerprint)
    except OSError:
        index = None
    if index is not None:
        return index
    index = build_index(path)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_write(file, "wb") as handle:
            handle.write(_pack(index, fingerprint))
    except OSError:
        pass  # a read-only or full disk: the next run indexes the file again
    return index


def _pack(index: VideoIndex, fingerprint: list[Any]) -> bytes:
    """Digest, then one line of JSON, then time stamps, keys (little-endian int64) and checksums (uint32)."""
    head = {
        "fingerprint": fingerprint,
        "counts": [len(index.timestamps), len(index.keys), len(index.checksums)],
        "facts": [index.time_base, index.fps, index.width, index.height, index.rotation, index.depth, index.problem],
    }
    tables = (index.timestamps.astype("<i8"), index.keys.astype("<i8"), index.checksums.astype("<u4"))
    body = json.dumps(head).encode() + b"\n" + b"".join(table.tobytes() for table in tables)
    return hashlib.blake2b(body, digest_size=_DIGEST_SIZE).digest() + body


def _unpack(data: bytes, fingerprint: list[Any]) -> VideoIndex | None:
    """Return the index in ``data``; None when it is damaged or made from another content or by another FFmpeg."""
    body = data[_DIGEST_SIZE:]
    if hashlib.blake2b(body, digest_size=_DIGEST_SIZE).digest() != data[:_DIGEST_SIZE]:
        return None
    line, _, rest = body.partition(b"\n")
    head = json.loads(line)
    if head["fingerprint"] != fingerprint:
        return None
    frames, keys, checksums = head["counts"]
    time_base, fps, width, height, rotation, depth, problem = head["facts"]
    return VideoIndex(
        timestamps=np.frombuffer(rest, "<i8", frames).astype(np.int64),
        keys=np.frombuffer(rest, "<i8", 2 * keys, 8 * frames).astype(np.int64).reshape(keys, 2),
        checksums=np.frombuffer(rest, "<u4", checksums, 8 * (frames + 2 * keys)).astype(np.uint32),
        time_base=time_base,
        fps=fps,
        width=width,
        height=height,
        rotation=rotation,
        depth=depth,
        problem=problem,
    )
