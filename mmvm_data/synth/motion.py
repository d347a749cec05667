"""Where the camera and the toys go: smooth paths that cross, come closer, leave the picture and return."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmvm_data.synth.scenery import Lens
from mmvm_data.synth.toys import Toy

ROLES = ("return", "cross", "linger", "linger", "approach")
"""What toys do, in turn: leave and come back, pass through, stay in view, come closer."""
NEAREST, FARTHEST = 3.7, 8.6
"""Metres from the camera between which toys stand."""


@dataclass(frozen=True)
class Track:
    """One toy's way, an array value for each frame.

    Attributes:
        x, up, depth: metres; to the right, over the ground, from the camera.
        facing: -1..1, never near 0.
        tilt, phase: radians.
    """

    x: np.ndarray
    up: np.ndarray
    depth: np.ndarray
    facing: np.ndarray
    tilt: np.ndarray
    phase: np.ndarray


def camera_path(frames: int, random: np.random.Generator) -> np.ndarray:
    """Sideways places of the camera, metres [frames], within 2.2 of 0: a slow pan, now and then a still camera."""
    time = _time(frames)
    reach = float(random.choice([0.0, 0.6, 1.2, 1.8])) * float(random.choice([-1, 1]))
    shake = 0.015 * np.sin(2 * math.pi * (3.1 * time + random.random())) * bool(random.random() < 0.4)
    return reach * (_ease(time) * 2 - 1) + shake


def track(
    role: str, toy: Toy, depth: float, center: float, lens: Lens, camera: np.ndarray, random: np.random.Generator
) -> Track:
    """A path for one toy.

    Args:
        role: one of ROLES.
        toy: its category; how wide it is decides how far it must go to be out of the picture.
        depth: metres from the camera; the toy keeps near it unless it approaches.
        center: where across the picture it is at home; -1 and 1 are the edges. Toys that pass through have no home.
        camera: places of the camera, [frames].
    """
    frames = len(camera)
    time = _time(frames)
    side = float(random.choice([-1, 1]))
    far = depth + 0.25 * np.sin(2 * math.pi * (time + random.random()))
    if role == "approach":
        start, end = min(depth + 2.2, FARTHEST + 1), NEAREST + float(random.uniform(0, 0.5))
        far = start + (end - start) * _ease(time)
    # places across the picture: -1 and 1 are its edges
    beyond = 1.12 + 2 * toy.half_width * toy.size * lens.unit(float(far.min())) / lens.width
    if role == "cross":
        across = side * beyond * (2 * np.clip(time * 1.08 - 0.02 + random.uniform(-0.05, 0.05), -0.1, 1.1) - 1)
    elif role == "return":
        side = 1.0 if center >= 0 else -1.0
        home = 0.6 * abs(center)
        gone = np.sin(math.pi * np.clip((time - 0.12) / 0.72, 0, 1)) ** 0.8
        across = side * (home * (1 - gone) + beyond * 1.08 * gone - 0.35 * np.clip(time - 0.8, 0, 1))
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
    return Track(x, up, far, _facing(step, toy, side), tilt, _phase(step, toy, random))


def _facing(step: np.ndarray, toy: Toy, side: float) -> np.ndarray:
    """The way it goes; while it turns it looks narrower, but never a line."""
    if not toy.faces:
        return np.ones(len(step))
    soft = np.tanh(step / 0.05)
    sign = np.where(np.abs(soft) < 1e-6, side, np.sign(soft))
    return sign * np.maximum(np.abs(soft), 0.45)


def _phase(step: np.ndarray, toy: Toy, random: np.random.Generator) -> np.ndarray:
    """Wheels turn with the way gone; legs step, at most a third of a cycle from frame to frame."""
    start = random.uniform(0, 2 * math.pi)
    if toy.rolls:
        return start + np.cumsum(step) / (toy.rolls * toy.size)
    return start + np.cumsum(np.clip(np.abs(step) * 7, 0.15, 2.0))


def _time(frames: int) -> np.ndarray:
    return np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)


def _ease(time: np.ndarray) -> np.ndarray:
    """0 to 1, slow at both ends."""
    return time * time * (3 - 2 * time)
