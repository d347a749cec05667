"""Data sets for single-object tracking: a sequence is a folder of frames and a text file of boxes, one line per frame.

    LaSOT       [<split>/]<class>/<class-n>/{img/00000001.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt};
                absent is a box without area or a 1 in one of the two files (or in absent.txt, which the evaluation
                toolkit has instead)
    GOT-10k     [<split>/]<sequence>/{00000001.jpg, groundtruth.txt, absence.label, cover.label, meta_info.ini}; cover
                is the visible share, from 0 to 8
    VastTrack   [<split>/]<class>/<class-n>/{imgs/*.jpg, Groundtruth.txt}; occlusion and absence as in LaSOT, where the
                files exist
    UTB180      <sequence>/{imgs/0001.jpg, groundtruth_rect.txt}, fractional numbers separated by white space
    OTB         <sequence>/{img/0001.jpg, groundtruth_rect.txt}, commas, tabs or blanks; Jogging, Skating2 and Human4
                have groundtruth_rect.1.txt and .2.txt, two objects of one video. David starts at frame 300; some
                sequences have more frames than lines, and then the lines are those of the first frames

Other layouts of this kind: ``trackingnet``, ``videocube``, ``uav123``, ``vot``.

Boxes are ``x, y, width, height`` in pixels and are not changed. A frame counts as annotated where every object of its
video has a line. A video with one object gives no case by itself: use a folder of proposals, or allow one candidate.

Sources: the data sets' pages (``catalogue``), README of HengLan/LaSOT_Evaluation_Toolkit and HengLan/VastTrack,
``got10k.datasets`` of got-10k/toolkit for OTB and GOT-10k.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmvm_data.builders.common.box_sequences import BoxSequence, ObjectTrack, find_sequences, make_sequence_source
from mmvm_data.builders.source import Source
from mmvm_data.io.files import path_kind
from mmvm_data.io.remote import folder_name

_LASOT_FLAGS = ("full_occlusion.txt", "out_of_view.txt", "absent.txt")


@dataclass(frozen=True)
class SequenceLayout:
    """Names of files inside the folder of a sequence.

    Attributes:
        box_files: names of the file of boxes; with ``is_multi_object`` each existing one is an object, else the first
            existing one is used.
        image_folders: names of the folder of frames, "" for the sequence's own.
        absence_files, cover_file, info_file, allow_extra_frames: as in BoxSequence.
        has_class_folders: whether the parent folder is named after the object's class.
        is_multi_object: whether a sequence may have several objects.
        starts: sequences whose first line belongs to a later frame -> the number of that frame.
    """

    box_files: tuple[str, ...]
    image_folders: tuple[str, ...]
    absence_files: tuple[str, ...] = ()
    cover_file: str | None = None
    info_file: str | None = None
    has_class_folders: bool = False
    is_multi_object: bool = False
    starts: tuple[tuple[str, int], ...] = ()
    allow_extra_frames: bool = False


LAYOUTS = {
    "lasot": SequenceLayout(("groundtruth.txt",), ("img",), _LASOT_FLAGS, has_class_folders=True),
    "got10k": SequenceLayout(
        ("groundtruth.txt",), ("",), ("absence.label",), cover_file="cover.label", info_file="meta_info.ini"
    ),
    "vasttrack": SequenceLayout(
        ("Groundtruth.txt", "groundtruth.txt"), ("imgs", "img"), _LASOT_FLAGS, has_class_folders=True
    ),
    "utb180": SequenceLayout(("groundtruth_rect.txt",), ("imgs", "img")),
    "otb": SequenceLayout(
        ("groundtruth_rect.txt", "groundtruth_rect.1.txt", "groundtruth_rect.2.txt"),
        ("img",),
        is_multi_object=True,
        starts=(("David", 300),),
        allow_extra_frames=True,
    ),
}


def open_sot(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open lasot, got10k, vasttrack, utb180 or otb; a video's id is the name of its folder.

    Raises:
        InputError: the root cannot be read, or contains no sequence.
    """
    layout = LAYOUTS[name]

    def describe(folder: Path) -> BoxSequence:
        files = [folder / file for file in layout.box_files if path_kind(folder / file) == "file"]
        files = files if layout.is_multi_object else files[:1]
        images = next((folder / part for part in layout.image_folders if path_kind(folder / part) == "folder"), None)
        start = dict(layout.starts).get(folder.name)
        return BoxSequence(
            id=folder_name(folder),
            images=images or folder / layout.image_folders[0],
            tracks=tuple(ObjectTrack(str(k), file, start) for k, file in enumerate(files, start=1)),
            category=folder.absolute().parent.name if layout.has_class_folders else None,
            absence_files=tuple(folder / file for file in layout.absence_files),
            cover_file=folder / layout.cover_file if layout.cover_file else None,
            info_file=folder / layout.info_file if layout.info_file else None,
            allow_extra_frames=layout.allow_extra_frames,
        )

    def is_sequence(folder: Path) -> bool:
        return any(path_kind(folder / file) == "file" for file in layout.box_files)

    folders, rejects = find_sequences(name, root, is_sequence, layout.box_files[0], layout.image_folders)
    return make_sequence_source(name, root, folders, describe, rejects)
