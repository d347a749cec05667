"""One video of the toy world: its actors, and its frames with exact masks of the visible pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.synth.motion import FARTHEST, NEAREST, ROLES, Track, plan_camera_path, plan_track
from mmvm_data.synth.props import PROPS
from mmvm_data.synth.scenery import THEMES, Lens, Scenery, Theme
from mmvm_data.synth.sprite import Pose, Sprite, paint_sprite
from mmvm_data.synth.style import Style, draw_patterned_styles, draw_similar_styles
from mmvm_data.synth.toys import TOYS, Toy

LookAlikes = Literal["colors", "patterns"]
"""``colors``: two to four toys of each category, which differ a little in hue, coat, proportions and number plates.
``patterns``: all toys of a video are of one category and have the same proportions; their coats have other patterns in
other colors, with the same mean color, and there may be number plates."""
_BARE = {"bicycle"}  # less than a tenth of it is coat; of all others, 43 % or more
_LOG_ZOOM = (-0.2, 0.25)  # after a cut, natural logarithm of the focal length over the usual one
_EXPOSURE, _WHITE_BALANCE = (-0.35, 0.1), 0.15  # after a cut, stops: of all channels, of each


@dataclass(frozen=True)
class Actor:
    """A toy or a prop in one video.

    Attributes:
        label: 1, 2, … for toys; 0 for props, which are not annotated.
        category: key of TOYS or PROPS.
        toy, style, track: its shape, its appearance, its path.
    """

    label: int
    category: str
    toy: Toy
    style: Style
    track: Track


@dataclass(frozen=True)
class Scene:
    """A video before it is rendered.

    Attributes:
        lens: the camera, whose size is that of the frames.
        camera: sideways positions of the camera, meters [frames].
        actors: toys in the order of their labels, then props.
        scenery: the background.
        light: gains of red, green and blue, float [frames, 3].
        blur: sigma in pixels, float [frames]; below 0.3 is sharp.
    """

    lens: Lens
    camera: NDArray[np.float64]
    actors: tuple[Actor, ...]
    scenery: Scenery
    light: NDArray[np.float64]
    blur: NDArray[np.float64]

    @property
    def toys(self) -> tuple[Actor, ...]:
        """The annotated actors."""
        return tuple(actor for actor in self.actors if actor.label)

    def render_frames(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Render each frame: RGB uint8 [h, w, 3], and the label of the toy at each pixel or 0, uint8 [h, w]."""
        for number in range(len(self.camera)):
            yield self.render_frame(number)

    def render_frame(
        self, number: int, hide: frozenset[int] = frozenset()
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Render one frame; ``hide`` leaves out toys by label, as if they did not exist.

        A pixel belongs to the nearest actor that covers at least half of it.
        """
        camera = float(self.camera[number])
        image = self.scenery.render_background(camera, drift=number * 0.35)
        labels = np.zeros(image.shape[:2], np.uint8)
        order = sorted(
            (actor for actor in self.actors if not (actor.label and actor.label in hide)),
            key=lambda actor: (-float(actor.track.depth[number]), actor.label),
        )
        for actor in order:
            self._draw_shadow(image, actor, number)
        for actor in order:
            pose = self._compute_pose(actor, number)
            reach = (actor.toy.half_width + actor.toy.height) * pose.unit
            if -reach < pose.x < self.lens.width + reach:
                _paste_sprite(image, labels, paint_sprite(actor.toy, actor.style, pose), actor.label)
        return self._expose(image, number), labels

    def _compute_pose(self, actor: Actor, number: int) -> Pose:
        track = actor.track
        depth = float(track.depth[number])
        x, y = self.lens.project(float(track.x[number]), float(track.up[number]), depth, float(self.camera[number]))
        unit = self.lens.pixels_per_meter(depth) * actor.toy.size
        return Pose(x, y, unit, float(track.facing[number]), float(track.tilt[number]), float(track.phase[number]))

    def _draw_shadow(self, image: NDArray[np.float32], actor: Actor, number: int) -> None:
        """Darken the ground under an actor: an ellipse, paler the higher it flies."""
        track = actor.track
        depth, up = float(track.depth[number]), float(track.up[number])
        x, y = self.lens.project(float(track.x[number]), 0.0, depth, float(self.camera[number]))
        unit = self.lens.pixels_per_meter(depth) * actor.toy.size
        rx = unit * min(actor.toy.half_width * 0.85, 0.8) * max(abs(float(track.facing[number])), 0.6)
        ry = unit * 0.13
        x0, x1 = max(0, math.floor(x - 1.5 * rx)), min(self.lens.width, math.ceil(x + 1.5 * rx))
        y0, y1 = max(0, math.floor(y - 1.5 * ry)), min(self.lens.height, math.ceil(y + 1.5 * ry))
        if x0 >= x1 or y0 >= y1:
            return
        across = ((np.arange(x0, x1, dtype=np.float32) + 0.5 - x) / rx) ** 2
        down = ((np.arange(y0, y1, dtype=np.float32) + 0.5 - y) / ry) ** 2
        dark = np.clip(1.25 - np.sqrt(across[None] + down[:, None]), 0, 0.75) * (0.62 / (1 + up))
        image[y0:y1, x0:x1] *= (1 - dark)[..., None]

    def _expose(self, image: NDArray[np.float32], number: int) -> NDArray[np.uint8]:
        """Apply the light and the blur of a frame, and round."""
        lit = image * self.light[number].astype(np.float32)
        sigma = float(self.blur[number])
        if sigma >= 0.3:
            lit = cv2.GaussianBlur(lit, (0, 0), sigma)
        exposed: NDArray[np.uint8] = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
        return exposed


def plan_scene(
    frames: int,
    width: int,
    height: int,
    objects: tuple[int, int],
    random: np.random.Generator,
    look_alikes: LookAlikes = "colors",
) -> Scene:
    """Draw the actors, the tracks and the scenery of a video.

    Args:
        frames: number of frames.
        width, height: pixels.
        objects: smallest and largest number of toys.
        random: generator of this video; with the other arguments, it determines the scene.
        look_alikes: how toys resemble each other, see LookAlikes.
    """
    lens = Lens(
        width, height, focal=1.28 * min(height, width * 0.75), horizon=height * float(random.uniform(0.36, 0.44))
    )
    theme = THEMES[str(random.choice(sorted(THEMES)))]
    camera = plan_camera_path(frames, random)
    total = int(random.integers(objects[0], objects[1] + 1))
    groups = _draw_group_sizes(total, random) if look_alikes == "colors" else [total]
    kinds = sorted(TOYS) if look_alikes == "colors" else sorted(TOYS.keys() - _BARE)
    categories = random.permutation(kinds)[: len(groups)].tolist()
    toy_categories = [category for category, size in zip(categories, groups, strict=True) for _ in range(size)]
    draw_styles = draw_similar_styles if look_alikes == "colors" else draw_patterned_styles
    styles = [style for size in groups for style in draw_styles(size, random)]
    return _place_toys(lens, theme, camera, toy_categories, styles, random)


def plan_next_shot(first: Scene, random: np.random.Generator) -> Scene:
    """The scene after a cut: the same toys in the same place, seen from elsewhere.

    Their places, distances, order and tracks, the camera's height of view and focal length, the background and the
    white balance are drawn again; none of them depends on what they were before.

    Args:
        first: the shot before, or any other shot of the video.
        random: generator of this shot.
    """
    lens = first.lens
    focal = 1.28 * min(lens.height, lens.width * 0.75) * math.exp(random.uniform(*_LOG_ZOOM))
    # the nearest toys stand inside the frame
    lowest = 0.97 * lens.height - lens.rise * focal / NEAREST
    lens = Lens(lens.width, lens.height, focal, min(lens.height * float(random.uniform(0.3, 0.44)), lowest))
    camera = plan_camera_path(len(first.camera), random)
    categories, styles = [toy.category for toy in first.toys], [toy.style for toy in first.toys]
    scene = _place_toys(lens, first.scenery.theme, camera, categories, styles, random, first.scenery.ground)
    gains = 2.0 ** (random.uniform(*_EXPOSURE) + random.uniform(-_WHITE_BALANCE, _WHITE_BALANCE, 3))
    return replace(scene, light=scene.light * gains)


def _place_toys(
    lens: Lens,
    theme: Theme,
    camera: NDArray[np.float64],
    toy_categories: Sequence[str],
    styles: Sequence[Style],
    random: np.random.Generator,
    ground: NDArray[np.uint8] | None = None,
) -> Scene:
    """A scene of toys with these categories and styles, on this ground; everything else is drawn."""
    frames, height = len(camera), lens.height
    depths = np.linspace(NEAREST, FARTHEST - 1.4, len(toy_categories)) + random.uniform(-0.2, 0.2, len(toy_categories))
    depths = random.permutation(depths)
    roles = np.resize(np.array(ROLES), len(toy_categories))
    roles = random.permutation(roles)
    centers = random.permutation(
        np.linspace(-0.72, 0.72, len(toy_categories)) + random.uniform(-0.12, 0.12, len(toy_categories))
    )
    actors = []
    for number, category in enumerate(toy_categories):
        toy = TOYS[category]
        track = plan_track(str(roles[number]), toy, float(depths[number]), float(centers[number]), lens, camera, random)
        actors.append(Actor(number + 1, category, toy, styles[number], track))
    prop_style = draw_similar_styles(1, random)[0]
    for _ in range(int(random.integers(2, 6))):
        category = str(random.choice(theme.props))
        depth = float(random.choice([random.uniform(4.0, 6.0), random.uniform(7.5, 14.0)]))
        x = float(random.uniform(-1, 1)) * (lens.width / 2 / lens.pixels_per_meter(depth) + 1.0)
        still = np.zeros(frames)
        track = Track(still + x, still, still + depth, still + 1, still, still)
        actors.append(Actor(0, category, PROPS[category], prop_style, track))
    scenery = Scenery(theme, lens, float(np.abs(camera).max()) + frames * 0.35, random, ground)
    return Scene(lens, camera, tuple(actors), scenery, _plan_light(frames, random), _plan_blur(frames, height, random))


def _draw_group_sizes(total: int, random: np.random.Generator) -> list[int]:
    """Sizes of the categories: two to four each, as many as ``total`` together."""
    sizes = []
    while total:
        fitting = [size for size in (2, 3, 4) if total - size == 0 or total - size >= 2]
        size = int(random.choice(fitting))
        sizes.append(size)
        total -= size
    return sizes


def _plan_light(frames: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Gains of red, green and blue [frames, 3]: steady, or changing slowly under a passing cloud, at dusk, at dawn."""
    time = np.linspace(0, 1, frames)[:, None] if frames > 1 else np.zeros((1, 1))
    kind = str(random.choice(["cloud", "evening", "morning", "steady"]))
    if kind == "cloud":
        middle = random.uniform(0.3, 0.7)
        dip = np.exp(-(((time - middle) / 0.18) ** 2))
        dimmed: NDArray[np.float64] = 1 - dip * np.array([0.4, 0.36, 0.3])
        return dimmed
    if kind == "steady":
        return np.ones((frames, 3))
    warm = np.array([0.94, 0.8, 0.7])
    share = time if kind == "evening" else 1 - time
    return 1 - share * (1 - warm * random.uniform(0.8, 1.0))


def _plan_blur(frames: int, height: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Sigma of the blur in pixels [frames]; one video of four goes out of focus for a while."""
    if random.random() > 0.25:
        return np.zeros(frames)
    time = np.linspace(0, 1, frames)
    peak = random.uniform(0.2, 0.8)
    sigma: NDArray[np.float64] = height / 480 * random.uniform(0.8, 1.6) * np.exp(-(((time - peak) / 0.15) ** 2))
    return sigma


def _paste_sprite(image: NDArray[np.float32], labels: NDArray[np.uint8], part: Sprite, label: int) -> None:
    """Blend a sprite into the image, and write its label where it covers half a pixel or more."""
    height, width = labels.shape
    x0, y0 = max(part.x, 0), max(part.y, 0)
    x1, y1 = min(part.x + part.cover.shape[1], width), min(part.y + part.cover.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return
    rows, columns = slice(y0 - part.y, y1 - part.y), slice(x0 - part.x, x1 - part.x)
    cover = part.cover[rows, columns]
    view = image[y0:y1, x0:x1]
    view *= 1 - cover[..., None]
    view += part.rgb[rows, columns]
    labels[y0:y1, x0:x1][cover >= 0.5] = label
