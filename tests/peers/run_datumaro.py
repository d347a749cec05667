"""Datumaro reads a file of CVAT for video and exports it in its own format; run with an interpreter that has Datumaro.

python run_datumaro.py FOLDER OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path, out: Path) -> None:
    """Write ``read.json``, (frame, track, outlines or boxes) by video, and the export of each video below ``out``."""
    import datumaro
    from datumaro.plugins.data_formats.cvat.base import CvatBase

    read: dict[str, list[Any]] = {}
    for file in sorted(folder.glob("*/annotations.xml")):
        data = datumaro.Dataset.from_extractors(CvatBase(str(file)))
        read[file.parent.name] = [
            (item.attributes["frame"], shape.attributes["track_id"], [float(value) for value in shape.points])
            for item in data
            for shape in item.annotations
            if not shape.attributes["outside"]
        ]
        data.export(str(out / file.parent.name), "datumaro", save_media=True)
    (out / "read.json").write_text(json.dumps(read))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
