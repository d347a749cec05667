"""The commonest reasons in a build's ``rejects.jsonl``."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

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
    with open(rejects, encoding="utf-8") as lines:
        for line in lines:
            reason = json.loads(line)["reason"]
            pattern = _NUMBER.sub("0", reason)
            examples.setdefault(pattern, reason)
            counts[pattern] += 1
    return tuple((examples[pattern], count) for pattern, count in counts.most_common(limit))
