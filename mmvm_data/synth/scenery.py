"""The background: a sky with clouds, hills with parallax, ground in perspective."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
_TILE = 512  # pixels of a side of the ground's texture
_TILE_METERS = 8.0


@dataclass(frozen=True)
class Theme:
    """Colors of a place. ``ground`` holds the two colors of the ground, ``pattern`` names their layout."""

    sky: tuple[Color, Color]
    hills: tuple[Color, Color]
    ground: tuple[Color, Color]
    pattern: str
    props: tuple[str, ...]


THEMES: dict[str, Theme] = {
    "beach": Theme(
        ((88, 170, 226), (214, 238, 246)),
        ((86, 164, 190), (120, 184, 176)),
        ((236, 214, 164), (216, 188, 134)),
        "ripples",
        ("palm", "rock"),
    ),
    "boardwalk": Theme(
        ((244, 214, 190), (252, 236, 214)),
        ((226, 176, 160), (178, 196, 206)),
        ((204, 158, 112), (178, 130, 88)),
        "boards",
        ("post",),
    ),
    "desert": Theme(
        ((122, 176, 220), (250, 224, 188)),
        ((206, 150, 116), (190, 122, 88)),
        ((232, 190, 132), (206, 158, 102)),
        "ripples",
        ("cactus", "rock"),
    ),
    "evening": Theme(
        ((84, 92, 158), (250, 190, 160)),
        ((122, 104, 150), (92, 88, 128)),
        ((116, 132, 100), (88, 106, 84)),
        "grass",
        ("fir", "bush"),
    ),
    "meadow": Theme(
        ((104, 176, 236), (224, 240, 248)),
        ((136, 178, 150), (108, 160, 102)),
        ((136, 186, 92), (108, 160, 76)),
        "grass",
        ("tree", "bush"),
    ),
    "plaza": Theme(
        ((140, 186, 226), (238, 240, 240)),
        ((170, 178, 196), (148, 152, 174)),
        ((206, 196, 184), (178, 168, 160)),
        "slabs",
        ("tree", "post"),
    ),
    "snow": Theme(
        ((140, 172, 208), (234, 240, 246)),
        ((176, 194, 214), (156, 178, 198)),
        ((240, 244, 250), (214, 224, 238)),
        "snow",
        ("fir", "rock"),
    ),
}
"""Places by name."""


@dataclass(frozen=True)
class Lens:
    """A level camera over flat ground: a pinhole ``rise`` meters up that moves sideways only.

    Attributes:
        width, height: pixels of the frame.
        focal: pixels.
        horizon: row of the horizon, pixels.
        rise: meters.
    """

    width: int
    height: int
    focal: float
    horizon: float
    rise: float = 1.45

    def pixels_per_meter(self, depth: float) -> float:
        """Pixels in one meter at a depth in meters."""
        return self.focal / depth

    def project(self, x: float, up: float, depth: float, camera: float) -> tuple[float, float]:
        """Pixel of a point ``x`` meters to the right, ``up`` over the ground, from a camera at ``camera`` meters."""
        unit = self.pixels_per_meter(depth)
        return self.width / 2 + (x - camera) * unit, self.horizon + (self.rise - up) * unit


class Scenery:
    """The background of one place, painted once; ``render_background`` shows it from a position of the camera."""

    def __init__(
        self,
        theme: Theme,
        lens: Lens,
        reach: float,
        random: np.random.Generator,
        ground: NDArray[np.uint8] | None = None,
    ) -> None:
        """
        Args:
            theme: colors.
            lens: the camera.
            reach: largest distance in meters that the camera moves to either side.
            random: the video's generator.
            ground: the ``ground`` of another view of the place, uint8 [512, 512, 3]; None paints it.
        """
        self.theme = theme
        self._lens = lens
        self._rows = min(lens.height, math.ceil(lens.horizon) + 1)
        self._sky = _paint_sky(theme, lens, self._rows)
        # a layer moves by as many pixels as an object at its depth
        self._layers = []
        for depth, paint in ((240.0, _paint_clouds), (70.0, _paint_hills), (32.0, _paint_hills)):
            margin = math.ceil(reach * lens.pixels_per_meter(depth)) + 4
            near = depth < 50
            layer_image = paint(theme, lens, self._rows, lens.width + 2 * margin, near, random)
            self._layers.append((depth, margin, layer_image))
        self.ground = _paint_ground(theme, random) if ground is None else ground
        rows = np.arange(math.floor(lens.horizon), lens.height, dtype=np.float32) + 0.5 - lens.horizon
        depth_of_row = lens.focal * lens.rise / np.maximum(rows, 0.25)
        meters = (np.arange(lens.width, dtype=np.float32) + 0.5 - lens.width / 2)[None] * (depth_of_row / lens.focal)[
            :, None
        ]
        scale = _TILE / _TILE_METERS
        self._map_x = (meters * scale).astype(np.float32)
        self._map_y = np.repeat((depth_of_row * scale)[:, None], lens.width, axis=1).astype(np.float32)
        haze = np.clip((depth_of_row - 5) / 28, 0, 1)[:, None, None].astype(np.float32)
        mean = self.ground.reshape(-1, 3).mean(axis=0)
        self._far = (0.55 * mean + 0.45 * np.asarray(theme.sky[1])) * haze
        self._near = 1 - haze
        lift = np.linspace(1.04, 0.9, len(rows), dtype=np.float32)[:, None, None]
        self._far, self._near = (self._far * lift).astype(np.float32), self._near * lift

    def render_background(self, camera: float, drift: float) -> NDArray[np.float32]:
        """The background without toys and props: RGB float32 [h, w, 3] in 0..255.

        Args:
            camera: sideways position of the camera, meters.
            drift: distance that the clouds have moved, meters.
        """
        lens = self._lens
        top = self._sky.copy()
        for depth, margin, layer_image in self._layers:
            shift = margin + (camera + (drift if depth > 200 else 0)) * lens.pixels_per_meter(depth)
            move = np.array([[1, 0, -shift], [0, 1, 0]], np.float64)
            layer = cv2.warpAffine(
                layer_image, move, (lens.width, self._rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            share = layer[..., 3:].astype(np.float32) / 255
            top += share * (layer[..., :3] - top)
        out = np.empty((lens.height, lens.width, 3), np.float32)
        out[: self._rows] = top
        along = np.float32(camera * _TILE / _TILE_METERS)
        wrapped_x, wrapped_y = np.mod(self._map_x + along, _TILE), np.mod(self._map_y, _TILE)
        ground = cv2.remap(self.ground, wrapped_x, wrapped_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        out[math.floor(lens.horizon) :] = ground * self._near + self._far
        return out


def _tiling_noise(cells: int, size: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise that tiles: float32 [size, size], about -2..2."""
    grid = np.pad(random.normal(0, 1, (cells, cells)).astype(np.float32), 2, mode="wrap")
    side = round(size * (cells + 4) / cells)
    start = round(size * 2 / cells)
    noise = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)
    return noise[start : start + size, start : start + size]


