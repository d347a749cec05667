"""The commonest reasons in a build's ``rejects.jsonl``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import open_regular
from mmvm_data.io.json_files import parse_json_object

_NUMBER = re.compile(r"#[0-9a-f]{6}\b|\d+(\.\d+)?")

ONE_OBJECT = "no further object is clearly visible"
"""Part of the reason for which a video of one object gives no case."""

_REMEDIES = {
    ONE_OBJECT: ("--min-area", "--min-side", "--max-occlusion"),
    "candidates are clearly visible": ("--min-candidates", "--min-area", "--min-side"),
    "frames apart": ("--min-gap", "--max-gap"),
    "seconds apart": ("--min-seconds", "--max-gap"),
    "the query is blurred": ("--min-sharpness",),
    "the query is a small part": ("--min-share",),
    "the query hardly differs": ("--min-contrast",),
    "no query has a look-alike": ("--look-alikes",),
    "needs `frame_rate`": ("--frame-rate",),
}
"""Part of a reason for which a video gives no case -> the options that may help."""


def suggest_options(reasons: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """The options that may help against the commonest of these reasons that an option can help against."""
    for reason, _ in reasons:
        for part, names in _REMEDIES.items():
            if part in reason:
                return names
    return ()


def find_common_reasons(rejects: Path, limit: int = 3) -> tuple[tuple[str, int], ...]:
    """Return the commonest reasons, each with the number of its rejects, the commonest first.

    Reasons that differ in their numbers only are counted together, under the first of them. Ties are in the order of
    the file.

    Args:
        rejects: a ``rejects.jsonl``.
        limit: number of reasons.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    with open_regular(rejects) as lines:
        for number, line in enumerate(lines, 1):
            reason = parse_json_object(line, rejects, f"line {number}").get("reason")
            if not isinstance(reason, str):
                raise InputError(rejects, "expected text", f"line {number}, reason")
            pattern = _NUMBER.sub("0", reason)
            examples.setdefault(pattern, reason)
            counts[pattern] += 1
    return tuple((examples[pattern], count) for pattern, count in counts.most_common(limit))
