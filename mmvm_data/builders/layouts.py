"""What each source has on disk, as patterns of paths: for finding the source of a folder, not for reading it.

A pattern is a path below the root. ``*`` is a part of a name, ``**/`` any folders, ``[a/]`` an optional part, ``{a,b}``
a choice, ``.img`` an image of any kind, ``.vid`` a video file. A source fits when the patterns of one of its layouts
exist.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

Layout = tuple[str, ...]

_PAIR: Final = (
    "**/{JPEGImages,images,frames}/**/*.img",
    "**/{Annotations,masks,annotations,SegmentationClass}/**/*.png",
)
_YTVIS: Final = ("**/*.json", "**/*.img")
_MOT: Final = ("**/img1/*.img", "**/gt/gt.txt")
_COCO: Final = ("[annotations/]*.json", "**/*.img")

LAYOUTS: Final[dict[str, tuple[Layout, ...]]] = {
    "davis": (("[DAVIS/]JPEGImages/*/*/*.img", "[DAVIS/]Annotations[_unsupervised]/*/*/*.png"),),
    "davis2016": (("[DAVIS/]JPEGImages/*/*/*.img", "[DAVIS/]Annotations/*/*/*.png"),),
    "mose": (("[{train,valid}/]JPEGImages/*/*.img", "[{train,valid}/]Annotations/*/*.png"),),
    "ytvos": (("[{train,train_all_frames}/]JPEGImages/*/*.img", "[train/]Annotations/*/*.png", "[train/]meta.json"),),
    **dict.fromkeys(("ytvis", "ytvis2021", "ovis", "lvvis", "uvo"), (_YTVIS,)),
    "sav": (
        ("**/*_manual.json", "**/*.vid"),
        ("**/*_manual.json", "**/*.img"),
        ("**/JPEGImages_24fps/*/*.img", "**/Annotations_6fps/*/*/*.png"),
    ),
    "sav_auto": (("**/*_auto.json", "**/*.vid"), ("**/*_auto.json", "**/*.img")),
    **dict.fromkeys(("mot17", "mot20", "dancetrack", "sportsmot", "mot"), (_MOT,)),
    "mots": (
        _MOT,
        ("**/image_02/*/*.img", "**/instances_txt/*.txt"),
        ("**/image_02/*/*.img", "**/instances/*/*.png"),
    ),
    "burst": (("{train,val,test}/*.json", "frames/*/**/*.img"),),
    "tao": (("annotations/*.json", "frames/**/*.img"),),
    "vipseg": (("[*/]{imgs,images}/*/*.img", "[*/]{panomasks,panomask}/*/*.png"),),
    "bdd100k": (
        ("[bdd100k/]images/track/*/*/*.img", "[bdd100k/]{labels,labels-20}/{box_track_20,box-track}/*/*.json"),
    ),
    "bdd100k_seg": (("[bdd100k/]images/seg_track_20/*/*/*.img", "[bdd100k/]labels/seg_track_20/*/*/**/*.*"),),
    "lasot": (("**/img/*.img", "**/groundtruth.txt"),),
    "got10k": (("**/*.img", "**/groundtruth.txt", "**/absence.label"),),
    "vot": (("**/*.img", "**/groundtruth.txt"),),
    "uav123": (("data_seq/*/*/*.img", "anno/*/*.txt", "configSeqs.m"), ("data_seq/*/*/*.img", "anno/*/*.txt")),
    "utb180": (("**/imgs/*.img", "**/groundtruth_rect.txt"),),
    "otb": (("**/img/*.img", "**/groundtruth_rect*.txt"),),
    "oxuva": (("images/dev/*/*.img", "annotations/dev.csv"),),
    "videocube": (("data/*/*/frame_*/*.img", "**/attribute/groundtruth/*.txt"),),
    "vasttrack": (("**/imgs/*.img", "**/Groundtruth.txt"),),
    "trackingnet": (("*/frames/*/*.img", "*/anno/*.txt"),),
    **dict.fromkeys(("wildtrack", "multiviewx"), (("Image_subsets/C*/*.img", "annotations_positions/*.json"),)),
    **dict.fromkeys(("sa1b", "sa1b_published"), (("**/sa_*.json", "**/sa_*.img"),)),
    **dict.fromkeys(("coco", "coco_published"), (_COCO, ("**/*.json", "**/*.img"))),
    "coco_panoptic": (("**/*.json", "**/*.img", "**/*.png"),),
    "saco": (("**/*.json", "**/*.img"),),
    "reid": (
        ("{bounding_box_train,bounding_box_test,query}/*.img",),
        ("ann.txt", "**/*.img"),
        ("meta/train*.txt", "**/*.img"),
    ),
    "frames": (_PAIR,),
    "cvat": (("**/*.xml", "**/*.img"), ("**/*.xml", "**/*.vid")),
    "datumaro": (("annotations/*.json", "{images,videos}/**/*.*"),),
    "video": (("clips/*.json", "tracks/*/*.json"), ("**/*.vid", "**/*.png")),
}
LAYOUTS["davis2017"] = LAYOUTS["davis"]
"""Source -> its layouts, each with all patterns that must exist."""

NAME_HINTS: Final[dict[str, str]] = {
    "davis2016": r"davis.?2016",
    "mose": r"mose",
    "ytvis2021": r"2021",
    "ovis": r"ovis",
    "lvvis": r"lv.?vis",
    "uvo": r"uvo",
    "mot17": r"mot.?17",
    "mot20": r"mot.?20",
    "dancetrack": r"dance",
    "sportsmot": r"sports",
    "multiviewx": r"multiviewx",
}
"""Sources that have reader and layout in common with another -> what the names of their folders and files hold."""

UNLIKELY: Final = 9
"""Preference of sources that only differ from another in what their names say."""
_WITHOUT_HINT: Final = ("sa1b_published", "coco_published")
_LEVELS: Final = {"coco": 1, "sav_auto": 1, "frames": 2, "video": 2, "reid": 2, "vot": 2}
"""Sources whose patterns are less particular, so that others that fit are preferred."""
_SUFFIXES: Final = {r"\.img": r"\.(?:jpe?g|png|bmp|webp|tiff?)", r"\.vid": r"\.(?:mp4|m4v|mov|avi|mkv|webm|mpe?g|ts)"}

_SUFFIX_NAMES: Final = {"img": ".{jpg,png,…}", "vid": ".{mp4,mov,…}"}


def preference(name: str, names: str) -> int:
    """Return how far a source that fits stands behind others: 0 is best.

    Args:
        name: of the source.
        names: names of the root and of what is in it.
    """
    if name in NAME_HINTS and re.search(NAME_HINTS[name], names, re.IGNORECASE):
        return 0
    return UNLIKELY if name in NAME_HINTS or name in _WITHOUT_HINT else 1 + _LEVELS.get(name, 0)


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern."""
    text = re.escape(pattern)
    for old, new in (
        (r"\*\*/", "(?:.+/)?"),
        (r"\*", "[^/]+"),
        (r"\[", "(?:"),
        (r"\]", ")?"),
        (r"\{", "(?:"),
        (r"\}", ")"),
        (",", "|"),
        *_SUFFIXES.items(),
    ):
        text = text.replace(old, new)
    return re.compile(text, re.IGNORECASE)


def describe_pattern(pattern: str) -> str:
    """A pattern as people read it: ``.img`` and ``.vid`` are no suffixes of files."""
    return re.sub(r"\.(img|vid)$", lambda match: _SUFFIX_NAMES[match[1]], pattern)


def is_particular(pattern: str) -> bool:
    """Return whether a pattern holds a name, rather than a kind of file alone."""
    return bool(re.search(r"[A-Za-z]{2,}", pattern.rpartition(".")[0]))


def literal_names() -> frozenset[str]:
    """Return the names of folders that occur in patterns."""
    patterns = (pattern for layouts in LAYOUTS.values() for layout in layouts for pattern in layout)
    return frozenset(name for pattern in patterns for name in re.findall(r"[A-Za-z_0-9-]+(?=[/,}\]])", pattern))
