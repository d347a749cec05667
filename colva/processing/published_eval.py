"""Inputs as the published evaluation prepares them, for released checkpoints (`prompt_style: published-eval`).

The evaluator (GitHub zhouyiks/MMVMEvalKit, vlmeval/vlm/colva, `internvl_matcher.py` and `qwen2vl_matcher.py`) has two
forms, by the family of the language model:

| | InternVL2 | Qwen2-VL |
|---|---|---|
| images in the text | a line each | in a row |
| between object lines and question | `<Image-1><Image-2>` | nothing |
| images for the language model | at most 6 tiles, and a thumbnail | 1024 x 1024, black right and below |
| positions | 0 .. t-1 | 0 .. t-1 on all three axes |
| new tokens | 1024 | 512, of which the last 200 are read |

Both give the expert 1024 x 1024 pixels, white right and below; the shorter side is rounded down. Masks are padded to a
square and resized bilinearly twice, to the canvas and to its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from colva.model.token_grid import THRESHOLD, Geometry, Grid, Span

INTERNVL: Final = "published-eval"
QWEN2_VL: Final = "published-eval-qwen2-vl"
MAX_TILES: Final = 6
QWEN_SIDE: Final = 1024
"""Pixels a side of the square that Qwen2-VL gets."""
MAX_NEW_TOKENS: Final = {INTERNVL: 1024, QWEN2_VL: 512}
READ_TOKENS: Final = {QWEN2_VL: 200}
"""Tokens of a reply that are read, the last ones."""


def round_down_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the (height, width) of an image whose long side becomes `side`; the short one is rounded down."""
    # an empty side is the evaluator's error, not its rule
    if width > height:
        return max(1, int(height / width * side)), side
    return side, max(1, int(width / height * side))


def square_grid(size: tuple[int, int], resized: tuple[int, int], side: int, cells: int) -> Grid:
    """Return the grid of `cells` x `cells` tokens over a square that holds an image of `size` at `resized` pixels."""
    return Grid(Span(cells, size[0], resized[0], 0, side), Span(cells, size[1], resized[1], 0, side))


@dataclass(frozen=True)
class EvaluatorGeometry(Geometry):
    """One grid of tokens over the expert's canvas, with the evaluator's own way from masks to tokens."""

    def token_mask(self, masks: Tensor, threshold: float = THRESHOLD, fill_empty: bool = False) -> Tensor:
        """Return the tokens that objects cover, bool `[n, tokens]`; an object may cover none. See `Geometry`."""
        super().token_mask(masks[:0])  # the size of the masks
        del fill_empty
        rows = self.grids[0].rows
        longest, side = max(self.size), rows.window or rows.resized
        padded = torch.zeros(len(masks), 1, longest, longest)
        padded[:, 0, : self.size[0], : self.size[1]] = (masks != 0).float().cpu()
        on_canvas = interpolate(padded, size=(side, side), mode="bilinear")
        cells = (rows.cells, self.grids[0].columns.cells)
        return (interpolate(on_canvas, size=cells, mode="bilinear").flatten(1) > threshold).to(masks.device)
