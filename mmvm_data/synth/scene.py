"""One video of the toy world: who is in it, and its frames with exact masks of what is visible."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from mmvm_data.synth.motion import FARTHEST, NEAREST, ROLES, Track, camera_path, track
from mmvm_data.synth.props import PROPS
from mmvm_data.synth.scenery import THEMES, Lens, Scenery
from mmvm_data.synth.sprite import Pose, Sprite, sprite
from mmvm_data.synth.style import Look, look_alikes
from mmvm_data.synth.toys import TOYS, Toy


@dataclass(frozen=True)
class Actor:
    """A toy or a prop in one video.

    Attributes:
        label: 1, 2, … for toys; 0 for props, which are not annotated.
        category: key of TOYS or PROPS.
        toy, look, track: what it is, how it looks, where it goes.
    """

    label: int
    category: str
    toy: Toy
    look: Look
    track: Track


@dataclass(frozen=True)
class Scene:
    """A video before it is painted.

    Attributes:
        lens: the camera, whose size is the picture's.
        camera: its places, metres [frames].
        actors: toys in the order of their labels, then props.
        scenery: what is behind.
        light: gains of red, green and blue, float [frames, 3].
        blur: sigma in pixels, float [frames]; below 0.3 is sharp.
    """

    lens: Lens
    camera: np.ndarray
    actors: tuple[Actor, ...]
    scenery: Scenery
    light: np.ndarray
    blur: np.ndarray

    @property
    def toys(self) -> tuple[Actor, ...]:
        """The annotated actors."""
        return tuple(actor for actor in self.actors if actor.label)

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each frame as RGB uint8 [h, w, 3] and the labels of what is visible, uint8 [h, w], 0 for the rest."""
        for number in range(len(self.camera)):
            yield self.frame(number)

    def frame(self, number: int, hide: frozenset[int] = frozenset()) -> tuple[np.ndarray, np.ndarray]:
        """One frame; ``hide`` leaves out toys by label, as if they were not there.

        A pixel belongs to the nearest actor that covers at least half of it.
        """
        camera = float(self.camera[number])
        image = self.scenery.view(camera, drift=number * 0.35)
        labels = np.zeros(image.shape[:2], np.uint8)
        order = sorted(
            (actor for actor in self.actors if not (actor.label and actor.label in hide)),
            key=lambda actor: (-float(actor.track.depth[number]), actor.label),
        )
        for actor in order:
            self._shadow(image, actor, number)
        for actor in order:
            pose = self._pose(actor, number)
            reach = (actor.toy.half_width + actor.toy.height) * pose.unit
            if -reach < pose.x < self.lens.width + reach:
                _put(image, labels, sprite(actor.toy, actor.look, pose), actor.label)
        return self._developed(image, number), labels

    def _pose(self, actor: Actor, number: int) -> Pose:
        way = actor.track
        depth = float(way.depth[number])
        x, y = self.lens.place(float(way.x[number]), float(way.up[number]), depth, float(self.camera[number]))
        unit = self.lens.unit(depth) * actor.toy.size
        return Pose(x, y, unit, float(way.facing[number]), float(way.tilt[number]), float(way.phase[number]))

    def _shadow(self, image: np.ndarray, actor: Actor, number: int) -> None:
        """Darken the ground under an actor: an ellipse, softer and paler the higher it flies."""
        way = actor.track
        depth, up = float(way.depth[number]), float(way.up[number])
        x, y = self.lens.place(float(way.x[number]), 0.0, depth, float(self.camera[number]))
        unit = self.lens.unit(depth) * actor.toy.size
        rx = unit * min(actor.toy.half_width * 0.85, 0.8) * max(abs(float(way.facing[number])), 0.6)
        ry = unit * 0.13
        x0, x1 = max(0, math.floor(x - 1.5 * rx)), min(self.lens.width, math.ceil(x + 1.5 * rx))
        y0, y1 = max(0, math.floor(y - 1.5 * ry)), min(self.lens.height, math.ceil(y + 1.5 * ry))
        if x0 >= x1 or y0 >= y1:
            return
        across = ((np.arange(x0, x1, dtype=np.float32) + 0.5 - x) / rx) ** 2
        down = ((np.arange(y0, y1, dtype=np.float32) + 0.5 - y) / ry) ** 2
        dark = np.clip(1.25 - np.sqrt(across[None] + down[:, None]), 0, 0.75) * (0.62 / (1 + up))
        image[y0:y1, x0:x1] *= (1 - dark)[..., None]

    def _developed(self, image: np.ndarray, number: int) -> np.ndarray:
        lit = image * self.light[number].astype(np.float32)
        sigma = float(self.blur[number])
        if sigma >= 0.3:
            lit = cv2.GaussianBlur(lit, (0, 0), sigma)
        return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def cast(frames: int, width: int, height: int, objects: tuple[int, int], random: np.random.Generator) -> Scene:
    """Draw up a video.

    Args:
        frames: how many.
        width, height: pixels.
        objects: fewest and most toys; each category has two to four.
        random: the video's own generator; nothing else decides.
    """
    lens = Lens(
        width, height, focal=1.28 * min(height, width * 0.75), horizon=height * float(random.uniform(0.36, 0.44))
    )
    theme = THEMES[str(random.choice(sorted(THEMES)))]
    camera = camera_path(frames, random)
    groups = _groups(int(random.integers(objects[0], objects[1] + 1)), random)
    categories = random.permutation(sorted(TOYS))[: len(groups)].tolist()
    kinds = [category for category, size in zip(categories, groups, strict=True) for _ in range(size)]
    looks = [look for size in groups for look in look_alikes(size, random)]
    depths = np.linspace(NEAREST, FARTHEST - 1.4, len(kinds)) + random.uniform(-0.2, 0.2, len(kinds))
    depths = random.permutation(depths)
    roles = np.resize(np.array(ROLES), len(kinds))
    roles = random.permutation(roles)
    centers = random.permutation(np.linspace(-0.72, 0.72, len(kinds)) + random.uniform(-0.12, 0.12, len(kinds)))
    actors = []
    for number, kind in enumerate(kinds):
        toy = TOYS[kind]
        way = track(str(roles[number]), toy, float(depths[number]), float(centers[number]), lens, camera, random)
        actors.append(Actor(number + 1, kind, toy, looks[number], way))
    plain = look_alikes(1, random)[0]
    for _ in range(int(random.integers(2, 6))):
        kind = str(random.choice(theme.props))
        depth = float(random.choice([random.uniform(4.0, 6.0), random.uniform(7.5, 14.0)]))
        x = float(random.uniform(-1, 1)) * (lens.width / 2 / lens.unit(depth) + 1.0)
        still = np.zeros(frames)
        way = Track(still + x, still, still + depth, still + 1, still, still)
        actors.append(Actor(0, kind, PROPS[kind], plain, way))
    scenery = Scenery(theme, lens, float(np.abs(camera).max()) + frames * 0.35, random)
    return Scene(lens, camera, tuple(actors), scenery, _light(frames, random), _blur(frames, height, random))


