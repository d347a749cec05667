"""``mmvm-data ingest``: cut, push, propagate, assist, pull, status."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import click

from mmvm_data.annotation.labelstudio import command_line
from mmvm_data.annotation.labelstudio.ml_backend import connect_backend, open_backend
from mmvm_data.annotation.labelstudio.shapes import Editor
from mmvm_data.annotation.tracks.assist import Assistant, CachedSegmenter
from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.follow import FlowTracker, Segmenter
from mmvm_data.annotation.tracks.layout import iter_shots
from mmvm_data.annotation.tracks.propose import ProposalOptions, fill_tracks, propose_tracks
from mmvm_data.annotation.tracks.pull import pull
from mmvm_data.annotation.tracks.push import TrackPushOptions, push
from mmvm_data.annotation.tracks.sam2 import Sam2
from mmvm_data.builders.tracks import TRACKS, open_tracks
from mmvm_data.core.errors import UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.io import console
from mmvm_data.io.console import escape, out
from mmvm_data.io.files import path_kind
from mmvm_data.io.param_types import EXISTING_FOLDER

_DEFAULTS = CutOptions()
_CUT_OPTIONS = ("threshold", "min_shot", "min_change", "min_step", "max_frames", "quality")


class _CutByDefault(click.Group):
    """``ingest clip.mp4 …`` is ``ingest cut clip.mp4 …``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["cut", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_CutByDefault, short_help="Make a source of raw video.")
def ingest() -> None:
    """Make a source from raw video: cut clips into shots and pictures, let people draw objects on them in Label Studio,
    bring the tracks back. `ingest CLIP … --out DIR` cuts, and also pushes with --url or --project."""


_page_options = command_line.add_options(
    click.option("--objects", default=20, show_default=True, help="Identity numbers to choose from."),
    click.option("--categories", default="", help="Names to choose from, by commas.  [default: people type them]"),
    click.option("--timeline", is_flag=True, help="Boxes on a video's timeline; no masks."),
    command_line.image_options("pictures"),
)


@ingest.command(
    "cut",
    short_help="Cut clips into shots and pictures.",
    epilog="\b\nExample:\n  mmvm-data ingest clip.mp4 --out clips",
)
@click.argument("clips", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", "directory", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder.")
@click.option(
    "--threshold", default=_DEFAULTS.threshold, show_default=True, help="How sudden a cut is; a lower one cuts more."
)
@click.option("--min-shot", default=_DEFAULTS.min_shot, show_default=True, help="Seconds of a shot, at least.")
@click.option(
    "--min-change",
    default=_DEFAULTS.min_change,
    show_default=True,
    help="Share of pixels that differ from the picture before, at least.",
)
@click.option("--min-step", default=_DEFAULTS.min_step, show_default=True, help="Seconds between pictures, at least.")
@click.option("--max-frames", default=_DEFAULTS.max_frames, show_default=True, help="Pictures of a shot, at most.")
@click.option("--quality", default=_DEFAULTS.quality, show_default=True, help="JPEG quality of the pictures.")
@command_line.server_options
@_page_options
@click.option("--strict", is_flag=True, help="Exit with 1 when a clip had to be left out.")
def cut_command(clips: tuple[Path, ...], directory: Path, strict: bool, **values: Any) -> None:
    """Cut clips into shots and write the pictures of each that differ enough. Run it again when it was stopped."""
    options = CutOptions(**{name: values[name] for name in _CUT_OPTIONS})
    with console.progress_bar("frames") as bar:
        task = bar.add_task("cutting", total=None, note="")
        result = cut_clips(
            clips,
            directory,
            options,
            lambda name, done, total: bar.update(task, completed=done, total=total, note=name),
        )
    command_line.show_problems(result.problems)
    for clip in result.clips:
        out.print(f"[bold]{escape(clip.name)}[/]: {pluralize(len(clip.shots), 'shot')}, ", end="")
        out.print(pluralize(sum(len(shot.frames) for shot in clip.shots), "picture"))
        for skipped in clip.left_out:
            out.print(f"  frames {skipped.first} to {skipped.last} are left out: {escape(skipped.reason)}")
    num_clips = pluralize(len(result.clips), "clip")
    out.print(f"{num_clips} in {console.path_markup(directory)} ({result.unchanged} unchanged)")
    if result.clips and (values["url"] or values["project"]):
        names = ("project", "url", "objects", "categories", "timeline", "images", "files_root")
        _push(directory, strict=False, **{name: values[name] for name in names})
    elif result.clips:
        console.print_next_steps(
            (["review", "serve", str(directory)], "a Label Studio of your own, in another terminal"),
            (["ingest", "push", str(directory)], "make the project"),
        )
    command_line.exit_if_strict(strict, result.problems)


