"""`colva convert`, `colva merge` and `colva init-tiny`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from mmvm_data.core.errors import UsageError
from mmvm_data.io import console
from mmvm_data.io.console import out

if TYPE_CHECKING:
    from colva.checkpoints.convert import ConvertOptions, Report

_PATH = click.Path(path_type=Path)
_EXISTING = click.Path(path_type=Path, exists=True)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_SHOWN = 8


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    """Options that convert and merge have in common."""
    options = (
        click.option("--base", type=_EXISTING, help="The model that a .pth or DeepSpeed's shards were trained on."),
        click.option("--lora-alpha", type=float, help="LoRA's alpha, for a .pth, which does not hold it."),
        click.option(
            "--to",
            type=click.Choice(["ours", "original"]),
            default="ours",
            show_default=True,
            help="original: the layout of the released InternVL2 and CoLVA folders.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "bfloat16", "float16"]),
            help="Of the weights written.  [default: as stored]",
        ),
        click.option("--shard-size", default="4G", show_default=True, help="Largest file; also the memory needed."),
        click.option("--ignore", multiple=True, metavar="PATTERN", help="Leave these unknown tensors out; * and ?."),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing."),
        click.option("--list", "every", is_flag=True, help="Also list every tensor and what it is made of."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    short_help="Read a published checkpoint and write one of ours, or the other way.",
    epilog=(
        "\b\nExamples:\n"
        "  colva convert InternVL2-4B internvl2-4b --expert radio-v2.1_half.pth.tar\n"
        "  colva convert iter_18252.pth adapter-4b --base internvl2-4b --lora-alpha 256"
    ),
)
@click.argument("source", type=_EXISTING)
@click.argument("destination", type=_PATH)
@click.option("--expert", help="Add an expert: a folder or file of RADIO, DINOv2 …, or mobilenetv2.")
@click.option("--adapter", type=_EXISTING, help="Put in what was trained: a .pth, an adapter folder, shards.")
@click.option("--template", help="Chat template in place of the one found.")
@click.option("--seed", default=0, show_default=True, help="Of a new adapter.")
@_shared
def convert(source: Path, destination: Path, **given: Any) -> None:
    """Convert a checkpoint.

    SOURCE is a folder of InternVL2, 2.5, 3, 3.5 or CoLVA in the original layout; one of transformers (InternVL,
    Qwen2-VL, Qwen2.5-VL, Qwen3-VL, LLaVA-1.5); one of ours, with --to original; what mmengine or DeepSpeed saved of a
    training, with --base; or an expert by itself. What is missing, unknown or of another shape is listed, and then
    nothing is written.
    """
    from colva.checkpoints.convert import convert as run

    _run(run, source, destination, given)


@click.command(
    short_help="Fold LoRA and an adapter into their model.",
    epilog=(
        "\b\nExamples:\n"
        "  colva convert InternVL2-4B internvl2-4b --expert radio-v2.1_half.pth.tar\n"
        "  colva merge iter_18252.pth released-4b --base internvl2-4b --lora-alpha 256"
    ),
)
@click.argument("source", type=_EXISTING)
@click.argument("destination", type=_PATH)
@_shared
def merge(source: Path, destination: Path, **given: Any) -> None:
    """Fold what was trained into its model, and write the whole of it.

    SOURCE is an adapter folder, a .pth of mmengine, or DeepSpeed's shards; the last two need --base.
    """
    from colva.checkpoints.convert import merge as run

    _run(run, source, destination, given)


@click.command(
    "init-tiny",
    short_help="Write a toy checkpoint.",
    epilog=("\b\nExample:\n  colva init-tiny toy --family internvl2_5-qwen2 --expert mobilenetv2"),
)
@click.argument("destination", type=_PATH)
@click.option("--family", default="internvl2-phi3", show_default=True, help="Language model; `--list` names them.")
@click.option("--expert", default="radio", show_default=True, help="Vision expert, or none.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option(
    "--list",
    "every",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda c, p, v: _names(c, v),
    help="Name families and experts, and end.",
)
def init_tiny(destination: Path, family: str, expert: str, seed: int) -> None:
    """Write a toy checkpoint with random weights and a small real tokenizer, to try things out on a laptop."""
    from colva.checkpoints.init_tiny import init_tiny as run

    run(destination, family, expert, seed)
    out.print(f"{escape(family)} with {escape(expert)}: {console.path_markup(destination)}")


def _names(context: click.Context, wanted: bool) -> None:
    """Print the families and experts, and stop."""
    if not wanted or context.resilient_parsing:
        return
    from colva.checkpoints.init_tiny import FAMILIES
    from colva.model.experts import EXPERTS

    out.print(f"families: {', '.join(FAMILIES)}\nexperts:  {', '.join([*EXPERTS, 'none'])}")
    context.exit()


def _run(run: Callable[..., Report], source: Path, destination: Path, given: dict[str, Any]) -> None:
    every = given.pop("every")
    with console.progress_bar("tensors") as bar:
        task = bar.add_task("writing", total=None, note="")
        report = run(source, destination, _options(given), lambda done, of: bar.update(task, completed=done, total=of))
    show(report, destination, every)


def _options(given: dict[str, Any]) -> ConvertOptions:
    import torch

    from colva.checkpoints.convert import ConvertOptions

    size = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", given.pop("shard_size").upper())
    if size is None or float(size[1]) <= 0:
        raise UsageError("--shard-size: expected a size such as 500M or 4G")
    dtype = given.pop("dtype")
    return ConvertOptions(
        **given,
        shard_bytes=int(float(size[1]) * _UNITS[size[2]]),
        dtype=None if dtype is None else getattr(torch, dtype),
    )


def show(report: Report, destination: Path, every: bool = False) -> None:
    """Print what was mapped, part by part, what was not needed, and what was decided on the way."""
    table = Table(box=None, pad_edge=False)
    for name in ("part", "tensors", "size", "from"):
        table.add_column(name, justify="right" if name in ("tensors", "size") else "left", overflow="fold")
    parts: dict[str, list[str]] = {}
    for name in report.tensors:
        parts.setdefault(_part(name), []).append(name)
    for part, names in parts.items():
        sources = sorted({_part(source) for name in names for source in report.tensors[name].sources})
        size = sum(report.tensors[name].bytes for name in names)
        table.add_row(escape(part), str(len(names)), _size(size), escape(", ".join(sources) or "made here"))
    out.print(table, soft_wrap=False)
    out.print("missing: none")
    _listed("not needed", [f"{name}: {why}" for name, why in report.unused.items()])
    if every:
        for name, stored in report.tensors.items():
            out.print(escape(f"{name} {list(stored.shape)} <- {', '.join(stored.sources) or 'made here'}"))
    for note in report.notes:
        out.print(escape(note))
    if report.written:
        out.print(f"{report.what}: {console.path_markup(destination)}")
    else:
        out.print(f"dry run: nothing written to {escape(str(destination))}")


def _listed(what: str, lines: list[str]) -> None:
    if not lines:
        out.print(f"{what}: none")
        return
    out.print(f"{what} ({len(lines)}):")
    for line in lines[:_SHOWN]:
        out.print(f"  {escape(line)}")
    if len(lines) > _SHOWN:
        out.print(f"  and {len(lines) - _SHOWN} more")


def _part(name: str) -> str:
    """The part of a model that a tensor is in."""
    words = name.split(".")
    most = 4 if words[0] == "backbone" else 2 if words[0] in ("language_model", "model") else 1
    return ".".join(words[: min(most, max(len(words) - 1, 1))])


def _size(number: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= scale:
            return f"{number / scale:.1f} {unit}"
    return f"{number} B"
