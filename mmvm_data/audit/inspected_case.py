"""What an audit needs of one case, and the line that a build keeps of it for a pool of which cases are chosen.

A build that measures its cases (``pipeline.BuildOptions.measurer_factory``) does so from pixels that are in memory
anyway, and whoever inspects the cases then reads no image. A line counts only for the record that it was made with,
which its checksum says; the id is not part of it, since it is given later.
"""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydantic_core import from_json, to_json

from mmvm_data.audit.case_measures import MEASURED_VALUES, CaseMeasures
from mmvm_data.formats.bench_read import Problem

_FORMAT: Final = 2
"""Number of the format of a line, and of the formulas that its values follow."""
_ID = re.compile(rb'"id":"(case_\d+)"')
_VALUES: Final = np.dtype("<f8")


@dataclass(frozen=True)
class InspectedCase:
    """What an audit needs of one case.

    Attributes:
        id: of the case.
        source, video: where it comes from; ``video`` is None when the set does not say.
        measures: what the baselines answer by; None where they were not asked for, or the case is broken.
        hashes: 0-based number of an image and its hashes (the bytes of one HASH_DTYPE, None when blank), for images
            whose frame was not in an earlier case of the video.
        question_digest: equal for cases that ask the same question about the same images.
        problems: what could not be read.
    """

    id: str
    source: str
    video: str | None
    measures: CaseMeasures | None
    hashes: tuple[tuple[int, bytes | None], ...]
    question_digest: bytes
    problems: tuple[Problem, ...] = ()

    @property
    def video_name(self) -> str:
        """Source and video, or the id of the case when the set does not name the video."""
        return name_video(self.source, self.video, self.id)


def name_video(source: str, video: str | None, case_id: str) -> str:
    """Source and video, or the id of the case when its set does not name the video."""
    return f"{source} {video}" if video is not None else case_id


def encode_measures(case: InspectedCase, line: bytes, with_hashes: bool) -> bytes:
    """Return the line of MEASURES of a case, without its end.

    Args:
        case: with ``measures``, without problems.
        line: its record.
        with_hashes: whether its frames were hashed.
    """
    measures = case.measures
    assert measures is not None
    record = {
        "format": _FORMAT,
        "record": _checksum(line, case.id),
        "source": case.source,
        "video": case.video,
        "answer": measures.answer,
        "letters": measures.letters,
        "numbers": measures.numbers,
        "sides": measures.sides,
        "colors": measures.has_colors,
        "regions": base64.b64encode(measures.regions.astype(_VALUES).tobytes()).decode(),
        "hashes": [(k, None if own is None else own.hex()) for k, own in case.hashes] if with_hashes else None,
        "question": case.question_digest.hex(),
    }
    return to_json(record)


def decode_measures(measures: bytes, line: bytes, with_hashes: bool) -> InspectedCase | None:
    """Return the case of a line of MEASURES; None where it says nothing, or is not of this record.

    Args:
        measures: the line, or b"".
        line: record of the case, a line of cases.jsonl.
        with_hashes: whether the hashes of its frames are needed.
    """
    found = _ID.search(line, 0, 64)
    if found is None or not measures.strip():
        return None
    case_id = found[1].decode()
    try:
        record = from_json(measures)
        if record["format"] != _FORMAT or record["record"] != _checksum(line, case_id):
            return None
        return None if with_hashes and record["hashes"] is None else _decode(record, case_id)
    except (ValueError, KeyError, TypeError, AttributeError):  # a crash of the machine can leave zeros
        return None


def _decode(record: dict[str, Any], case_id: str) -> InspectedCase:
    measures = CaseMeasures(
        letters=tuple(record["letters"]),
        numbers=tuple(record["numbers"]),
        answer=record["answer"],
        sides=tuple(record["sides"]),
        regions=np.frombuffer(base64.b64decode(record["regions"]), _VALUES).reshape(-1, MEASURED_VALUES),
        has_colors=record["colors"],
    )
    return InspectedCase(
        id=case_id,
        source=record["source"],
        video=record["video"],
        measures=measures,
        hashes=tuple((k, None if own is None else bytes.fromhex(own)) for k, own in record["hashes"] or ()),
        question_digest=bytes.fromhex(record["question"]),
    )


def _checksum(line: bytes, case_id: str) -> int:
    return zlib.crc32(line.replace(case_id.encode(), b""))