def _paint_ground(theme: Theme, random: np.random.Generator) -> NDArray[np.uint8]:
    """The ground from above, a texture that tiles: uint8 [_TILE, _TILE, 3]."""
    light, dark = (np.asarray(color, np.float32) for color in theme.ground)
    y, x = np.mgrid[0:_TILE, 0:_TILE].astype(np.float32) / _TILE
    rough = (
        _tiling_noise(6, _TILE, random)
        + 0.7 * _tiling_noise(20, _TILE, random)
        + 0.5 * _tiling_noise(64, _TILE, random)
    )
    if theme.pattern == "ripples":
        weight = 0.5 + 0.32 * np.sin(2 * np.pi * (12 * y + 0.35 * _tiling_noise(5, _TILE, random))) + 0.12 * rough
    elif theme.pattern == "slabs":
        weight = ((np.floor(x * 8) + np.floor(y * 8)) % 2) * 0.6 + 0.18 * rough
        weight += ((np.mod(x * 8, 1) < 0.05) | (np.mod(y * 8, 1) < 0.05)) * 0.7
    elif theme.pattern == "boards":
        tones = random.uniform(0, 0.9, 12).astype(np.float32)
        weight = (
            tones[np.floor(y * 12).astype(int)]
            + 0.12 * _tiling_noise(4, _TILE, random)
            + (np.mod(y * 12, 1) < 0.06) * 0.9
        )
        weight += 0.12 * np.sin(2 * np.pi * (30 * y + 0.4 * _tiling_noise(6, _TILE, random)))
    else:
        weight = 0.5 + 0.3 * rough
    share = np.clip(weight, -0.3, 1.4)[..., None]
    texture = np.clip(light * (1 - share) + dark * share, 0, 255).astype(np.uint8)
    if theme.pattern == "grass":
        tuft = tuple(int(v * 0.8) for v in theme.ground[1])
        bloom = [(250, 246, 236), (250, 220, 120), tuft, tuft]
        for px, py, kind in zip(
            *random.integers(4, _TILE - 4, (2, 130)).tolist(), random.integers(0, 4, 130).tolist(), strict=True
        ):
            cv2.circle(texture, (px, py), 3, bloom[kind], -1, cv2.LINE_AA)
    blurred: NDArray[np.uint8] = cv2.GaussianBlur(texture, (0, 0), 0.8, borderType=cv2.BORDER_REFLECT)
    return blurred


