"""The command ``mmvm-data sources``: parses and calls, nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.padding import Padding
from rich.table import Table

from mmvm_data.builders import require_source
from mmvm_data.builders.catalogue import SOURCES
from mmvm_data.builders.detect import Detection, describe_problem, detect_sources, find_clip
from mmvm_data.core.plurals import pluralize
from mmvm_data.io.console import escape, out, path_markup, print_next_steps
from mmvm_data.io.remote import path_or_url

_ANNOTATED_AS = {"mask": "masks", "box": "boxes"}
_FACTS = ("title", "layout", "page", "license", "prompt", "tested_on")


@click.command(
    short_help="List what build reads, or find the source of a folder.",
    epilog="\b\nExamples:\n  mmvm-data sources\n  mmvm-data sources ytvos\n  mmvm-data sources --root DAVIS",
)
@click.argument("name", required=False)
@click.option("--root", type=path_or_url, help="Say which sources fit this folder, file or URL, and what others lack.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def sources(name: str | None, root: Path | str | None, as_json: bool) -> None:
    """List what `build` reads: layout on disk, page, license, masks or boxes. With NAME, of one source.

    With --root: the sources whose layout a folder has, the best first, with the command to type, and what is missing
    for the closest of the others. Exit code 1 when none fits.
    """
    if name is not None:
        require_source(name)
    if root is not None:
        _print_detections(root, name, as_json)
        return
    names = list(SOURCES) if name is None else [name]
    if as_json:
        click.echo(json.dumps({name: {f: getattr(SOURCES[name], f) for f in _FACTS} for name in names}, indent=1))
        return
    print_sources(names)


def _print_detections(root: Path | str, name: str | None, as_json: bool) -> None:
    detections = detect_sources(root, name)
    fitting = [detection for detection in detections if detection.fits]
    if as_json:
        click.echo(json.dumps([asdict(detection) for detection in detections], indent=1))
    else:
        for detection in detections:
            _print_detection(detection)
        if fitting:
            command = ["build", "--source", fitting[0].name, "--root", str(root), "--out", "bench"]
            print_next_steps((command, f"read it as {SOURCES[fitting[0].name].title}"))
        else:
            out.print(f"[yellow]no source fits[/] {path_markup(root)}; mmvm-data sources lists the layouts")
            clip = find_clip(root)
            if clip is not None:
                command = ["ingest", "cut", str(clip), "--out", "FOLDER"]
                print_next_steps((command, "make a source of a video without masks, by drawing on it"))
    if not fitting:
        sys.exit(1)


def _print_detection(detection: Detection) -> None:
    if detection.fits:
        what = f"{SOURCES[detection.name].title}, {pluralize(detection.videos, 'video')}"
        out.print(f"[green]fits[/]  [bold]{detection.name}[/]  {escape(what)}")
    else:
        out.print(f"[dim]no[/]    [bold]{detection.name}[/]  {escape(describe_problem(detection))}")


def print_sources(chosen: Sequence[str] = tuple(SOURCES)) -> None:
    """Print sources with their layout on disk, page and license.

    One block a source, so that at 80 columns the URL of a page is not split, as it would be in a table.
    """
    names: dict[int, list[str]] = {}
    for name in chosen:
        names.setdefault(id(SOURCES[name]), []).append(name)
    for known in names.values():
        spec = SOURCES[known[0]]
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="dim", min_width=9)
        table.add_column(overflow="fold")
        for label, text in (
            ("also", ", ".join(known[1:])),
            ("on disk", spec.layout),
            ("page", spec.page),
            ("license", spec.license),
            ("tested on", spec.tested_on),
        ):
            if text:
                table.add_row(label, escape(text))
        out.print(f"[bold]{known[0]}[/]  {escape(spec.title)}, {_ANNOTATED_AS[spec.prompt]}", soft_wrap=False)
        out.print(Padding(table, (0, 0, 1, 2)), soft_wrap=False)
    name = chosen[0] if len(chosen) == 1 else "NAME"
    print_next_steps((["build", "--source", name, "--root", "FOLDER", "--out", "BENCHMARK"], ""))
