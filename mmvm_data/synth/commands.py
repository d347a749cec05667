"""The command ``mmvm-data synth``: parses and calls, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mmvm_data.core.errors import OutputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.io.console import out, path_markup, print_next_steps, progress_bar
from mmvm_data.io.param_types import FOLDER, count_processes
from mmvm_data.synth.writer import SynthOptions, generate


@click.command(
    "synth",
    short_help="Generate videos of look-alikes with exact masks.",
    epilog="\b\nExample:\n  mmvm-data synth videos --videos 12 --seed 1",
)
@click.argument("directory", type=FOLDER)
@click.option("--videos", default=12, show_default=True, help="How many; the first N of more are the same N.")
@click.option("--frames", default=SynthOptions().frames, show_default=True, help="Annotated frames a video.")
@click.option("--width", default=SynthOptions().width, show_default=True, help="Pixels.")
@click.option("--height", default=SynthOptions().height, show_default=True, help="Pixels.")
@click.option(
    "--objects",
    nargs=2,
    type=int,
    default=SynthOptions().objects,
    show_default=True,
    metavar="MIN MAX",
    help="Fewest and most objects a video.",
)
@click.option(
    "--look-alikes",
    type=click.Choice(["colors", "patterns"]),
    default=SynthOptions().look_alikes,
    show_default=True,
    help="What tells objects apart; patterns: all of a video have one kind and mean color.",
)
@click.option(
    "--cuts",
    default=SynthOptions().cuts,
    show_default=True,
    help="Cuts a video; after each, another viewpoint, other places and light.",
)
@click.option(
    "--layout",
    type=click.Choice(["ytvos", "ytvis"]),
    default="ytvos",
    show_default=True,
    help="Lay the files out as YouTube-VOS or YouTube-VIS.",
)
@click.option("--seed", default=0, show_default=True, help="Another seed, another world.")
@click.option("--workers", default=1, show_default=True, help="Processes; 0 for one a core.")
def synth(directory: Path, **values: Any) -> None:
    """Generate videos of moving look-alikes with exact masks, laid out as YouTube-VOS or YouTube-VIS."""
    options = SynthOptions(**values | {"workers": count_processes(values["workers"])})
    with progress_bar("videos") as bar:
        task = bar.add_task("drawing", total=options.videos, note="")
        try:
            generate(directory, options, lambda done, of: bar.update(task, completed=done, total=of))
        except OSError as error:
            raise OutputError(directory, error) from error
    out.print(f"{pluralize(options.videos, 'video')} in {path_markup(directory)}")
    build = ["build", "--source", options.layout, "--root", str(directory), "--out", "BENCHMARK"]
    print_next_steps((build, "make cases of them"))
