"""Paths of the camera and of the toys: smooth tracks that cross, come closer, leave the frame and return."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmvm_data.synth.scenery import Lens
from mmvm_data.synth.toys import Toy

ROLES = ("return", "cross", "linger", "linger", "approach")
"""Behaviors of toys: leave and return, pass through, stay in view (twice as often), come closer."""
NEAREST, FARTHEST = 3.7, 8.6
"""Smallest and largest distance of toys from the camera, in meters."""


@dataclass(frozen=True)
class Track:
    """The path of one toy: arrays with a value for each frame.

    Attributes:
        x, up, depth: meters; to the right, over the ground, from the camera.
        facing: -1..1, never near 0.
        tilt, phase: radians.
    """

    x: NDArray[np.float64]
    up: NDArray[np.float64]
    depth: NDArray[np.float64]
    facing: NDArray[np.float64]
    tilt: NDArray[np.float64]
    phase: NDArray[np.float64]


def plan_camera_path(frames: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Sideways positions of the camera, meters [frames], within 2.2 of 0: a slow pan, sometimes a still camera."""
    time = _frame_times(frames)
    reach = float(random.choice([0.0, 0.6, 1.2, 1.8])) * float(random.choice([-1, 1]))
    shake = 0.015 * np.sin(2 * math.pi * (3.1 * time + random.random())) * bool(random.random() < 0.4)
    return reach * (_ease_in_out(time) * 2 - 1) + shake


def plan_track(
    role: str,
    toy: Toy,
    depth: float,
    center: float,
    lens: Lens,
    camera: NDArray[np.float64],
    random: np.random.Generator,
) -> Track:
    """A path for one toy.

    Args:
        role: one of ROLES.
        toy: its category; its width decides how far it must go to be out of the frame.
        depth: meters from the camera; the toy keeps near it unless it approaches.
        center: horizontal place around which it stays; -1 and 1 are the edges of the frame. Not used by toys that pass
            through.
        camera: positions of the camera, [frames].
    """
    frames = len(camera)
    time = _frame_times(frames)
    side = float(random.choice([-1, 1]))
    far = depth + 0.25 * np.sin(2 * math.pi * (time + random.random()))
    if role == "approach":
        start, end = min(depth + 2.2, FARTHEST + 1), NEAREST + float(random.uniform(0, 0.5))
        far = start + (end - start) * _ease_in_out(time)
    # horizontal places in the frame: -1 and 1 are its edges
    beyond = 1.12 + 2 * toy.half_width * toy.size * lens.pixels_per_meter(float(far.min())) / lens.width
    if role == "cross":
        across = side * beyond * (2 * np.clip(time * 1.08 - 0.02 + random.uniform(-0.05, 0.05), -0.1, 1.1) - 1)
    elif role == "return":
        side = 1.0 if center >= 0 else -1.0
        home = 0.6 * abs(center)
        away = np.sin(math.pi * np.clip((time - 0.12) / 0.72, 0, 1)) ** 0.8
        across = side * (home * (1 - away) + beyond * 1.08 * away - 0.35 * np.clip(time - 0.8, 0, 1))
    else:
        swing = float(random.uniform(0.12, 0.35))
        across = center + swing * np.sin(2 * math.pi * (time * random.uniform(0.5, 1.0) + random.random()))
    x = camera + across * lens.width / 2 / (lens.focal / far)
    step = np.gradient(x) if frames > 1 else np.zeros(1)
    up = 0 * time
    tilt = 0.02 * np.sin(2 * math.pi * (2 * time + random.random()))
    if toy.flies:
        low, high = toy.flies
        up = random.uniform(low, high) + 0.14 * np.sin(2 * math.pi * (time * 1.2 + random.random()))
        tilt = 0.12 * np.sin(2 * math.pi * (time * 1.4 + random.random()))
    return Track(x, up, far, _compute_facing(step, toy, side), tilt, _compute_phase(step, toy, random))


def _compute_facing(step: NDArray[np.float64], toy: Toy, side: float) -> NDArray[np.float64]:
    """Direction of travel, -1..1 [frames]. A toy that turns looks narrower, but never becomes a line."""
    if not toy.faces:
        return np.ones(len(step))
    direction = np.tanh(step / 0.05)
    sign = np.where(np.abs(direction) < 1e-6, side, np.sign(direction))
    facing: NDArray[np.float64] = sign * np.maximum(np.abs(direction), 0.45)
    return facing


def _compute_phase(step: NDArray[np.float64], toy: Toy, random: np.random.Generator) -> NDArray[np.float64]:
    """Radians [frames]. Wheels turn with the distance; legs step, at most a third of a cycle between frames."""
    start = random.uniform(0, 2 * math.pi)
    if toy.rolls:
        return start + np.cumsum(step) / (toy.rolls * toy.size)
    return start + np.cumsum(np.clip(np.abs(step) * 7, 0.15, 2.0))


def _frame_times(frames: int) -> NDArray[np.float64]:
    """Time of each frame, from 0 to 1 [frames]."""
    return np.linspace(0, 1, frames, dtype=np.float64) if frames > 1 else np.zeros(1)


def _ease_in_out(time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smoothstep: 0 to 1, slow at both ends."""
    return time * time * (3 - 2 * time)
