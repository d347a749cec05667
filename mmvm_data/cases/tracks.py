"""In which frames of a video each object is visible, disappears and reappears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from mmvm_data.core import masks
from mmvm_data.core.types import Region

_EDGE = 0.01  # of a side: annotations often stop a little before the last pixel of the frame
_EDGE_PIXELS = 2


@dataclass(frozen=True)
class Tracks:
    """The frames of a video in which each object is visible.

    Attributes:
        positions: annotated frames that could be read, ascending.
        present: track id -> those of them in which it is visible, ascending.
    """

    positions: tuple[int, ...]
    present: dict[str, list[int]]

    @classmethod
    def from_frames(cls, visible_ids: Mapping[int, frozenset[str]]) -> Tracks:
        """The tracks of a video, from the ids that are visible at the position of each annotated frame."""
        present: dict[str, list[int]] = {}
        for position in sorted(visible_ids):
            for track in sorted(visible_ids[position]):
                present.setdefault(track, []).append(position)
        return cls(tuple(sorted(visible_ids)), present)

    def absences(self) -> list[tuple[str, int, int]]:
        """Each absence that ends: track id, position of the first annotated frame without it, and of its return."""
        number = {position: k for k, position in enumerate(self.positions)}
        absences = []
        for track in sorted(self.present):
            for before, after in pairwise(self.present[track]):
                if number[after] > number[before] + 1:
                    absences.append((track, self.positions[number[before] + 1], after))
        return absences

    def count_absent_frames(self, track: str, first: int, last: int) -> int:
        """Number of annotated frames between two positions in which an object is not visible."""
        present = set(self.present.get(track, ()))
        return sum(first < position < last and position not in present for position in self.positions)


def at_edge(region: Region, width: int, height: int) -> bool:
    """Whether an object touches the edge of its frame, or is within 2 pixels or 1 % of the side of it.

    Args:
        region: the object.
        width, height: of the frame, in pixels.
    """
    x, y, w, h = masks.bbox(region.mask) if region.mask is not None else region.box or (0, 0, 0, 0)
    near_x, near_y = max(_EDGE_PIXELS, _EDGE * width), max(_EDGE_PIXELS, _EDGE * height)
    return x <= near_x or y <= near_y or x + w >= width - near_x or y + h >= height - near_y