def _groups(total: int, random: np.random.Generator) -> list[int]:
    """Sizes of the categories: two to four each, as many as ``total`` together."""
    sizes = []
    while total:
        fitting = [size for size in (2, 3, 4) if total - size == 0 or total - size >= 2]
        size = int(random.choice(fitting))
        sizes.append(size)
        total -= size
    return sizes


def _light(frames: int, random: np.random.Generator) -> np.ndarray:
    """Gains that change slowly: steady, a cloud that passes, an evening that falls, a morning that breaks."""
    time = np.linspace(0, 1, frames)[:, None] if frames > 1 else np.zeros((1, 1))
    kind = str(random.choice(["cloud", "evening", "morning", "steady"]))
    if kind == "cloud":
        middle = random.uniform(0.3, 0.7)
        dip = np.exp(-(((time - middle) / 0.18) ** 2))
        return 1 - dip * np.array([0.4, 0.36, 0.3])
    if kind == "steady":
        return np.ones((frames, 3))
    warm = np.array([0.94, 0.8, 0.7])
    share = time if kind == "evening" else 1 - time
    return 1 - share * (1 - warm * random.uniform(0.8, 1.0))


def _blur(frames: int, height: int, random: np.random.Generator) -> np.ndarray:
    """In one video of four the lens loses focus for a while."""
    if random.random() > 0.25:
        return np.zeros(frames)
    time = np.linspace(0, 1, frames)
    peak = random.uniform(0.2, 0.8)
    return height / 480 * random.uniform(0.8, 1.6) * np.exp(-(((time - peak) / 0.15) ** 2))


def _put(image: np.ndarray, labels: np.ndarray, part: Sprite, label: int) -> None:
    """Lay a sprite over the picture and its label over the labels, where it is inside."""
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
