"""The command ``mmvm-data``: lists its commands and imports the one that runs.

Exit codes: 0 done; 1 some inputs were rejected and ``--strict`` was given, or a check found problems; 2 wrong usage,
an unreadable root or an output that cannot be written; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import click

from mmvm_data.core import limits
from mmvm_data.core.version import __version__
from mmvm_data.io.lazy_group import LazyCommand, LazyGroup

COMMANDS = {
    "audit": LazyCommand("mmvm_data.audit.commands:audit", "Find shortcuts, duplicates, leakage."),
    "browse": LazyCommand("mmvm_data.viz.browse_commands:browse", "Look at a benchmark in FiftyOne; bring tags back."),
    "build": LazyCommand("mmvm_data.recipes.build_commands:build_command", "Make a benchmark from sources."),
    "cues": LazyCommand("mmvm_data.annotation.rationale.commands:cues", "Propose match types, with evidence."),
    "diff": LazyCommand("mmvm_data.audit.commands:diff", "Compare two builds."),
    "export": LazyCommand("mmvm_data.formats.commands:export", "Write a benchmark in another format."),
    "filter": LazyCommand("mmvm_data.formats.set_commands:filter_command", "Keep the cases that fit."),
    "import": LazyCommand("mmvm_data.formats.commands:import_command", "Make a published benchmark editable."),
    "ingest": LazyCommand("mmvm_data.annotation.tracks.commands:ingest", "Make a source of raw video."),
    "merge": LazyCommand("mmvm_data.formats.set_commands:merge", "Put several benchmarks together."),
    "rationale": LazyCommand("mmvm_data.annotation.rationale.commands:rationale", "Write why each answer is right."),
    "report": LazyCommand("mmvm_data.recipes.report_commands:report", "Write one HTML file to look at."),
    "review": LazyCommand("mmvm_data.annotation.review.commands:review", "Let people check cases in Label Studio."),
    "sample": LazyCommand("mmvm_data.recipes.commands:sample", "Draw cases at random, balanced."),
    "sources": LazyCommand(
        "mmvm_data.builders.commands:sources", "List what build reads, or find the source of a folder."
    ),
    "split": LazyCommand("mmvm_data.recipes.commands:split", "Divide a benchmark by video or source."),
    "stats": LazyCommand("mmvm_data.audit.stats_commands:stats", "Count what a benchmark holds."),
    "synth": LazyCommand("mmvm_data.synth.commands:synth", "Generate videos of look-alikes with exact masks."),
    "validate": LazyCommand("mmvm_data.formats.commands:validate", "Check every case of a benchmark."),
}
"""Where each command is, with its short help."""


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    envvar=limits.VARIABLE,
    default=limits.DEFAULT_MAX_PIXELS,
    show_default=True,
    help=f"Refuse images and masks with more pixels, before they are decoded. Also {limits.VARIABLE}.",
)
@click.version_option(__version__, prog_name="mmvm-data")
def cli(max_pixels: int) -> None:
    """Turn videos with masks or boxes into visual-correspondence benchmarks and training sets."""
    if max_pixels != limits.max_pixels():
        limits.set_max_pixels(max_pixels)


def main() -> None:
    """Run the command; errors are one line, never a traceback."""
    from mmvm_data.io import console  # worker processes import this module again, and print nothing

    console.run_command(cli, console.COMMAND)


if __name__ == "__main__":
    main()
