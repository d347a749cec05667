"""``mmvm-data ingest``: cut, push, propagate, pull, status."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import click
from rich.markup import escape

from mmvm_data.annotation.labelstudio.options import (
    connect,
    open_client,
    progress_of,
    server_options,
    show_problems,
    show_progress,
    title_of,
    typed_again,
)
from mmvm_data.annotation.labelstudio.shapes import Editor
from mmvm_data.annotation.tracks.cut import CutOptions, cut
from mmvm_data.annotation.tracks.layout import shots_of
from mmvm_data.annotation.tracks.propose import propose
from mmvm_data.annotation.tracks.pull import pull
from mmvm_data.annotation.tracks.push import push
from mmvm_data.annotation.tracks.sam2 import Sam2
from mmvm_data.builders.tracks import TRACKS, open_tracks
from mmvm_data.io import console
from mmvm_data.io.console import out
from mmvm_data.io.files import path_kind

_EXISTING = click.Path(path_type=Path, exists=True, file_okay=False)
_DEFAULTS = CutOptions()


class _CutByDefault(click.Group):
    """``ingest clip.mp4 …`` is ``ingest cut clip.mp4 …``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["cut", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_CutByDefault, short_help="Make a source of raw video.")
def ingest() -> None:
    """Make a source from raw video: cut clips into shots and pictures, let people draw objects on them in Label Studio,
    bring the tracks back. `ingest CLIP … --out DIR` cuts, and pushes too when --url or --project is given."""


def _page_options(command: Any) -> Any:
    for option in (
        click.option(
            "--files-root",
            type=click.Path(path_type=Path),
            help="The server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.  [default: the folder that holds DIRECTORY]",
        ),
        click.option("--images", help="URL in front of pictures (https://…, s3://…), when the server reads no files."),
        click.option("--categories", default="", help="Names to choose from, by commas.  [default: people type them]"),
        click.option("--objects", default=20, show_default=True, help="Identity numbers to choose from."),
    ):
        command = option(command)
    return command


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
@server_options
@_page_options
@click.option("--strict", is_flag=True, help="Exit with 1 when a clip had to be left out.")
def cut_(clips: tuple[Path, ...], directory: Path, strict: bool, **given: Any) -> None:
    """Cut clips into shots and write the pictures of each that differ enough. Repeat it when it was stopped."""
    names = ("threshold", "min_shot", "min_change", "min_step", "max_frames", "quality")
    options = CutOptions(**{name: given[name] for name in names})
    with console.progress_bar("frames") as bar:
        task = bar.add_task("cutting", total=None, note="")
        done = cut(
            clips,
            directory,
            options,
            lambda name, frames, of: bar.update(task, completed=frames, total=of, note=name),
        )
    show_problems(done.problems)
    for clip in done.clips:
        out.print(f"[bold]{escape(clip.name)}[/]: {console.pluralize(len(clip.shots), 'shot')}, ", end="")
        out.print(console.pluralize(sum(len(shot.frames) for shot in clip.shots), "picture"))
        for left in clip.left_out:
            out.print(f"  frames {left.first} to {left.last} are left out: {left.reason}")
    out.print(
        f"{console.pluralize(len(done.clips), 'clip')} in {console.path_markup(directory)} ({done.same} as they were)"
    )
    if done.clips and (given["url"] or given["project"]):
        wanted = ("project", "url", "objects", "categories", "images", "files_root")
        _push(directory, strict=False, **{name: given[name] for name in wanted})
    elif done.clips:
        console.print_next_steps(
            (["review", "serve", str(directory)], "a Label Studio of your own, in another terminal"),
            (["ingest", "push", str(directory)], "make the project"),
        )
    if strict and done.problems:
        sys.exit(1)


@ingest.command(
    "push",
    short_help="Make or update the project.",
    epilog="\b\nExample:\n  mmvm-data ingest push clips --categories person,bag",
)
@click.argument("directory", type=_EXISTING)
@server_options
@_page_options
@click.option("--strict", is_flag=True, help="Exit with 1 when a shot had to be left out.")
def push_(directory: Path, **given: Any) -> None:
    """Make or update the project, one task a shot. Repeat it when it was stopped or when clips were added."""
    _push(directory, **given)


