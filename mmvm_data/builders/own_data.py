"""The sources of one's own data: formats of tools and plain folders, as entries of the catalogue."""

from __future__ import annotations

from typing import Final

from mmvm_data.builders.source import LazyReader, SourceSpec

OWN_DATA: Final[dict[str, SourceSpec]] = {
    "mot": SourceSpec(
        LazyReader("mot.open_mot"),
        "your own boxes in the format of MOTChallenge, and MOT15",
        "[train/]<sequence>/img1/*.jpg and gt/gt.txt, 7 to 10 columns: frame, id, left, top, width, height, flag[, "
        "class[, visibility]]; class and visibility -1 are unknown; gt/labels.txt names classes",
        "https://motchallenge.net/instructions/",
        "yours",
        "box",
        "files made to the specification",
    ),
    "frames": SourceSpec(
        LazyReader("palette.open_frames"),
        "your own frames and PNG masks",
        "JPEGImages, images or frames beside Annotations, masks or annotations, a folder per video (or a single "
        "video), or both in each video's folder; labelmap.txt names colors",
        "",
        "yours",
        "mask",
        "real files",
    ),
    "cvat": SourceSpec(
        LazyReader("cvat.open_cvat"),
        "CVAT for video, tasks, jobs and projects",
        "[<video>/]annotations.xml and images/frame_000000.png … or the video file; or <video>.xml beside <video>.mp4 "
        "or a folder <video>; polygons and masks are read as masks, boxes as boxes",
        "https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/",
        "yours",
        "mask",
        "a part of the real files",
    ),
    "datumaro": SourceSpec(
        LazyReader("datumaro.open_datumaro"),
        "Datumaro's own format, as Datumaro and CVAT export it",
        "annotations/<subset>.json and images/[<subset>/]<video>/* (or videos/[<subset>/]*.mp4); annotations with "
        "track_id are tracks of a video, without they are objects of still images",
        "https://github.com/open-edge-platform/datumaro",
        "yours",
        "mask",
        "files made to the specification",
    ),
    "video": SourceSpec(
        LazyReader("tracks.open_video"),
        "your own video files",
        "a folder of mmvm-data ingest; or x.mp4 and PNG masks, numbered by frame from 0, in Annotations/[res/]x, "
        "masks/x, x_masks, x_mask or x/",
        "",
        "yours",
        "mask",
        "real files",
    ),
}
