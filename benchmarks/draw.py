"""Drawing from bitmaps: `draw_query` and `draw_candidates` against the published steps, in one process run.

The other side is the published drawing (CoLVA, ``contour_rendering``) written plainly from its description: the
contours of each mask from the whole frame, then the same lines, boxes and digits. Both draw the same pixels, which is
checked first. Masks are blobs, often in several pieces, or ellipses, of random sizes and places; as bool or uint8, row
by row or, as pycocotools decodes them, column by column. Both sides run in one thread and take turns at being the first
of two calls. Medians are over calls, by the clock and in processor time, which other work on the machine disturbs less.
``least_over_product`` is the smallest ratio of each function, in processor time: 1 or more says that the product is not
slower at any size.

    python benchmarks/draw.py --out benchmarks/results/draw.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from common import emit, machine, use_one_thread
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mmvm_data.cases import render
from mmvm_data.core.types import Rle

FONT = cv2.FONT_HERSHEY_SIMPLEX
SIZES = {"480p": (480, 854), "720p": (720, 1280), "1080p": (1080, 1920), "2160p": (2160, 3840)}
COUNTS = (1, 6, 37)
FUNCTIONS = ("draw_candidates", "draw_query")
KINDS = (("blobs", "uint8"), ("blobs", "bool"), ("blobs", "uint8 by columns"), ("ellipses", "uint8"))
LIMIT = 1.0
LAYOUTS: dict[str, Callable[[NDArray[np.uint8]], NDArray[Any]]] = {
    "uint8": np.asarray,
    "bool": lambda mask: mask.astype(np.bool_),
    "uint8 by columns": np.asfortranarray,
}

Call = Callable[[], NDArray[np.uint8]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=15, help="of each side and size")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    use_one_thread()
    cv2.setNumThreads(1)
    facts = machine() | {"opencv": cv2.__version__}
    rows = []
    for name in arguments.sizes:
        for kind in KINDS:
            rows += [measure(name, *SIZES[name], count, *kind, arguments.calls) for count in COUNTS]
    least = {name: min(row[name]["plain_over_product_cpu"] for row in rows) for name in FUNCTIONS}
    ratios = {name: median(row[name]["plain_over_product_cpu"] for row in rows) for name in FUNCTIONS}
    record = {"machine": facts, "calls": arguments.calls, "least_over_product": least, "median_over_product": ratios}
    emit(record | {"limit": LIMIT, "within": min(least.values()) >= LIMIT, "rows": rows}, arguments.out)


def measure(name: str, height: int, width: int, count: int, shape: str, layout: str, calls: int) -> dict[str, Any]:
    """Milliseconds of both sides for one image, and their ratio (above 1: the product is faster)."""
    rng = np.random.default_rng(count)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    make = {"blobs": make_mask, "ellipses": make_ellipse}[shape]
    masks = [LAYOUTS[layout](make(rng, height, width)) for _ in range(count)]
    ids, colors = list(range(1, count + 1)), render.distinct_colors(count + 1)
    sides: dict[str, tuple[Call, Call]] = {
        "draw_candidates": (
            partial(render.draw_candidates, image, masks, ids, colors),
            partial(draw_candidates_plainly, image, masks, ids, colors),
        ),
        "draw_query": (partial(render.draw_query, image, masks[0]), partial(draw_query_plainly, image, masks[0])),
    }
    row: dict[str, Any] = {"size": name, "masks": count, "shape": shape, "layout": layout}
    for function, (ours, plain) in sides.items():
        if not (ours() == plain()).all():  # these calls warm both up, too
            raise SystemExit(f"{name}, {count} {shape}, {layout}: {function} draws other pixels")
        times = [measure_pair(ours, plain, plain_first=bool(call % 2)) for call in range(calls)]
        row[function] = {}
        for clock, suffix in enumerate(("", "_cpu")):
            pairs = [(first[clock], second[clock]) for first, second in times]
            product, script = (median(side) for side in zip(*pairs, strict=True))
            row[function] |= {
                f"product_ms{suffix}": round(product * 1000, 3),
                f"plain_ms{suffix}": round(script * 1000, 3),
                f"plain_over_product{suffix}": round(median(b / a for a, b in pairs), 2),
            }
    return row


def measure_pair(ours: Call, plain: Call, plain_first: bool) -> list[tuple[float, float]]:
    """Wall-clock and processor seconds of a call of each side, the product's first in the result."""
    times = [measure_call(side) for side in ((plain, ours) if plain_first else (ours, plain))]
    return times[::-1] if plain_first else times


