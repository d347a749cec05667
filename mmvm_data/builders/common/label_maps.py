"""Label maps: text files that name the colors of masks, as CVAT and tools for Pascal VOC write them.

``labelmap.txt``, a line ``name:red,green,blue:parts:actions`` for each label; lines that start with # are comments.
"""

from __future__ import annotations

from pathlib import Path

from mmvm_data.builders.common.text_files import parse_natural, read_lines
from mmvm_data.core.errors import InputError
from mmvm_data.io.png import ColorNames

NAME = "labelmap.txt"
BACKGROUND = "background"


def read_label_map(file: Path) -> ColorNames:
    """Return the names of a label map by color; black and the label ``background`` are background.

    Raises:
        InputError: a line without a name and a color, or a color with two names.
    """
    names = {0: ""}
    for n, line in enumerate(read_lines(file), start=1):
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        texts = rest.split(":")[0].split(",")
        values = [parse_natural(text.strip()) for text in texts]
        if not name.strip() or len(values) != 3 or any(value is None or value > 255 for value in values):
            reason = f"name:red,green,blue with values from 0 to 255 is expected, found {line[:60]!r}"
            raise InputError(file, reason, field=f"line {n}")
        red, green, blue = (value or 0 for value in values)
        color, name = red << 16 | green << 8 | blue, name.strip()
        if name == BACKGROUND:
            name = ""
        if names.setdefault(color, name) != name:
            raise InputError(file, f"the color of {name or BACKGROUND!r} has another name before", field=f"line {n}")
    return ColorNames(names, file.name)
