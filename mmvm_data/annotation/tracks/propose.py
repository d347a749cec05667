"""What people marked in some frames of a shot, carried to its other frames as a prediction that they then correct:
marks of the first frame by a model, boxes between frames by interpolation. Annotations are read, never changed."""

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
from mmvm_data.annotation.tracks.interpret import CLICK_TYPE, SHAPE_TYPES, group_shapes
from mmvm_data.annotation.tracks.keyframes import fill_pictures
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


Marks = dict[Any, Any]
"""What people marked, by an object's number or by picture and number; its repr decides whether a prediction is new."""


@dataclass(frozen=True)
class _Proposer:
    """Proposes tracks for the shots of one project; see ``propose_tracks``.

    Attributes:
        client: the server.
        options: name of the model, and how masks are shown.
        read_marks: results of an annotation -> marks; none when nothing is marked, None when the shot is left alone.
        make_tracks: marks -> objects by picture.
    """

    client: Client
    options: ProposalOptions
    read_marks: Callable[[list[Any], Shot], Marks | None]
    make_tracks: Callable[[Shot, Marks], dict[int, list[Region]]]

    @property
    def model_name(self) -> str:
        """Start of the model version of its predictions."""
        return self.options.model[:60]

    def propose_shot(self, number: int, name: str, shot: Shot, result: ProposalResult) -> None:
        """Give one task a prediction, and count it in ``result``."""
        task = self.client.get_task(number)
        works = [a for a in task["annotations"] if not a.get("was_cancelled")] + task["drafts"]
        marks = self.read_marks(max(works, key=timestamp).get("result") or [], shot) if works else {}
        if marks is None:
            result.drawn_further += 1
            return
        if not marks:
            result.unmarked += 1
            return
        version = self._model_version(shot, marks)
        earlier = [p for p in task["predictions"] if str(p.get("model_version")).startswith(f"{self.model_name} ")]
        if any(p["model_version"] == version for p in earlier):
            result.unchanged += 1
            return
        tracks = self.make_tracks(shot, marks)
        self._create_prediction(number, version, tracks_to_results(shot, tracks, self.options.editor))
        for prediction in earlier:
            self.client.delete_prediction(prediction["id"])
        result.proposed.append(name)

    def _model_version(self, shot: Shot, marks: Marks) -> str:
        """Name of the model, and a hash of everything that its prediction depends on."""
        facts = [shot.model_dump(mode="json"), [[label, repr(mark)] for label, mark in marks.items()]]
        facts.append(self.options.editor)
        return f"{self.model_name} {hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"

    def _create_prediction(self, number: int, version: str, results: list[Result]) -> None:
        """Create a prediction with the score of its most doubtful mask, where masks have scores."""
        score = min((result["score"] for result in results if "score" in result), default=None)
        try:
            self.client.create_prediction(number, version, results, score)
        except OutcomeUnknown:
            time.sleep(SETTLE_SECONDS)
            if all(p["model_version"] != version for p in self.client.get_task(number)["predictions"]):
                self.client.create_prediction(number, version, results, score)


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

    def follow(shot: Shot, prompts: Marks) -> dict[int, list[Region]]:
        frames = [media.read_frame_bgr(directory, frame) for frame in shot.frames]
        return {
            position: [Region(id=label, mask=rle) for label, rle in rles.items()]
            for position, rles in enumerate(propagator.propagate(frames, prompts))
        }

    return _propose_shots(directory, project, _Proposer(client, options, _read_prompts, follow), progress)


def fill_tracks(
    directory: Path,
    client: Client,
    project: Project,
    options: ProposalOptions,
    progress: Callable[[int], None] | None = None,
) -> ProposalResult:
    """Give each shot a prediction for the pictures between and after those that somebody drew on, see ``keyframes``.

    What is drawn is that of the latest annotation, submitted or begun, and is part of the prediction. Arguments and
    errors are those of ``propose_tracks``.
    """

    def fill(shot: Shot, drawn: Marks) -> dict[int, list[Region]]:
        numbers = [frame.index for frame in shot.frames]
        tracks: dict[int, list[Region]] = {}
        for label in sorted({label for _, label in drawn}, key=int):
            of_label = {position: region for (position, name), region in drawn.items() if name == label}
            for position, region in fill_pictures(of_label, numbers).items():
                tracks.setdefault(position, []).append(region)
        return tracks

    return _propose_shots(directory, project, _Proposer(client, options, _read_drawn, fill), progress)


def _propose_shots(
    directory: Path, project: Project, proposer: _Proposer, progress: Callable[[int], None] | None
) -> ProposalResult:
    shots, result = dict(iter_shots(directory)), ProposalResult()
    for done, task in enumerate(proposer.client.iter_tasks(project.id, "id,data"), start=1):
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


def _read_drawn(results: list[Any], shot: Shot) -> Marks:
    """What is drawn, by position and number of the object."""
    drawn = {}
    for (position, label), pieces in group_shapes(results, shot, SHAPE_TYPES).items():
        region = results_to_region(label, object_slot(shot, position, label), pieces)
        if region is not None:
            drawn[position, label] = region
    return drawn


def _read_prompts(results: list[Any], shot: Shot) -> dict[str, Prompt] | None:
    """The marks of the first picture by the number of the object; None when other pictures are drawn on."""
    shapes = group_shapes(results, shot, (*SHAPE_TYPES, CLICK_TYPE))
    if any(position for position, _ in shapes):
        return None
    prompts = {label: make_prompt(label, pieces, shot, 0) for (_, label), pieces in shapes.items()}
    return {label: prompt for label, prompt in prompts.items() if prompt is not None}


def make_prompt(label: str, pieces: Sequence[Result], shot: Shot, position: int) -> Prompt | None:
    """The mark of one object in one picture: a mask, or a box and clicks; None when the shapes hold no pixel.

    Raises:
        ValueError: a shape is broken; one line.
    """
    clicks = [piece for piece in pieces if piece["type"] == CLICK_TYPE]
    areas = [piece for piece in pieces if piece["type"] != CLICK_TYPE]
    region = results_to_region(label, object_slot(shot, position, label), areas) if areas else None
    if region is not None and region.mask is not None:
        return Prompt(mask=region.mask)
    on_object = [click for click in clicks if click.get("is_positive") is not False]
    if region is None and not on_object:
        return None
    beside = [click for click in clicks if click.get("is_positive") is False]
    return Prompt(
        box=region.box if region else None, clicks=_click_points(on_object, shot), others=_click_points(beside, shot)
    )


def _click_points(clicks: Sequence[Result], shot: Shot) -> tuple[tuple[float, float], ...]:
    """x and y of clicks in pixels."""
    frame = shot.frames[0]
    try:
        return tuple(
            (float(c["value"]["x"]) * frame.width / 100, float(c["value"]["y"]) * frame.height / 100) for c in clicks
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("a click has no x and y") from error
