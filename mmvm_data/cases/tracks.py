"""When the objects of a video show, go away and come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from mmvm_data.core import masks
from mmvm_data.core.types import Region

_EDGE = 0.01  # of a side: annotations often stop a little before the picture's last pixel
_EDGE_PIXELS = 2


@dataclass(frozen=True)
class Tracks:
    """Presence over a video.

    Attributes:
        positions: annotated frames that could be read, ascending.
        present: identity -> those of them that show it, ascending.
    """

    positions: tuple[int, ...]
    present: dict[str, list[int]]

    @classmethod
    def of(cls, shows: Mapping[int, frozenset[str]]) -> Tracks:
        """From the identities that each annotated frame shows."""
        present: dict[str, list[int]] = {}
        for position in sorted(shows):
            for track in sorted(shows[position]):
                present.setdefault(track, []).append(position)
        return cls(tuple(sorted(shows)), present)

    def absences(self) -> list[tuple[str, int, int]]:
        """Identity, the first annotated frame without it, and the one where it is back; of all that come back."""
        number = {position: k for k, position in enumerate(self.positions)}
        found = []
        for track in sorted(self.present):
            seen = self.present[track]
            for before, after in pairwise(seen):
                if number[after] > number[before] + 1:
                    found.append((track, self.positions[number[before] + 1], after))
        return found

    def away(self, track: str, first: int, last: int) -> int:
        """Annotated frames between two positions that do not show an object."""
        here = set(self.present.get(track, ()))
        return sum(first < position < last and position not in here for position in self.positions)


def at_edge(region: Region, width: int, height: int) -> bool:
    """Whether an object reaches the picture's edge, or comes nearer to it than 2 pixels or 1 % of the side.

    Args:
        region: in a frame.
        width, height: pixels of the frame.
    """
    x, y, w, h = masks.bbox(region.mask) if region.mask is not None else region.box or (0, 0, 0, 0)
    near_x, near_y = max(_EDGE_PIXELS, _EDGE * width), max(_EDGE_PIXELS, _EDGE * height)
    return x <= near_x or y <= near_y or x + w >= width - near_x or y + h >= height - near_y
