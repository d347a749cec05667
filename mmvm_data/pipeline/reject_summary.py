"""The commonest reasons in a build's ``rejects.jsonl``."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import open_regular
from mmvm_data.io.json_files import parse_json_object

_NUMBER = re.compile(r"#[0-9a-f]{6}\b|\d+(\.\d+)?")


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
