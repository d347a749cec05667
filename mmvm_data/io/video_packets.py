"""Packets of a video file, and whether the frames that they show can be told without decoding them.

They can when each packet has a time stamp of its own, nothing is hidden or damaged, and every key frame is closed:
decoding may start there, and no later packet shows a frame before it. Whatever else a file holds, its frames are
listed by decoding it once.

Sources: ITU-T H.264 7.3.1, 7.3.3 and H.265 7.3.1, 7.3.6 (NAL units and their slices), ISO/IEC 14496-15 (their lengths
in MP4), VP9 Bitstream Specification 6.2 and annex B.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# containers that store a time stamp and a key flag with each frame
_EXACT_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
# decoders that return one frame for each packet
_EXACT_DECODERS = ("h264", "hevc", "vp9", "libdav1d", "libaom-av1", "av1", "mjpeg", "prores", "dnxhd", "ffv1", "png")
NO_STAMP = int(np.iinfo(np.int64).min)
"""In place of a time stamp that is missing."""


@dataclass(frozen=True)
class PacketTable:
    """Packets of a video stream in the file's order.

    Attributes:
        timestamps: int64 [n], presentation time stamps.
        is_key: bool [n].
        seek_stamps: int64 [n], the time stamps that the container's seek compares: decoding time stamps in streams
            that are searched packet by packet.
        problem: why frames cannot be told from the packets; "" when they can.
    """

    timestamps: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    seek_stamps: NDArray[np.int64]
    problem: str

    def key_table(self) -> NDArray[np.int64]:
        """Return presentation time stamp and seek time stamp of the key frames, int64 [k, 2], ascending."""
        is_usable = self.is_key & (self.timestamps != NO_STAMP)
        keys = np.stack((self.timestamps[is_usable], self.seek_stamps[is_usable]), axis=1)
        return keys[np.unique(keys[:, 0], return_index=True)[1]]


def read_packets(path: Path, container: InputContainer, stream: VideoStream) -> PacketTable:
    """Read all packets of a stream without decoding them.

    Raises:
        InputError: the file cannot be read.
    """
    from av.error import FFmpegError

    is_exact = container.format.name in _EXACT_FORMATS
    stamps, seek_stamps, keys = array("q"), array("q"), array("b")
    is_hidden = is_damaged = is_open = is_split = False
    check = _PacketCheck(stream)
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            stamps.append(NO_STAMP if packet.pts is None else packet.pts)
            seek_stamps.append(stamps[-1] if is_exact or packet.dts is None else packet.dts)
            keys.append(packet.is_keyframe)
            is_hidden |= packet.is_discard
            is_damaged |= packet.is_corrupt
            if is_exact and not is_open and not is_split:
                data = bytes(packet)
                is_open = packet.is_keyframe and not check.starts_clean(data)
                is_split = not check.shows_one_frame(data)
    except (FFmpegError, OSError) as error:
        raise InputError(path, "video cannot be opened: cut off, damaged or of an unknown format") from error
    timestamps, is_key = np.array(stamps, np.int64), np.array(keys, np.bool_)
    checks = (
        (not is_exact, f"container {container.format.name}"),
        (stream.codec_context.name not in _EXACT_DECODERS, f"codec {stream.codec_context.name}"),
        (is_hidden, "an edit list hides frames"),
        (is_damaged or stream.frames not in (0, len(stamps)), "packets are missing or damaged"),
        (bool((timestamps < 0).any()), "time stamps are missing or negative"),
        (len(np.unique(timestamps)) < len(timestamps), "two frames have the same time stamp"),
        (not is_key[:1].any(), "the first frame is no key frame"),
        (is_open, "a key frame needs frames before it"),
        (is_split, "a packet does not hold one picture"),
        (not _are_keys_closed(timestamps, is_key), "frames are shown before the key frame that they follow"),
    )
    return PacketTable(
        timestamps, is_key, np.array(seek_stamps, np.int64), next((reason for applies, reason in checks if applies), "")
    )


def _are_keys_closed(timestamps: NDArray[np.int64], is_key: NDArray[np.bool_]) -> bool:
    """Return whether packets before a key frame are shown before it, and those after it after it."""
    if not len(timestamps):
        return True
    highest_so_far = np.maximum.accumulate(timestamps)
    lowest_from_here = np.minimum.accumulate(timestamps[::-1])[::-1]
    return bool(((timestamps == highest_so_far) & (timestamps == lowest_from_here))[is_key].all())


class _PacketCheck:
    """What the payload of a packet says: whether it holds one picture, and whether decoding may start at it."""

    def __init__(self, stream: VideoStream) -> None:
        extra = bytes(stream.codec_context.extradata or b"")
        self._codec = stream.codec_context.name
        self._length_bytes = 0  # start codes
        if self._codec == "h264" and len(extra) > 6 and extra[0] == 1:
            self._length_bytes = (extra[4] & 3) + 1
        elif self._codec == "hevc" and len(extra) > 22 and extra[0] == 1:
            self._length_bytes = (extra[21] & 3) + 1

    def shows_one_frame(self, data: bytes) -> bool:
        """Return whether the packet has one first slice (H.264, HEVC), or a frame that is not hidden (VP9)."""
        if self._codec == "h264":
            return sum(unit[0] & 31 in (1, 5) and unit[1] >> 7 for unit in self._units(data, 2)) == 1
        if self._codec == "hevc":
            return sum(unit[0] >> 1 & 63 < 32 and unit[2] >> 7 for unit in self._units(data, 3)) == 1
        if self._codec == "vp9" and data[-1] & 0xE0 != 0xC0:  # no superframe, which ends in a frame that is shown
            profile_3 = data[0] & 0x30 == 0x30
            return bool(data[0] >> (2 if profile_3 else 3) & 1) or bool(data[0] >> (0 if profile_3 else 1) & 1)
        return True

    def starts_clean(self, data: bytes) -> bool:
        """Return whether decoding may start at a key packet: in H.264 and HEVC only at an instantaneous refresh."""
        if self._codec == "h264":
            types = {unit[0] & 31 for unit in self._units(data, 1)}
            return 5 in types and not types & {1, 2, 3, 4}
        if self._codec == "hevc":
            types = {unit[0] >> 1 & 63 for unit in self._units(data, 1)}
            return bool(types & {19, 20}) and not types & {*range(19), 21, 22, 23}
        return True

    def _units(self, data: bytes, size: int) -> Iterator[bytes]:
        """Yield the first ``size`` bytes of each NAL unit; shorter units are left out."""
        position, width = 0, self._length_bytes
        while width and position + width + size <= len(data):
            yield data[position + width : position + width + size]
            position += width + int.from_bytes(data[position : position + width], "big")
        while not width and (position := data.find(b"\0\0\1", position) + 3) > 2:
            if position + size <= len(data):
                yield data[position : position + size]