def _push(
    directory: Path,
    project: str | None,
    url: str | None,
    objects: int,
    categories: str,
    images: str | None,
    files_root: Path | None,
    strict: bool,
) -> None:
    client = open_client(url)
    with console.progress_bar("shots") as bar:
        task = bar.add_task("pushing", total=None, note="")
        done = push(
            directory,
            client,
            title_of(directory, project),
            objects,
            [name.strip() for name in categories.split(",") if name.strip()],
            images,
            files_root,
            lambda shots, of: bar.update(task, completed=shots, total=of),
        )
    show_problems(done.problems)
    counts = {
        "new": done.created,
        "updated": done.updated,
        "as they were": done.same,
        "with people's work, left alone": done.worked_on,
        "second copies removed": done.removed,
        "shots left out": len(done.problems),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to push"
    out.print(f"[bold]{escape(done.project.title)}[/]: {said}")
    out.print(f"open {client.url}/projects/{done.project.id}/data")
    out.print(f"next: mmvm-data ingest pull {escape(str(directory))}{typed_again(project, url)}")
    if strict and done.problems:
        sys.exit(1)


@ingest.command(
    "propagate",
    short_help="Follow first-picture marks with SAM 2.",
    epilog="\b\nExample:\n  mmvm-data ingest propagate clips --sam2 sam2.1-hiera-small",
)
@click.argument("directory", type=_EXISTING)
@click.option("--sam2", required=True, type=_EXISTING, help="Folder of a SAM 2 checkpoint for transformers.")
@click.option("--device", help="Of torch.  [default: a GPU when there is one]")
@click.option(
    "--masks",
    type=click.Choice(["polygon", "brush"]),
    default="polygon",
    show_default=True,
    help="How proposals are shown. Brushes are exact and heavy; masks that polygons cannot hold always get them.",
)
@server_options
@click.option("--strict", is_flag=True, help="Exit with 1 when a shot had to be left out.")
def propagate(
    directory: Path, sam2: Path, device: str | None, masks: str, project: str | None, url: str | None, strict: bool
) -> None:
    """Follow what is marked in the first picture of each shot (a box, clicks or a mask for each number) to the others
    with SAM 2, as predictions to correct. Shots that people have drawn on further are left alone."""
    client, found = connect(directory, project, url)
    model = Sam2(sam2, device)
    with console.progress_bar("shots") as bar:
        task = bar.add_task("following", total=None, note="")
        done = propose(
            directory,
            client,
            found,
            model,
            f"sam2 {sam2.resolve().name}",
            cast(Editor, masks),
            lambda shots: bar.update(task, completed=shots),
        )
    show_problems(done.problems)
    counts = {
        "with new predictions": len(done.shots),
        "as they were": done.same,
        "drawn on further, left alone": done.further,
        "with nothing marked": done.unmarked,
        "left out": len(done.problems),
    }
    out.print("shots: " + (", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none"))
    if done.shots:
        out.print(f"open {client.url}/projects/{found.id}/data, choose the prediction, copy it, correct, submit")
    if strict and done.problems:
        sys.exit(1)


@ingest.command("pull", short_help="Bring the tracks back.", epilog="\b\nExample:\n  mmvm-data ingest pull clips")
@click.argument("directory", type=_EXISTING)
@server_options
@click.option("--export", type=click.Path(path_type=Path), help="Read Label Studio's JSON export, not the server.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an annotation could not be used.")
def pull_(directory: Path, project: str | None, url: str | None, export: Path | None, strict: bool) -> None:
    """Bring what people drew into the folder, as a source that `build --source video` reads."""
    client, found = connect(directory, project, url) if export is None else (None, None)
    with console.progress_bar("shots") as bar:
        task = bar.add_task("pulling", total=None, note="")
        done = pull(directory, client, found, export, lambda tasks: bar.update(task, completed=tasks))
    show_problems(done.problems)
    show_problems(done.notes)
    out.print(
        f"{done.annotations} annotations of {done.tasks} tasks ({done.kept} new); "
        f"[bold]{console.pluralize(len(done.changed), 'shot')} changed[/]"
        + (f", {done.skipped} tasks skipped by people" if done.skipped else "")
        + (f", {len(done.problems)} problems" if done.problems else "")
    )
    if path_kind(directory / TRACKS) == "folder":
        build = ["build", "--source", "video", "--root", str(directory), "--out", "BENCHMARK", "--max-gap", "0"]
        console.print_next_steps((build, "make cases of them"))
    if strict and done.problems:
        sys.exit(1)


@ingest.command(short_help="Show progress.", epilog="\b\nExample:\n  mmvm-data ingest status clips")
@click.argument("directory", type=_EXISTING)
@server_options
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def status(directory: Path, project: str | None, url: str | None, as_json: bool) -> None:
    """Show progress: shots drawn, skipped and begun, by whom, and what has come back."""
    shots = sum(1 for _ in shots_of(directory))
    client, found = connect(directory, project, url)
    counts, by = progress_of(client, found)
    here = _tracks(directory)
    if as_json:
        facts = {"project": found.id, "shots": shots, "tasks": dict(counts), "people": dict(by), "tracks": here}
        click.echo(json.dumps(facts, indent=1))
        return
    show_progress(client, found, counts, by)
    out.print(
        f"in the folder: {console.pluralize(shots, 'shot')}; tracks of {here['shots']} of them, "
        f"{console.pluralize(here['objects'], 'object')} in {console.pluralize(here['pictures'], 'picture')}"
    )


def _tracks(directory: Path) -> dict[str, int]:
    found = {"shots": 0, "objects": 0, "pictures": 0}
    if path_kind(directory / TRACKS) != "folder":
        return found
    source = open_tracks("video", directory)
    for name in source.videos:
        video = source.load(name)
        found["shots"] += 1
        found["pictures"] += len(video.annotated)
        found["objects"] += len({region.id for p in video.annotated for region in video.regions(p)})
    return found
