"""Writes a page for each command from its own help, and one of all sources, so that nothing is missing or out of date.

python docs/reference.py            # writes docs/commands/ and docs/sources.md
python docs/reference.py --check    # exits with 1 when a page is out of date
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path

import click

from colva.cli import main as colva
from mmvm_data.builders import SOURCES
from mmvm_data.cli import cli as mmvm_data

FOLDER = Path(__file__).parent / "commands"
PROGRAMS = {"mmvm-data": mmvm_data, "colva": colva}
MORE = {
    "mmvm-data audit": ["audit"],
    "mmvm-data browse": ["curator"],
    "mmvm-data build": ["dataset-engineer", "recipes", "cluster"],
    "mmvm-data cues": ["rationales", "curator"],
    "mmvm-data diff": ["audit"],
    "mmvm-data export": ["sharing", "researcher"],
    "mmvm-data filter": ["curator"],
    "mmvm-data import": ["annotator", "curator"],
    "mmvm-data ingest": ["ingest"],
    "mmvm-data merge": ["curator"],
    "mmvm-data rationale": ["rationales"],
    "mmvm-data report": ["curator"],
    "mmvm-data review": ["annotator"],
    "mmvm-data sample": ["curator", "audit"],
    "mmvm-data sources": ["sources", "dataset-engineer"],
    "mmvm-data split": ["curator"],
    "mmvm-data stats": ["curator"],
    "mmvm-data synth": ["dataset-engineer"],
    "mmvm-data validate": ["dataset-engineer"],
    "colva chat": ["chat"],
    "colva configs": ["train"],
    "colva compare": ["compare"],
    "colva convert": ["convert"],
    "colva eval": ["eval"],
    "colva export-inspect": ["eval"],
    "colva export-lighteval": ["eval"],
    "colva export-lmms-eval": ["eval"],
    "colva init-small": ["convert", "train"],
    "colva init-tiny": ["convert", "train"],
    "colva merge": ["convert"],
    "colva overview": ["researcher"],
    "colva train": ["train", "stage2", "xtuner"],
}
"""Command -> pages of docs/ with more about it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    wanted = pages()
    stale = sorted(
        {path.name for path in FOLDER.glob("*.md")} ^ {name for name in wanted if "/" not in name}
        | {name for name, text in wanted.items() if _read(FOLDER / name) != text}
    )
    if arguments.check:
        if stale:
            sys.exit(f"docs/commands: out of date: {', '.join(stale)}; python docs/reference.py writes them")
        return
    for name in stale:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    print(f"{len(stale)} of {len(wanted)} pages written")


def pages() -> dict[str, str]:
    """File name -> text of the page of each command, and README.md, which lists them."""
    pages_by_file, listed = {}, ["# Commands\n"]
    for program, group in PROGRAMS.items():
        listed.append(f"| `{program}` | |\n|---|---|")
        for name, command in sorted(group.load_commands().items()):
            file = f"{program}-{name}.md"
            pages_by_file[file] = page(f"{program} {name}", command)
            listed.append(f"| [{name}]({file}) | {_cell(command.get_short_help_str(120))} |")
        listed.append("")
    listed.append("These pages are written by `docs/reference.py` from what the commands say with `--help`.\n")
    return pages_by_file | {"README.md": "\n".join(listed), "../sources.md": sources_page()}


def sources_page() -> str:
    """All sources with what `mmvm-data sources` prints of them."""
    rows = []
    for name, spec in SOURCES.items():
        title = f"[{_plain(spec.title)}]({spec.page})" if spec.page else _plain(spec.title)
        facts = (spec.layout, {"mask": "masks", "box": "boxes"}[spec.prompt], spec.license, spec.tested_on)
        rows.append(f"| `{name}` | {title} | {' | '.join(map(_plain, facts))} |")
    head = "| `--source` | data set | on disk | annotated as | license | tested on |\n|---|---|---|---|---|---|"
    intro = (
        "What `mmvm-data build` reads. `mmvm-data sources` prints the same; with `--root` it says which of them fit a "
        "folder ([dataset engineer](dataset-engineer.md))."
    )
    end = "This page is written by `docs/reference.py` from `mmvm_data/builders/catalogue.py`."
    return "\n\n".join(["# Sources", intro, "\n".join([head, *rows]), end]) + "\n"


def _plain(text: str) -> str:
    """Text for a cell of a Markdown table in which nothing is markup."""
    return re.sub(r"([*_\[\]`])", r"\\\1", _cell(text)).replace("<", "&lt;")


def page(name: str, command: click.Command) -> str:
    """The help of a command, an example and all its options; for a group, the same for each of its commands."""
    links = ", ".join(f"[{stem}](../{stem}.md)" for stem in MORE[name])
    parts = [f"# {name}", *_body(name, command)]
    if isinstance(command, click.Group):
        for subname, subcommand in command.commands.items():
            parts += [f"## {name} {subname}", *_body(f"{name} {subname}", subcommand)]
    return "\n\n".join([*parts, f"More: {links}"]) + "\n"


def _body(name: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=name)
    parts = [_text(command)]
    if not isinstance(command, click.Group):
        parts.append(f"    {name} {' '.join(command.collect_usage_pieces(context))}")
    if command.epilog:
        lines = [line.strip() for line in command.epilog.splitlines()[2:]]
        parts.append("\n".join(["```", *lines, "```"]))
    options = [param for param in command.params if isinstance(param, click.Option)]
    records = [record for param in options if (record := param.get_help_record(context))]
    if records and not isinstance(command, click.Group):
        rows = [f"| `{_cell(option)}` | {_cell(help)} |" for option, help in records]
        parts.append("\n".join(["| | |", "|---|---|", *rows]))
    return parts


def _text(command: click.Command) -> str:
    """The docstring as Markdown: click's paragraphs, each on one line; capitals of arguments stay as they are."""
    text = inspect.cleandoc(command.help or "").replace("\b\n", "").replace("\b", "")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    main()
