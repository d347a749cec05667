"""JSON files that are small enough to be parsed as a whole: one video, or one small index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError
from mmvm_data.io.media import read_bytes


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: the file is missing, not JSON, or an object in it has a key twice.
    """
    return _read(file, lambda key, value: True)


def read_json_without_frames(file: Path) -> Any:
    """Return the content of a JSON file without lists under the key ``frames``.

    In the index of YouTube-VOS they make up most of the file and repeat what the PNGs show. Raises as ``read_json``.
    """
    return _read(file, lambda key, value: key != "frames" or not isinstance(value, list))


def _read(file: Path, keep: Callable[[str, Any], bool]) -> Any:
    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            repeated = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise InputError(file, "the key occurs twice in one object", field=repeated)
        return {key: value for key, value in pairs if keep(key, value)}

    try:
        return json.loads(read_bytes(file), object_pairs_hook=to_dict)
    except (ValueError, RecursionError) as error:
        raise InputError(file, f"not valid JSON: {error}") from error
