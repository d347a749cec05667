"""What people marked in the first frame of a shot, followed through its other frames by a model, as a prediction that
they then correct. Annotations are read, never changed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmvm_data.annotation.labelstudio.client import Client, OutcomeUnknown, Project
from mmvm_data.annotation.labelstudio.history import timestamp
from mmvm_data.annotation.labelstudio.project import SETTLE_SECONDS
from mmvm_data.annotation.labelstudio.shapes import Editor, Result, results_to_region
from mmvm_data.annotation.labelstudio.sync import Problem
from mmvm_data.annotation.tracks.interpret import CLICK_TYPE, group_shapes
from mmvm_data.annotation.tracks.layout import Shot, iter_shots
from mmvm_data.annotation.tracks.sam2 import Prompt
from mmvm_data.annotation.tracks.task import NAME_KEY, is_same_shot, object_slot, tracks_to_results
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import options
from mmvm_data.core.types import Region, Rle
from mmvm_data.io import media


class Propagator(Protocol):
    """A model that follows objects, as ``sam2.Sam2`` does."""

    def propagate(self, frames: list[NDArray[np.uint8]], prompts: dict[str, Prompt]) -> list[dict[str, Rle]]:
        """Masks of the objects in each frame; see ``Sam2.propagate``."""
        ...


@options
class ProposalOptions:
    """How tracks are proposed.

    Attributes:
        model: name of the model; with a hash of the marks it is the model version of the predictions.
        editor: how masks are shown, "polygon" or "brush".
    """

    model: Annotated[str, Field(min_length=1)]
    editor: Editor = "polygon"


@dataclass
class ProposalResult:
    """What was proposed.

    Attributes:
        proposed: shots that have a new prediction.
        unchanged: shots whose marks and model have not changed since the last time.
        drawn_further: shots that people have drawn on beyond the first picture; they are left alone.
        unmarked: shots in whose first picture nothing is marked yet.
        problems: task, and why it was left out.
    """

    proposed: list[str] = field(default_factory=list)
    unchanged: int = 0
    drawn_further: int = 0
    unmarked: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Proposer:
    """Proposes tracks for the shots of one project; see ``propose_tracks``."""

    directory: Path
    client: Client
    propagator: Propagator
    options: ProposalOptions

    @property
    def model_name(self) -> str:
        """Start of the model version of its predictions."""
        return self.options.model[:60]

    def propose_shot(self, number: int, name: str, shot: Shot, result: ProposalResult) -> None:
        """Give one task a prediction, and count it in ``result``."""
        task = self.client.get_task(number)
        works = [a for a in task["annotations"] if not a.get("was_cancelled")] + task["drafts"]
        prompts = _read_prompts(max(works, key=timestamp).get("result") or [], shot) if works else {}
        if prompts is None:
            result.drawn_further += 1
            return
        if not prompts:
            result.unmarked += 1
            return
        version = self._model_version(shot, prompts)
        earlier = [p for p in task["predictions"] if str(p.get("model_version")).startswith(f"{self.model_name} ")]
        if any(p["model_version"] == version for p in earlier):
            result.unchanged += 1
            return
        frames = [media.read_frame_bgr(self.directory, frame) for frame in shot.frames]
        tracks = {
            position: [Region(id=label, mask=rle) for label, rle in rles.items()]
            for position, rles in enumerate(self.propagator.propagate(frames, prompts))
        }
        self._create_prediction(number, version, tracks_to_results(shot, tracks, self.options.editor))
        for prediction in earlier:
            self.client.delete_prediction(prediction["id"])
        result.proposed.append(name)

    def _model_version(self, shot: Shot, prompts: dict[str, Prompt]) -> str:
        """Name of the model, and a hash of everything that its prediction depends on."""
        marks = [[label, repr(prompt)] for label, prompt in prompts.items()]
        facts = [shot.model_dump(mode="json"), marks, self.options.editor]
        return f"{self.model_name} {hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"

    def _create_prediction(self, number: int, version: str, results: list[Result]) -> None:
        try:
            self.client.create_prediction(number, version, results)
        except OutcomeUnknown:
            time.sleep(SETTLE_SECONDS)
            if all(p["model_version"] != version for p in self.client.get_task(number)["predictions"]):
                self.client.create_prediction(number, version, results)


def propose_tracks(
    directory: Path,
    client: Client,
    project: Project,
    propagator: Propagator,
    options: ProposalOptions,
    progress: Callable[[int], None] | None = None,
) -> ProposalResult:
    """Give each shot of which only the first picture is marked a prediction for all of its pictures.

    Marks are those of the latest annotation, submitted or begun: a box, one or more clicks, or a mask for each object.

    Args:
        directory: what ``cut_clips`` wrote.
        client, project: the server.
        propagator: the model.
        options: name of the model, and how masks are shown.
        progress: called with the number of tasks read.

    Raises:
        InputError: no clip was cut into this folder, or a record is broken.
        UsageError: the server cannot be used.
    """
    shots, result = dict(iter_shots(directory)), ProposalResult()
    proposer = _Proposer(directory, client, propagator, options)
    for done, task in enumerate(client.iter_tasks(project.id, "id,data"), start=1):
        name = str((task.get("data") or {}).get(NAME_KEY, ""))
        shot = shots.get(name)
        try:
            if shot is None or not is_same_shot(task["data"], shot):
                raise ValueError("is of no shot of this folder, or of one that was cut again; push again")
            proposer.propose_shot(task["id"], name, shot, result)
        except (ValueError, InputError) as error:
            result.problems.append((f"task {task['id']} ({name})", str(error)))
        if progress:
            progress(done)
    return result


def _read_prompts(results: list[Any], shot: Shot) -> dict[str, Prompt] | None:
    """The marks of the first picture by the number of the object; None when other pictures are drawn on."""
    shapes = group_shapes(results, shot, ("brush", "polygon", "rectangle", CLICK_TYPE))
    if any(position for position, _ in shapes):
        return None
    prompts = {}
    for (_, label), pieces in shapes.items():
        clicks = [piece for piece in pieces if piece["type"] == CLICK_TYPE]
        areas = [piece for piece in pieces if piece["type"] != CLICK_TYPE]
        region = results_to_region(label, object_slot(shot, 0, label), areas) if areas else None
        if region is not None and region.mask is not None:
            prompts[label] = Prompt(mask=region.mask)
        elif region is not None or clicks:
            prompts[label] = Prompt(box=region.box if region else None, clicks=_click_points(clicks, shot))
    return prompts


def _click_points(clicks: Sequence[Result], shot: Shot) -> tuple[tuple[float, float], ...]:
    """x and y of clicks in pixels."""
    frame = shot.frames[0]
    try:
        return tuple(
            (float(c["value"]["x"]) * frame.width / 100, float(c["value"]["y"]) * frame.height / 100) for c in clicks
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("a click has no x and y") from error
