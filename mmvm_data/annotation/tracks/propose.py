"""What people marked in the first frame of a shot, followed to its other frames by a model, as a prediction that they
then correct. Annotations are read, never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.history import when
from mmvm_data.annotation.labelstudio.shapes import Editor, Result, drawn
from mmvm_data.annotation.labelstudio.tasks import Problem
from mmvm_data.annotation.tracks.drawn import CLICK, shapes_of
from mmvm_data.annotation.tracks.layout import Shot, shots_of
from mmvm_data.annotation.tracks.project import KEY, place_of, same_shot, shown_tracks
from mmvm_data.annotation.tracks.sam2 import Prompt
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region, Rle
from mmvm_data.io import media


class Follower(Protocol):
    """A model that follows objects, as ``sam2.Sam2`` does."""

    def propagate(self, frames: list[np.ndarray], prompts: dict[str, Prompt]) -> list[dict[str, Rle]]: ...


@dataclass
class Proposed:
    """What was proposed.

    Attributes:
        shots: those that got a prediction now.
        same: shots whose marks and model have not changed since the last time.
        further: shots that people have drawn on beyond the first picture; they are left alone.
        unmarked: shots in whose first picture nothing is marked yet.
        problems: task, and why it was left out.
    """

    shots: list[str] = field(default_factory=list)
    same: int = 0
    further: int = 0
    unmarked: int = 0
    problems: list[Problem] = field(default_factory=list)


def propose(
    directory: Path,
    client: Client,
    project: Project,
    follower: Follower,
    model: str,
    editor: Editor = "polygon",
    progress: Callable[[int], None] | None = None,
) -> Proposed:
    """Give each shot of which only the first picture is marked a prediction for all of its pictures.

    Marks are those of the latest annotation, submitted or begun: a box, one or more clicks, or a mask an object.

    Args:
        directory: what ``cut`` wrote.
        client, project: the server.
        follower: the model.
        model: its name; with the marks it tells whether a prediction is there already.
        editor: how masks are shown.
        progress: called with the number of tasks seen.

    Raises:
        InputError: nothing was cut here, or a record is broken.
        UsageError: the server cannot be used.
    """
    shots, result = dict(shots_of(directory)), Proposed()
    for seen, task in enumerate(client.tasks(project.id, "id,data"), start=1):
        name = str((task.get("data") or {}).get(KEY, ""))
        shot = shots.get(name)
        try:
            if shot is None or not same_shot(task["data"], shot):
                raise ValueError("is of no shot of this folder, or of one that was cut anew; push again")
            _one(directory, client, task["id"], name, shot, follower, model, editor, result)
        except (ValueError, InputError) as error:
            result.problems.append((f"task {task['id']} ({name})", str(error)))
        if progress:
            progress(seen)
    return result


def _one(
    directory: Path,
    client: Client,
    number: int,
    name: str,
    shot: Shot,
    follower: Follower,
    model: str,
    editor: Editor,
    result: Proposed,
) -> None:
    task = client.get(f"/api/tasks/{number}")
    said = [a for a in task["annotations"] if not a.get("was_cancelled")] + task["drafts"]
    if not said:
        result.unmarked += 1
        return
    marks = _marks(max(said, key=when).get("result") or [], shot)
    if marks is None:
        result.further += 1
        return
    if not marks:
        result.unmarked += 1
        return
    text = json.dumps([shot.model_dump(mode="json"), [[label, repr(mark)] for label, mark in marks.items()], editor])
    version = f"{model[:60]} {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    old = [p for p in task["predictions"] if str(p.get("model_version")).startswith(f"{model[:60]} ")]
    if any(p["model_version"] == version for p in old):
        result.same += 1
        return
    frames = [media.read_frame_bgr(directory, frame) for frame in shot.frames]
    found = follower.propagate(frames, marks)
    tracks = {
        position: [Region(id=label, mask=rle) for label, rle in rles.items()] for position, rles in enumerate(found)
    }
    results = shown_tracks(shot, tracks, editor)
    client.send("POST", "/api/predictions", {"task": number, "model_version": version, "result": results})
    for prediction in old:
        client.send("DELETE", f"/api/predictions/{prediction['id']}")
    result.shots.append(name)


def _marks(results: list[Any], shot: Shot) -> dict[str, Prompt] | None:
    """The marks of the first picture by the number of the object; None when other pictures are drawn on."""
    shapes = shapes_of(results, shot, ("brush", "polygon", "rectangle", CLICK))
    if any(position for position, _ in shapes):
        return None
    found = {}
    for (_, label), pieces in shapes.items():
        clicks = [piece for piece in pieces if piece["type"] == CLICK]
        solid = [piece for piece in pieces if piece["type"] != CLICK]
        region = drawn(label, place_of(shot, 0, label), solid) if solid else None
        if region is not None and region.mask is not None:
            found[label] = Prompt(mask=region.mask)
        elif region is not None or clicks:
            found[label] = Prompt(box=region.box if region else None, clicks=_points(clicks, shot))
    return found


def _points(clicks: list[Result], shot: Shot) -> tuple[tuple[float, float], ...]:
    frame = shot.frames[0]
    try:
        return tuple(
            (float(c["value"]["x"]) * frame.width / 100, float(c["value"]["y"]) * frame.height / 100) for c in clicks
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("a click has no x and y") from error
