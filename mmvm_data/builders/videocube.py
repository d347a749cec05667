"""VideoCube: one object per video, one line per frame, files by kind of annotation.

``data/<split>/<sequence>/frame_<sequence>/*.jpg``, ``attribute/groundtruth/<sequence>.txt`` and
``attribute/absent/<sequence>.txt`` (1 where the object is absent). Boxes are as in ``sot``.

Source: README of huuuuusy/videocube-toolkit.
"""

from __future__ import annotations

from pathlib import Path

from mmvm_data.builders.common.box_sequences import BoxSequence, ObjectTrack, make_sequence_source
from mmvm_data.builders.common.folders import add_unique
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.io.files import list_names, path_kind

SPLITS = ("train", "val", "test")


def open_videocube(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open VideoCube, full or tiny version; a video's id is the name of its sequence.

    Raises:
        InputError: the folder of boxes does not exist.
    """
    boxes = root / "attribute" / "groundtruth"
    if path_kind(boxes) != "folder":
        raise InputError(root, "the folder attribute/groundtruth is expected here")
    rejects: list[Reject] = []
    files: dict[str, Path] = {}
    for file in list_names(boxes, (".txt",)):
        add_unique(name, root, Path(file).stem, boxes / file, files, rejects, "sequences")

    def describe(file: Path) -> BoxSequence:
        video = file.stem
        folders = [root / "data" / split / video / f"frame_{video}" for split in SPLITS]
        images = next((folder for folder in folders if path_kind(folder) == "folder"), folders[0])
        absence_files = (root / "attribute" / "absent" / file.name,)
        return BoxSequence(video, images, (ObjectTrack("1", file),), absence_files=absence_files)

    return make_sequence_source(name, root, files, describe, rejects)
