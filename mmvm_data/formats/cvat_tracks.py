"""Writing tracks as a file of CVAT for video, which CVAT imports into a task that was made of the same images.

Every frame with an object is a keyframe, so that nothing is interpolated. CVAT keeps only the first mask of a track
that it imports, so masks are written as polygons along pixel edges: one track for each piece of an object, in a group,
and a hole is cut open. The attribute ``track_id`` keeps the object's name, since CVAT numbers tracks anew.

Source: docs.cvat.ai, "XML annotation format", version 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from mmvm_data.core import masks
from mmvm_data.core.types import Region

TRACK_ATTRIBUTE = "track_id"
NO_CATEGORY = "object"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Shape = tuple[str, str]
"""Name of an element, and its attributes of coordinates."""


def write_tracks(path: Path, name: str, size: tuple[int, int], tracks: Mapping[str, Sequence[Region | None]]) -> None:
    """Write the file of one task.

    Args:
        path: of the file.
        name: of the task.
        size: height and width of the frames.
        tracks: object -> its region in each frame, None where it is not visible; at least one in each.
    """
    count = max(map(len, tracks.values()), default=0)
    labels = sorted({_label(regions) for regions in tracks.values()})
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    lines += _format_meta(name, size, count, labels)
    number = 0
    for group, (track, regions) in enumerate(tracks.items(), 1):
        shapes = [_shapes(region) for region in regions]
        pieces = max(map(len, shapes))
        in_group = f' group_id="{group}"' if pieces > 1 else ""
        for piece in range(pieces):
            lines.append(f'  <track id="{number}" label={_quote(_label(regions))} source="manual"{in_group}>')
            lines += _format_piece(track, [found[piece] if piece < len(found) else None for found in shapes])
            lines.append("  </track>")
            number += 1
    path.write_text("\n".join([*lines, "</annotations>", ""]), encoding="utf-8")


def _label(regions: Sequence[Region | None]) -> str:
    return next((region.category for region in regions if region and region.category), NO_CATEGORY)


def _shapes(region: Region | None) -> list[Shape]:
    """Return a box, or one polygon for each piece of a mask."""
    if region is None:
        return []
    if region.box is not None:
        x, y, width, height = region.box
        corners = zip(("xtl", "ytl", "xbr", "ybr"), (x, y, x + width, y + height), strict=True)
        return [("box", " ".join(f'{key}="{value:.10g}"' for key, value in corners))]
    assert region.mask is not None  # a region has one of the two
    outlines = masks.to_polygons(region.mask)
    points = (";".join(f"{x},{y}" for x, y in zip(flat[::2], flat[1::2], strict=True)) for flat in outlines)
    return [("polygon", f'points="{text}"') for text in points]


def _format_piece(track: str, shapes: Sequence[Shape | None]) -> Iterator[str]:
    """Yield the shapes of one track; where it disappears, its last shape is repeated as outside."""
    last: Shape | None = None
    for frame, shape in enumerate(shapes):
        if shape is not None or last is not None:
            tag, coordinates = shape or last or ("", "")
            flags = f'keyframe="1" outside="{shape is None:d}" occluded="0"'
            yield f'    <{tag} frame="{frame}" {flags} {coordinates} z_order="0">'
            yield f'      <attribute name="{TRACK_ATTRIBUTE}">{_escape(track)}</attribute>'
            yield f"    </{tag}>"
        last = shape


def _format_meta(name: str, size: tuple[int, int], count: int, labels: Sequence[str]) -> Iterator[str]:
    attribute = (
        f"<attribute><name>{TRACK_ATTRIBUTE}</name><mutable>False</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute>"
    )
    yield "  <meta>"
    yield "    <task>"
    yield f"      <name>{_escape(name)}</name>"
    yield f"      <size>{count}</size>"
    yield "      <mode>interpolation</mode>"
    yield "      <overlap>0</overlap>"
    yield "      <start_frame>0</start_frame>"
    yield f"      <stop_frame>{count - 1}</stop_frame>"
    yield "      <labels>"
    for label in labels:
        yield f"        <label><name>{_escape(label)}</name><attributes>{attribute}</attributes></label>"
    yield "      </labels>"
    yield f"      <original_size><width>{size[1]}</width><height>{size[0]}</height></original_size>"
    yield "    </task>"
    yield "  </meta>"


def _escape(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text))


def _quote(text: str) -> str:
    return quoteattr(_NO_XML.sub("\ufffd", text))
