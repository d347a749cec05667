"""Loads a folder of Parquet files with ``datasets``: ``FOLDER OUT``.

OUT becomes JSON: the version, the features, and the rows as they are loaded and as they are streamed. Of each row: id,
question, choices, answer, its number, match types, numbers of the candidates, and digests of the pixels of all images.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def digest(image: Any) -> list[Any]:
    """Return the size and SHA-256 of the pixels of an image, as JSON values."""
    return [*image.size, hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()]


def main(folder: Path, out: Path) -> None:
    """Load and stream."""
    import datasets

    result: dict[str, Any] = {"version": datasets.__version__}
    for name, is_streaming in (("loaded", False), ("streamed", True)):
        rows = datasets.load_dataset(
            str(folder), cache_dir=str(out.parent / "cache"), split="test", streaming=is_streaming
        )
        columns = ("id", "question", "choices", "answer", "answer_number", "match_types", "rationale")
        result[name] = [
            [row[column] for column in columns]
            + [[candidate["number"] for candidate in row["candidates"]]]
            + [[digest(image) for image in row[key]] for key in ("images", "marked_images")]
            for row in rows
        ]
    out.write_text(json.dumps(result))


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
