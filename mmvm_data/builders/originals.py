"""Data sets that draw on the same originals, so that one video can be in several of them under the same name."""

from __future__ import annotations

import re
from typing import Final

_FAMILIES: Final = (
    ("davis", "davis2016", "davis2017"),
    ("ytvos", "ytvis", "ytvis2021"),
    ("mose", "ovis"),
    ("tao", "burst", "lasot", "bdd100k", "bdd100k_seg"),
    ("mot17", "mots"),
    ("sav", "sav_auto"),
    ("sa1b", "sa1b_published"),
    ("coco", "coco_published", "coco_panoptic"),
)
"""Sources by name. TAO and BURST hold videos of LaSOT and BDD100K, YouTube-VIS those of YouTube-VOS."""

_FAMILY_OF: Final = {name: family[0] for family in _FAMILIES for name in family}
_SEQUENCE = re.compile(r"MOTS?\d*-(\d+)", re.IGNORECASE)
_PART = re.compile(r"_\d+$")


def original_of(source: str, video: str) -> tuple[str, str]:
    """What a video was made of: equal for videos of different sources that are known to have the same original.

    Args:
        source: a key of ``SOURCES``.
        video: id of the video in it.
    """
    family = _FAMILY_OF.get(source, source)
    name = video if family == source and source not in _FAMILY_OF else video.rpartition("/")[2]
    if source in ("mot17", "mots") and (match := _SEQUENCE.match(name)):
        name = match[1]
    elif source == "uav123":  # parts of one video
        name = _PART.sub("", name)
    return family, name