def measure_call(function: Call) -> tuple[float, float]:
    """Wall-clock and processor seconds of one call, whose result is freed afterwards."""
    clock, cpu = time.perf_counter(), time.process_time()
    kept = function()
    taken = time.perf_counter() - clock, time.process_time() - cpu
    del kept
    return taken


def make_mask(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A blob, often in several pieces: uint8 [height, width] of 0 and 1."""
    h, w = (int(side * rng.uniform(0.05, 0.5)) for side in (height, width))
    y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
    coarse = rng.random((max(3, h // 16), max(3, w // 16))).astype(np.float32)
    patch = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC) > 0.45
    patch[h // 2, w // 2] = True
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + h, x : x + w] = patch
    return mask


def make_ellipse(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """An ellipse: uint8 [height, width] of 0 and 1."""
    axes = [max(1, int(side * rng.uniform(0.025, 0.25))) for side in (width, height)]
    center = [int(rng.integers(axis, side - axis)) for axis, side in zip(axes, (width, height), strict=True)]
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, center, axes, 0, 0, 360, 1, cv2.FILLED)
    return mask


def decode_all(rles: list[Rle]) -> list[NDArray[np.uint8]]:
    """Bitmaps of whole frames, as pycocotools decodes them."""
    return [coco_mask.decode({"size": list(rle.size), "counts": rle.counts.encode()}) for rle in rles]


def find_contours_plainly(mask: NDArray[Any]) -> Any:
    return cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]


def draw_query_plainly(
    image: NDArray[np.uint8], mask: NDArray[Any], color: tuple[int, int, int] = render.COLORS["cyan"]
) -> NDArray[np.uint8]:
    """A copy with the contours of a mask."""
    drawn = image.copy()
    cv2.drawContours(drawn, find_contours_plainly(mask), -1, color, 2)
    return drawn


def draw_candidates_plainly(
    image: NDArray[np.uint8], masks: list[NDArray[Any]], ids: list[int], colors: list[tuple[float, float, float]]
) -> NDArray[np.uint8]:
    """A copy with contours and numbers: the scale of a number starts at 5.9 and goes down until it fits its piece."""
    drawn = image.copy()
    labels = []
    for mask, number, color in zip(masks, ids, colors, strict=False):
        paint = tuple(255 * channel for channel in (colors[-1] if min(color) > 0.9 else color))
        contours = find_contours_plainly(mask)
        piece = max(contours, key=cv2.contourArea)
        x, y, width, height = cv2.boundingRect(piece)
        moments = cv2.moments(piece)
        center = (x + width / 2, y + height / 2)
        if moments["m00"] > 0:
            center = (int(moments["m10"] / moments["m00"]), int(moments["m01"] / moments["m00"]))
        thickness = 1 if max(width, height) < 25 else 2
        scale = 0.5
        for tenths in range(59, 4, -1):
            text_width, text_height = cv2.getTextSize(str(number), FONT, tenths / 10, thickness)[0]
            if text_height / height <= 0.15 and text_width / width <= 0.15:
                scale = tenths / 10
                break
        (text_width, text_height), below = cv2.getTextSize(str(number), FONT, scale, thickness)
        corner = (int(center[0] - text_width / 2), int(center[1] + (text_height + below) / 2))
        labels.append((str(number), paint, corner, thickness, scale))
        cv2.drawContours(drawn, contours, -1, paint, 2)
    shared = min(label[-1] for label in labels)
    for text, paint, (x, y), thickness, _ in labels:
        (width, height), below = cv2.getTextSize(text, FONT, shared, thickness)
        top = (x, int(y - height - below / 2))
        cv2.rectangle(drawn, top, (x + width, int(y + below / 2)), paint, -1, 8)
        cv2.putText(drawn, text, (x, y), FONT, shared, (255, 255, 255), thickness)
    return drawn


if __name__ == "__main__":
    main()