@ingest.command(
    "push",
    short_help="Make or update the project.",
    epilog="\b\nExample:\n  mmvm-data ingest push clips --categories person,bag",
)
@click.argument("directory", type=EXISTING_FOLDER)
@command_line.server_options
@_page_options
@click.option("--strict", is_flag=True, help="Exit with 1 when a shot had to be left out.")
def push_command(directory: Path, **values: Any) -> None:
    """Create or update the project, with one task for each shot. Run it again when it was stopped or when clips were
    added."""
    _push(directory, **values)


def _push(
    directory: Path,
    project: str | None,
    url: str | None,
    objects: int,
    categories: str,
    timeline: bool,
    images: str | None,
    files_root: Path | None,
    strict: bool,
) -> None:
    client = command_line.open_client(url)
    names = tuple(name.strip() for name in categories.split(",") if name.strip())
    options = TrackPushOptions(
        objects=objects, categories=names, images=images, files_root=files_root, timeline=timeline
    )
    with console.progress_bar("shots") as bar:
        task = bar.add_task("pushing", total=None, note="")
        result = push(
            directory,
            client,
            command_line.project_name(directory, project),
            options,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    command_line.show_push(result, client, "ingest pull", directory, project, url, problems="shots left out")
    command_line.exit_if_strict(strict, result.problems)


_model_options = command_line.add_options(
    click.option("--sam2", type=EXISTING_FOLDER, help="Folder of a SAM 2 checkpoint for transformers."),
    click.option("--mobile-sam", type=click.Path(path_type=Path), help="MobileSAM's weights, mobile_sam.pt."),
    click.option("--device", help="Of torch.  [default: a GPU when there is one]"),
)


@ingest.command(
    "propagate",
    short_help="Carry marks to the other pictures of a shot.",
    epilog="\b\nExample:\n  mmvm-data ingest propagate clips --sam2 sam2.1-hiera-small",
)
@click.argument("directory", type=EXISTING_FOLDER)
@_model_options
@click.option("--copy", "is_copy", is_flag=True, help="No model: interpolate boxes, copy masks.")
@command_line.editor_option("How proposals are shown.")
@command_line.server_options
@click.option("--strict", is_flag=True, help="Exit with 1 when a shot had to be left out.")
def propagate(
    directory: Path,
    sam2: Path | None,
    mobile_sam: Path | None,
    device: str | None,
    is_copy: bool,
    editor: Editor,
    project: str | None,
    url: str | None,
    strict: bool,
) -> None:
    """Carry what is marked in a shot to its other pictures, as predictions to correct.

    With a model, what is marked in the first picture (a box, clicks or a mask for each number) is followed: by SAM 2,
    or by optical flow and MobileSAM. Shots that people have drawn on further are left alone. With --copy, boxes are
    interpolated between the pictures that were drawn on, and everything else is copied from the picture before.
    """
    if [sam2 is not None, mobile_sam is not None, is_copy].count(True) != 1:
        raise UsageError("name one of --sam2, --mobile-sam and --copy")
    client, server_project = command_line.connect(directory, project, url)
    with console.progress_bar("shots") as bar:
        task = bar.add_task("following", total=None, note="")

        def progress(done: int) -> None:
            bar.update(task, completed=done)

        if sam2 is not None:
            options = ProposalOptions(model=f"sam2 {sam2.resolve().name}", editor=editor)
            result = propose_tracks(directory, client, server_project, Sam2(sam2, device), options, progress)
        elif mobile_sam is not None:
            options = ProposalOptions(model=f"mobile-sam {mobile_sam.resolve().name}", editor=editor)
            tracker = FlowTracker(_open_mobile_sam(mobile_sam, device))
            result = propose_tracks(directory, client, server_project, tracker, options, progress)
        else:
            result = fill_tracks(directory, client, server_project, ProposalOptions("copy", editor), progress)
    command_line.show_problems(result.problems)
    counts = {
        "with new predictions": len(result.proposed),
        "unchanged": result.unchanged,
        "drawn on further, left alone": result.drawn_further,
        "with nothing marked": result.unmarked,
        "left out": len(result.problems),
    }
    out.print("shots: " + (", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none"))
    if result.proposed:
        page = f"{client.url}/projects/{server_project.id}/data"
        out.print(f"open {escape(page)}, choose the prediction, copy it, correct, submit")
    command_line.exit_if_strict(strict, result.problems)


def _open_mobile_sam(weights: Path, device: str | None) -> Segmenter:
    try:
        from mmvm_data.annotation.tracks.mobile_sam import MobileSam
    except ImportError as error:
        raise UsageError("MobileSAM needs torch and transformers: pip install 'mmvm-data[train]'") from error
    return MobileSam(weights, device)


@ingest.command(
    "assist",
    short_help="Answer clicks with masks while people draw.",
    epilog="\b\nExample:\n  mmvm-data ingest assist clips --mobile-sam mobile_sam.pt",
)
@click.argument("directory", type=EXISTING_FOLDER)
@_model_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address on which it listens.")
@click.option("--port", default=9090, show_default=True, help="Port on which it listens.")
@click.option("--backend-url", help="Where Label Studio reaches it.  [default: http://HOST:PORT]")
@command_line.server_options
def assist(
    directory: Path,
    sam2: Path | None,
    mobile_sam: Path | None,
    device: str | None,
    host: str,
    port: int,
    backend_url: str | None,
    project: str | None,
    url: str | None,
) -> None:
    """Answer a click or a rectangle in Label Studio with the object's masks, in that picture and in those after it.

    It is added to the project as a model (ML backend). In the editor, switch Auto-Annotation on, choose a number and
    the smart key point or rectangle, and click. Ctrl-C ends it.
    """
    if (sam2 is None) == (mobile_sam is None):
        raise UsageError("name one of --sam2 and --mobile-sam")
    client, server_project = command_line.connect(directory, project, url)
    if sam2 is not None:
        assistant = Assistant(directory, Sam2(sam2, device))
    else:
        assert mobile_sam is not None
        segmenter = CachedSegmenter(_open_mobile_sam(mobile_sam, device))
        assistant = Assistant(directory, FlowTracker(segmenter), segmenter.embed)
    with open_backend(assistant, host, port) as backend:
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        address = (backend_url or f"http://{host}:{backend.server_port}").rstrip("/")
        try:
            connect_backend(client, server_project, assistant.name, address)
            out.print(f"assisting at {escape(address)}; Ctrl-C ends it")
            out.print(f"open {escape(client.url)}/projects/{server_project.id}/data and switch Auto-Annotation on")
            threading.Event().wait()
        except KeyboardInterrupt:
            out.print("")
        finally:
            backend.shutdown()


@ingest.command("pull", short_help="Bring the tracks back.", epilog="\b\nExample:\n  mmvm-data ingest pull clips")
@click.argument("directory", type=EXISTING_FOLDER)
@command_line.server_options
@click.option("--export", type=click.Path(path_type=Path), help="Read Label Studio's JSON export, not the server.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an annotation could not be used.")
def pull_command(directory: Path, project: str | None, url: str | None, export: Path | None, strict: bool) -> None:
    """Bring what people drew into the folder, as a source that `build --source video` reads."""
    client, server_project = command_line.connect(directory, project, url) if export is None else (None, None)
    with console.progress_bar("shots") as bar:
        task = bar.add_task("pulling", total=None, note="")
        result = pull(directory, client, server_project, export, lambda done: bar.update(task, completed=done))
    command_line.show_problems(result.problems)
    command_line.show_problems(result.notes)
    command_line.show_pull(result, pluralize(len(result.changed), "shot"))
    if path_kind(directory / TRACKS) == "folder":
        build = ["build", "--source", "video", "--root", str(directory), "--out", "BENCHMARK", "--max-gap", "0"]
        console.print_next_steps((build, "make cases of them"))
    command_line.exit_if_strict(strict, result.problems)


@ingest.command(short_help="Show progress.", epilog="\b\nExample:\n  mmvm-data ingest status clips")
@click.argument("directory", type=EXISTING_FOLDER)
@command_line.server_options
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def status(directory: Path, project: str | None, url: str | None, as_json: bool) -> None:
    """Show progress: shots drawn, skipped and started, by whom, and what was pulled."""
    shots = sum(1 for _ in iter_shots(directory))
    client, server_project = command_line.connect(directory, project, url)
    counts, by_person = command_line.count_progress(client, server_project)
    tracks = _count_tracks(directory)
    if as_json:
        facts = {
            "project": server_project.id,
            "shots": shots,
            "tasks": dict(counts),
            "people": dict(by_person),
            "tracks": tracks,
        }
        click.echo(json.dumps(facts, indent=1))
        return
    command_line.show_progress(client, server_project, counts, by_person)
    out.print(
        f"in the folder: {pluralize(shots, 'shot')}; tracks of {tracks['shots']} of them, "
        f"{pluralize(tracks['objects'], 'object')} in {pluralize(tracks['pictures'], 'picture')}"
    )


def _count_tracks(directory: Path) -> dict[str, int]:
    """Shots, objects and pictures that the folder has tracks of."""
    counts = {"shots": 0, "objects": 0, "pictures": 0}
    if path_kind(directory / TRACKS) != "folder":
        return counts
    source = open_tracks("video", directory)
    for name in source.videos:
        video = source.load(name)
        counts["shots"] += 1
        counts["pictures"] += len(video.annotated)
        counts["objects"] += len({region.id for p in video.annotated for region in video.regions(p)})
    return counts
