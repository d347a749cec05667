"""TrackingNet: ``<chunk>/{anno/<sequence>.txt, frames/<sequence>/0.jpg}``, one object per video, one line per frame.

The TEST chunk has only the first box of each sequence. Boxes are as in ``sot``.

Source: README of SilvioGiancola/TrackingNet-devkit.
"""

from __future__ import annotations

from pathlib import Path

from mmvm_data.builders.common.box_sequences import BoxSequence, ObjectTrack, make_sequence_source
from mmvm_data.builders.common.folders import add_unique
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.io.files import is_utf8, list_names, path_kind


def open_trackingnet(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open every chunk under the root, or one chunk; a video's id is the name of its file of boxes.

    Raises:
        InputError: the root cannot be read, or contains no file of boxes.
    """
    is_chunk = path_kind(root / "anno") == "folder"
    chunks = [root] if is_chunk else [root / chunk for chunk in list_names(root) if is_utf8(chunk)]
    rejects: list[Reject] = []
    files: dict[str, Path] = {}
    for chunk in chunks:
        boxes = chunk / "anno"
        if path_kind(boxes) == "folder":
            for file in list_names(boxes, (".txt",)):
                add_unique(name, root, Path(file).stem, boxes / file, files, rejects, "sequences")
    if not files and not rejects:
        raise InputError(root, "no <chunk>/anno/<sequence>.txt exists here")

    def describe(file: Path) -> BoxSequence:
        return BoxSequence(file.stem, file.parent.parent / "frames" / file.stem, (ObjectTrack("1", file),))

    return make_sequence_source(name, root, files, describe, rejects)
