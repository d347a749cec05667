"""Writers of a tiny data set for each source, one for each layout."""

from __future__ import annotations

from pathlib import Path

from tests.sets import tool_sets, tracker_sets, video_sets, view_sets
from tests.sets.world import SetWriter, WrittenSet

SETS: dict[str, dict[str, SetWriter]] = {
    "davis": {"": video_sets.davis},
    "davis2016": {"": video_sets.davis2016},
    "mose": {"": video_sets.write_pairs("train/JPEGImages", "train/Annotations")},
    "ytvos": {"": video_sets.ytvos},
    **{name: {"": video_sets.ytvis} for name in ("ytvis", "ytvis2021", "ovis", "lvvis", "uvo")},
    "sav": {"": video_sets.sav("manual", "")},
    "sav_auto": {"": video_sets.sav("auto", "auto-")},
    "mot17": {"": video_sets.mot("pedestrian", 1)},
    "mot20": {"": video_sets.mot("pedestrian", 1)},
    "dancetrack": {"": video_sets.mot("dancer", 0)},
    "sportsmot": {"": video_sets.mot("player", 0)},
    "mot": {
        "": video_sets.mot_columns(9),
        **{f"{count}-columns": video_sets.mot_columns(count) for count in (7, 8, 10)},
    },
    "burst": {"": video_sets.burst},
    "tao": {"": video_sets.tao},
    "vipseg": {"": video_sets.vipseg},
    "mots": {"": video_sets.mots, "kitti": video_sets.kitti_mots},
    "bdd100k": {"": video_sets.bdd100k},
    "bdd100k_seg": {"": video_sets.bdd100k_seg, "rles": video_sets.bdd100k_rle},
    "lasot": {"": tracker_sets.lasot},
    "got10k": {"": tracker_sets.got10k},
    "vot": {"": tracker_sets.vot, "masks": tracker_sets.vot_masks},
    "uav123": {"": tracker_sets.uav123},
    "utb180": {"": tracker_sets.utb180},
    "otb": {"": tracker_sets.otb},
    "oxuva": {"": tracker_sets.oxuva},
    "videocube": {"": tracker_sets.videocube},
    "vasttrack": {"": tracker_sets.vasttrack},
    "trackingnet": {"": tracker_sets.trackingnet},
    "wildtrack": {"": view_sets.multiview(8)},
    "multiviewx": {"": view_sets.multiview(4)},
    "sa1b": {"": view_sets.sa1b},
    "sa1b_published": {"": view_sets.sa1b},
    "coco": {"": view_sets.coco},
    "coco_published": {"": view_sets.coco},
    "coco_panoptic": {"": view_sets.panoptic},
    "saco": {"": view_sets.saco},
    "reid": {"": view_sets.market, "list": view_sets.reid_list},
    "frames": {"": video_sets.write_pairs("images", "masks")},
    "cvat": {
        "": tool_sets.cvat_boxes,
        "masks": tool_sets.cvat_masks,
        "project": tool_sets.cvat_project,
    },
    "datumaro": {"": tool_sets.datumaro("mask"), "boxes": tool_sets.datumaro("box")},
    "video": {"": video_sets.video},
}
"""Source -> name of a layout -> its writer."""

LAYOUTS = [(source, layout) for source, writers in SETS.items() for layout in writers]
IDS = [f"{source}-{layout}" if layout else source for source, layout in LAYOUTS]
SIBLINGS = (
    *("ytvis2021", "ovis", "lvvis", "uvo"),
    *("mot20", "dancetrack", "sportsmot", "mot"),
    *("multiviewx", "sa1b_published", "coco_published", "coco_panoptic", "saco"),
)
"""Sources that share reader and layout with an earlier one."""
VIEWS = ("sa1b", "sa1b_published", "coco", "coco_published", "coco_panoptic", "saco", "reid")
"""Sources whose regions are computed from views or sheets, so that they differ from those of the world."""
ONE_OBJECT = tuple(
    "davis2016 lasot got10k vot uav123 utb180 otb oxuva videocube vasttrack trackingnet".split()  # noqa: SIM905
)
"""Sources with one object per video, always or mostly."""


def write_set(source: str, layout: str, root: Path, videos: int | None = None) -> WrittenSet:
    """Write the tiny data set of a source, with ``videos`` videos (or instants, images, groups of people)."""
    root.mkdir(parents=True, exist_ok=True)
    writer = SETS[source][layout]
    return writer(root) if videos is None else writer(root, videos)
