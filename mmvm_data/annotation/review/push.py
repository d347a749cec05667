"""Cases -> tasks of a Label Studio project; see ``labelstudio.sync`` for how a push is resumed and repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from mmvm_data.annotation.labelstudio.client import Client
from mmvm_data.annotation.labelstudio.project import (
    ImagesUrl,
    ensure_project,
    hidden_columns,
    make_image_url,
    url_scheme,
)
from mmvm_data.annotation.labelstudio.shapes import Editor
from mmvm_data.annotation.labelstudio.storages import connect_images, serve_folder
from mmvm_data.annotation.labelstudio.sync import PushResult, push_tasks
from mmvm_data.annotation.labelstudio.views import build_view, ensure_view, not_annotated_by
from mmvm_data.annotation.review.page import build_label_config, write_instructions
from mmvm_data.annotation.review.plan import (
    ReviewPlan,
    golden_proposal,
    keep_answers,
    read_case_ids,
    read_plan,
    write_plan,
)
from mmvm_data.annotation.review.shown import (
    PAGE,
    create_folder,
    draw_shown_images,
    find_magnification,
)
from mmvm_data.annotation.review.task import DIFFICULTY_KEY, NAME_KEY, build_task
from mmvm_data.core.case_facts import check_masks
from mmvm_data.core.options import OptionError, options
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.case_images import check_orientation
from mmvm_data.formats.difficulty import rate_difficulty
from mmvm_data.formats.import_bench import import_benchmark
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io.checked_images import read_frame_image
from mmvm_data.io.files import path_kind

COMMAND: Final = "mmvm-data review push"


@options
class ReviewPushOptions:
    """How cases are shown on the server.

    Attributes:
        editor: how masks are shown, "polygon" or "brush".
        images: what comes before the paths of images (``https://…`` or ``s3://…``); None when the server reads the
            folder itself (local-file serving).
        files_root: the server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT; None for the folder that holds the benchmark.
        overlap: how many people get each case. None: one for each of ``annotators``, else as at the last push, else 1.
        annotators: e-mail addresses of people, each of whom gets a list of what is left for them.
        golden: a text file with the ids of cases that are known to be right, one a line; see ``ReviewPlan``.
        predictions: files with answers of models (``formats.predictions``), for the order of the list of tasks.
            Without any, those of the last push that had some.
    """

    editor: Editor = "polygon"
    images: ImagesUrl | None = None
    files_root: Path | None = None
    overlap: Annotated[int, Field(ge=1, le=100)] | None = None
    annotators: tuple[str, ...] = ()
    golden: Path | None = None
    predictions: tuple[Path, ...] = ()


def push(
    directory: Path,
    client: Client,
    project: str,
    options: ReviewPushOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PushResult:
    """Create or update the project of a benchmark.

    Rejected cases get no task (``skipped``).

    Args:
        directory: the benchmark; one in the published layout is imported first.
        client: the server.
        project: title of the project, three characters or more, or the number of one that exists.
        options: how cases are shown.
        progress: called with (cases done, cases in all).

    Raises:
        InputError: the benchmark cannot be read.
        UsageError: the server cannot be used, or ``directory`` does not lie in ``files_root``.
    """
    options = options or ReviewPushOptions()
    import_benchmark(directory, COMMAND)
    survey = _survey_cases(directory)
    plan = _update_plan(directory, options, survey)
    users = _find_users(client, plan.annotators)
    image_url = make_image_url(directory, options.images, options.files_root, bench.FOLDER)
    has_web_address = url_scheme(options.images) in ("", "http", "https")
    instructions = write_instructions(survey.example, image_url if has_web_address else None) if survey.example else ""
    server_project = ensure_project(
        client,
        project,
        build_label_config(survey.images, survey.has_boxes),
        instructions,
        plan.overlap if options.overlap or plan.overlap > 1 else None,
        DIFFICULTY_KEY,
    )
    is_local = options.images is None
    connect_images(client, server_project, directory, options.images, bench.FOLDER)
    if is_local and any(find_magnification(survey.max_size, PAGE, count) for count in (0, survey.max_candidates)):
        serve_folder(client, server_project, create_folder(directory.resolve()))

    write_plan(directory, plan)
    answers = keep_answers(directory, options.predictions)
    for person, number in users.items():
        view = build_view(f"Left for {person}", hidden_columns(), [not_annotated_by(number)], order_by=DIFFICULTY_KEY)
        ensure_view(client, server_project, view)
    golden = set(plan.golden)

    def build(case: Case) -> dict[str, Any]:
        proposed = golden_proposal(case) if case.id in golden else case
        _check_images(directory, case, is_local)
        check_masks(case)
        images = draw_shown_images(directory, case, PAGE) if is_local else {}
        return build_task(proposed, image_url, survey.images, options.editor, rate_difficulty(case, answers), images)

    return push_tasks(
        client,
        server_project,
        NAME_KEY,
        ((case.id, case) for case in bench.read(directory)),
        build,
        is_wanted=lambda case: case.review.state != "rejected",
        progress=None if progress is None else lambda done: progress(done, survey.cases),
    )


@dataclass
class _Survey:
    """What the page of a benchmark has to show.

    Attributes:
        cases: how many there are.
        images: of the case with the most.
        has_boxes: whether there are cases of boxes.
        max_size: the largest width and height of images, in pixels.
        max_candidates: of a case.
        example: the first case with an answer in a case folder; None when there is none.
        ids: of all cases.
    """

    cases: int = 0
    images: int = 2
    has_boxes: bool = False
    max_size: tuple[int, int] = (0, 0)
    max_candidates: int = 0
    example: Case | None = None
    ids: list[str] = field(default_factory=list)


def _survey_cases(directory: Path) -> _Survey:
    survey = _Survey()
    for case in bench.read(directory):
        survey.cases += 1
        survey.ids.append(case.id)
        survey.images = max(survey.images, len(case.frames))
        survey.max_candidates = max(survey.max_candidates, len(case.candidates))
        survey.has_boxes |= case.prompt == "box"
        for frame in case.frames:
            survey.max_size = max(survey.max_size[0], frame.width), max(survey.max_size[1], frame.height)
        if survey.example is None and case.answer is not None and drawn_paths(case):
            survey.example = case
    return survey


def _update_plan(directory: Path, options: ReviewPushOptions, survey: _Survey) -> ReviewPlan:
    """The plan of a benchmark with what a push changes in it."""
    plan = read_plan(directory)
    update: dict[str, Any] = {}
    if options.annotators:
        update["annotators"] = options.annotators
    if overlap := options.overlap or len(options.annotators):
        update["overlap"] = overlap
    if options.golden:
        update["golden"] = read_case_ids(options.golden, survey.ids)
    plan = plan.model_copy(update=update)
    if plan.annotators and plan.overlap > len(plan.annotators):
        raise OptionError("overlap", f"must be at most the number of annotators, {len(plan.annotators)}")
    return plan


def _find_users(client: Client, people: Sequence[str]) -> dict[str, int]:
    """Numbers of people by their e-mail addresses."""
    if not people:
        return {}
    known = {email: number for number, email in client.list_users().items()}
    if missing := [person for person in people if person not in known]:
        raise OptionError("annotators", f"must be users of {client.url}: {missing[0]!r} has no account there")
    return {person: known[person] for person in people}


def _check_images(directory: Path, case: Case, is_local: bool = True) -> None:
    """Check the images that the server shows: its own, or those that were copied to where it reads them."""
    drawn = zip(drawn_paths(case), case.frames, strict=False)  # none outside of case folders
    for path, frame in (*drawn, *((frame.path, frame) for frame in case.frames)):
        if is_local:
            read_frame_image(directory, path, frame, case.id)
        if is_local or path_kind(directory / path) == "file":
            check_orientation(directory / path, path)
