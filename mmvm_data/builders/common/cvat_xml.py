"""Files of CVAT for video: the tasks that a file describes, and its tracks as the file has them.

``annotations`` with ``meta`` (``task``, ``job``, or ``project`` with ``tasks``: id, name, subset, size, start_frame,
stop_frame, frame_filter, original_size, source) and ``track`` elements (id, label, group_id, task_id) of ``box``,
``polygon``, ``mask`` and ``ellipse`` elements (frame, outside, occluded and coordinates).

Source: docs.cvat.ai, "XML annotation format", version 1.1. What a document type declaration can do to a reader is
avoided by refusing files that have one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

from mmvm_data.builders.common.text_files import parse_natural
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import open_regular

TRACK_ATTRIBUTE = "track_id"
"""Attribute of shapes that names their object: exports of this package write it, since CVAT numbers tracks anew."""

SHAPE_FIELDS = {
    "box": ("xtl", "ytl", "xbr", "ybr", "rotation"),
    "polygon": ("points",),
    "mask": ("rle", "left", "top", "width", "height"),
    "ellipse": ("cx", "cy", "rx", "ry", "rotation"),
}
"""Elements that are read, with their attributes of coordinates; ``rotation`` may be missing."""
OTHER_SHAPES = ("polyline", "points", "cuboid", "skeleton")
_TASK_TAGS = ("task", "job")
_TASK_FIELDS = ("id", "name", "subset", "size", "start_frame", "stop_frame", "frame_filter", "source")
_MAX_DEPTH = 100
_MAX_TEXT = 10_000


class Shape(NamedTuple):
    """One shape of a track.

    Attributes:
        frame: number of the frame.
        kind: a key of SHAPE_FIELDS.
        is_outside: whether the object is not visible from this frame on, until the next shape.
        is_occluded: as CVAT has it.
        values: texts of the attributes in the order of SHAPE_FIELDS, "" for missing ones.
    """

    frame: int
    kind: str
    is_outside: bool
    is_occluded: bool
    values: tuple[str, ...]


@dataclass
class Track:
    """One track.

    Attributes:
        id: as in the file.
        label: name of its class, or "".
        group: number of the group that it belongs to; 0 for none.
        task: id of its task in a file of a project, or "".
        name: of the object, where an attribute of its shapes says it, or "".
        shapes: in the file's order.
        other_kinds: names of elements that are not read.
    """

    id: str
    label: str
    group: int
    task: str
    name: str = ""
    shapes: list[Shape] = field(default_factory=list)
    other_kinds: set[str] = field(default_factory=set)


@dataclass
class Task:
    """What a file says of one task; "" and None where it says nothing."""

    kind: str
    fields: dict[str, str] = field(default_factory=dict)
    width: str = ""
    height: str = ""

    def number(self, file: Path, name: str) -> int | None:
        """Return a number of the task, such as ``size``.

        Raises:
            InputError: not a whole number from 0.
        """
        text = self.fields.get(name, "")
        value = parse_natural(text)
        if text and value is None:
            raise InputError(file, f"an integer from 0 is expected, found {text[:40]!r}", field=f"meta, {name}")
        return value

    def size(self, file: Path) -> tuple[int, int] | None:
        """Return width and height of the frames, or None where the file does not say it.

        Raises:
            InputError: not whole numbers.
        """
        if not self.width and not self.height:
            return None
        width, height = parse_natural(self.width), parse_natural(self.height)
        if width is None or height is None:
            raise InputError(file, "integers width and height are expected", field="meta, original_size")
        return width, height


@dataclass
class CvatFile:
    """Content of a file."""

    tasks: list[Task] = field(default_factory=list)
    tracks: list[Track] = field(default_factory=list)
    has_images: bool = False
    """Whether it holds ``image`` elements, as files of CVAT for images do."""


class _Enough(Exception):
    """Parsing ends here: what follows is not asked for."""


def read_cvat(file: Path, is_meta_enough: bool = False) -> CvatFile | None:
    """Return the content of a file; None when it is an XML file of another kind.

    Args:
        file: the file.
        is_meta_enough: read no further than to the first track or image.

    Raises:
        InputError: unreadable, not XML, nested too deeply, with a document type declaration, or a track or shape
            without a number that it must have.
    """
    builder = _Builder(file, is_meta_enough)
    try:
        with open_regular(file) as handle:
            builder.parser.ParseFile(handle)
    except _Enough:
        pass
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code) or "broken"
        raise InputError(file, f"not valid XML: {reason}", field=f"line {error.lineno}") from error
    except (ValueError, LookupError) as error:  # an encoding that does not exist or cannot be read
        raise InputError(file, f"not valid XML: {error}") from error
    finally:
        del builder.parser  # its handlers refer to the builder, and would keep the content alive in a cycle
    return builder.content if builder.is_cvat else None


class _Builder:
    """Handlers of the parser, and what was read so far."""

    def __init__(self, file: Path, is_meta_enough: bool) -> None:
        self.file = file
        self.is_meta_enough = is_meta_enough
        self.is_cvat = False
        self.content = CvatFile()
        self.path: list[str] = []
        self.text: list[str] = []
        self.shape: str | None = None
        self.attribute = ""
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.add_text
        self.parser.StartDoctypeDeclHandler = self.refuse_declaration

    def refuse_declaration(self, *_: Any) -> None:
        raise InputError(self.file, "a document type declaration is not accepted", field=self.where())

    def where(self) -> str:
        return f"line {self.parser.CurrentLineNumber}"

    def add_text(self, text: str) -> None:
        if sum(map(len, self.text)) + len(text) <= _MAX_TEXT:
            self.text.append(text)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.path:
            if tag != "annotations":
                raise _Enough
            self.is_cvat = True
        self.path.append(tag)
        self.text = []
        if len(self.path) > _MAX_DEPTH:
            raise InputError(self.file, f"nested more than {_MAX_DEPTH} levels deep", field=self.where())
        if tag in _TASK_TAGS and "meta" in self.path:
            self.content.tasks.append(Task(tag))
        elif len(self.path) == 2 and tag in ("track", "image"):
            self.content.has_images |= tag == "image"
            if self.is_meta_enough:
                raise _Enough
            if tag == "track":
                self.start_track(attributes)
        elif len(self.path) == 3 and self.path[1] == "track":
            self.start_shape(tag, attributes)
        elif tag == "attribute" and self.shape is not None:
            self.attribute = attributes.get("name", "")

    def start_track(self, attributes: dict[str, str]) -> None:
        group = self.parse_number(attributes, "group_id", "0")
        track = Track(attributes.get("id", ""), attributes.get("label", ""), group, attributes.get("task_id", ""))
        if not track.id:
            raise InputError(self.file, "a track with an id is expected", field=self.where())
        self.content.tracks.append(track)

    def start_shape(self, tag: str, attributes: dict[str, str]) -> None:
        track = self.content.tracks[-1]
        if tag in OTHER_SHAPES:
            track.other_kinds.add(tag)
        if tag not in SHAPE_FIELDS:
            return
        self.shape = tag
        frame = self.parse_number(attributes, "frame")
        outside, occluded = (self.parse_number(attributes, key, "0") for key in ("outside", "occluded"))
        values = tuple(attributes.get(key, "") for key in SHAPE_FIELDS[tag])
        track.shapes.append(Shape(frame, tag, bool(outside), bool(occluded), values))

    def parse_number(self, attributes: dict[str, str], key: str, missing: str = "") -> int:
        text = attributes.get(key, missing)
        value = parse_natural(text)
        if value is None:
            reason = f"an integer from 0 is expected, found {text[:40]!r}"
            raise InputError(self.file, reason, field=f"{self.where()}, {key}")
        return value

    def end(self, tag: str) -> None:
        text = "".join(self.text).strip()
        self.text = []
        parents = self.path[:-1]
        self.path.pop()
        tasks = self.content.tasks
        if tag == "attribute" and self.shape is not None:
            if self.attribute == TRACK_ATTRIBUTE and text:
                self.content.tracks[-1].name = text
        elif len(self.path) == 2:
            self.shape = None
        if "meta" not in parents or not tasks:
            return
        if parents[-1] in _TASK_TAGS and tag in _TASK_FIELDS:
            tasks[-1].fields[tag] = text
        elif parents[-1] == "meta" and tag == "source":
            tasks[-1].fields.setdefault(tag, text)
        elif parents[-1] == "original_size" and tag in ("width", "height"):
            setattr(tasks[-1], tag, text)