def _paint_sky(theme: Theme, lens: Lens, rows: int) -> NDArray[np.float32]:
    share = (np.linspace(0, 1, rows, dtype=np.float32) ** 0.8)[:, None, None]
    top, bottom = (np.asarray(color, np.float32) for color in theme.sky)
    return np.repeat(top * (1 - share) + bottom * share, lens.width, axis=1)


def _paint_clouds(
    theme: Theme, lens: Lens, rows: int, width: int, near: bool, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Clouds of soft discs, RGBA uint8 [rows, width, 4]."""
    layer = np.zeros((rows, width, 4), np.uint8)
    layer[..., :3] = np.asarray((252, 252, 254)) * 0.8 + np.asarray(theme.sky[1]) * 0.2
    cover = np.zeros((rows, width), np.uint8)
    for _ in range(5):
        cx, cy = random.uniform(0, width), random.uniform(0.1, 0.62) * rows
        size = random.uniform(0.05, 0.11) * rows
        heap = np.zeros_like(cover)  # in an image of its own, or its flat base would cut off the clouds below it
        for number in range(7):
            dx = (number - 3) * size * 0.75
            radius = size * random.uniform(0.5, 1.0) * (1 - abs(number - 3) * 0.13)
            cv2.circle(heap, (round(cx + dx), round(cy - radius * 0.45)), round(radius), 225, -1, cv2.LINE_AA)
        cv2.rectangle(heap, (round(cx - 4 * size), round(cy + size * 0.12)), (round(cx + 4 * size), rows), 0, -1)
        np.maximum(cover, heap, out=cover)
    layer[..., 3] = cv2.GaussianBlur(cover, (0, 0), max(0.8, rows * 0.008))
    return layer


def _paint_hills(
    theme: Theme, lens: Lens, rows: int, width: int, near: bool, random: np.random.Generator
) -> NDArray[np.uint8]:
    """A range of hills (roofs in built places), RGBA uint8 [rows, width, 4]."""
    layer = np.zeros((rows, width, 4), np.uint8)
    color = np.asarray(theme.hills[1 if near else 0], np.float32)
    down = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    layer[..., :3] = np.clip(color * (1.06 - 0.16 * down) + 0.12 * down * np.asarray(theme.sky[1], np.float32), 0, 255)
    base, tall = (0.2, 0.12) if near else (0.34, 0.2)
    x = np.arange(width, dtype=np.float32) / lens.width
    if theme.pattern in ("slabs", "boards"):
        edges = np.cumsum(random.uniform(0.05, 0.16, math.ceil(x[-1] / 0.05) + 2))
        ridge = random.uniform(-1, 1, len(edges))[np.searchsorted(edges, x)]
    else:
        waves, starts = random.uniform(0.6, 5, 5), random.random(5)
        ridge = 0.5 * (np.sin(2 * np.pi * (x[:, None] * waves + starts)) / waves**0.7).sum(axis=1)
    line = rows * (1 - base - tall * ridge)
    corners = np.column_stack((np.arange(width), line * 16))
    corners[:, 0] *= 16
    outline = np.vstack((corners, ((width - 1) * 16, rows * 16 + 64), (0, rows * 16 + 64)))
    cover = np.zeros((rows, width), np.uint8)
    cv2.fillPoly(cover, [np.rint(outline).astype(np.int32)], 255, cv2.LINE_AA, 4)
    if theme.pattern in ("slabs", "boards"):
        pane = max(2, round(rows * 0.022))
        warm = np.clip(color * 1.13, 0, 255).astype(int).tolist()
        for top in range(round(rows * 0.45), rows, pane * 4):
            for left in range(pane * 2, width - 2 * pane, pane * 4):
                if top > line[left] + 2 * pane and top > line[left + pane] + 2 * pane:
                    cv2.rectangle(layer, (left, top), (left + pane, top + 2 * pane), (*warm, 0), -1)
    layer[..., 3] = cover
    return layer
