"""`colva convert`, `colva merge`, `colva init-tiny` and `colva init-small`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from mmvm_data.core.errors import UsageError
from mmvm_data.io import console
from mmvm_data.io.console import escape, out

if TYPE_CHECKING:
    from colva.checkpoints.convert import ConvertOptions, ConvertReport

_PATH = click.Path(path_type=Path)
_EXISTING = click.Path(path_type=Path, exists=True)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_MAX_LISTED = 8


def _add_convert_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that convert and merge share."""
    options = (
        click.option("--base", type=_EXISTING, help="The model that a .pth or DeepSpeed's shards were trained on."),
        click.option("--lora-alpha", type=float, help="LoRA's alpha, for a .pth, which does not hold it."),
        click.option(
            "--to",
            type=click.Choice(["colva", "original"]),
            default="colva",
            show_default=True,
            help="original: the layout of the released InternVL2 and CoLVA folders.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "bfloat16", "float16"]),
            help="Of the weights written.  [default: as stored]",
        ),
        click.option("--shard-size", default="4G", show_default=True, help="Largest file; also the memory needed."),
        click.option(
            "--prompt-style",
            type=click.Choice(["colva", "published-eval"]),
            help="Of the model written; published-eval for weights of the published training.  [default: the base's]",
        ),
        click.option("--ignore", multiple=True, metavar="PATTERN", help="Leave these unknown tensors out; * and ?."),
        click.option("--dry-run", is_flag=True, help="Print what would be done, and write nothing."),
        click.option("--list", "list_tensors", is_flag=True, help="Also list every tensor and its source."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    short_help="Convert a published checkpoint to a CoLVA one, or back.",
    epilog=(
        "\b\nExamples:\n"
        "  colva convert InternVL2-4B internvl2-4b --expert radio-v2.1_half.pth.tar\n"
        "  colva convert iter_18252.pth adapter-4b --base internvl2-4b --lora-alpha 256"
    ),
)
@click.argument("source", type=_EXISTING)
@click.argument("destination", type=_PATH)
@click.option("--expert", help="Add an expert: a folder or file of RADIO, DINOv2 …, or mobilenetv2.")
@click.option(
    "--adapter", type=_EXISTING, help="Put in trained parameters: a .pth, an adapter folder, DeepSpeed's shards."
)
@click.option("--template", help="Chat template in place of the folder's.")
@click.option("--seed", default=0, show_default=True, help="Seed of a new adapter.")
@_add_convert_options
def convert(source: Path, destination: Path, **arguments: Any) -> None:
    """Convert a checkpoint.

    SOURCE is a folder of InternVL2, 2.5, 3, 3.5 or CoLVA in the original layout; one of transformers (InternVL,
    Qwen2-VL, Qwen2.5-VL, Qwen3-VL, LLaVA-1.5 and OneVision); a CoLVA folder, with --to original; what mmengine or
    DeepSpeed saved of a training, with --base; or an expert by itself. Tensors that are missing, unknown or of another
    shape are listed, and nothing is written.
    """
    from colva.checkpoints.convert import convert

    _run_conversion(convert, source, destination, arguments)


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
@_add_convert_options
def merge(source: Path, destination: Path, **arguments: Any) -> None:
    """Fold trained parameters into their model, and write the complete model.

    SOURCE is an adapter folder, a .pth of mmengine, or DeepSpeed's shards; the last two need --base.
    """
    from colva.checkpoints.convert import merge

    _run_conversion(merge, source, destination, arguments)


@click.command(
    "init-tiny",
    short_help="Write a toy checkpoint.",
    epilog=("\b\nExample:\n  colva init-tiny toy --family internvl2_5-qwen2 --expert mobilenetv2"),
)
@click.argument("destination", type=_PATH)
@click.option("--family", default="internvl2-phi3", show_default=True, help="Language model; `--list` prints them.")
@click.option("--expert", default="radio", show_default=True, help="Vision expert, or none.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option(
    "--init",
    type=click.Choice(["transformers", "fan-in"]),
    default="transformers",
    show_default=True,
    help="Initial values of the language model; fan-in to train it from scratch.",
)
@click.option(
    "--list",
    "list_names",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, parameter, value: _print_names(context, value),
    help="Print families and experts, and exit.",
)
def init_tiny(destination: Path, family: str, expert: str, seed: int, init: str) -> None:
    """Write a toy checkpoint with random weights and a small real tokenizer, to try things out on a laptop."""
    from colva.checkpoints.init_tiny import init_tiny

    init_tiny(destination, family, expert, seed, init)
    out.print(f"{escape(family)} with {escape(expert)}: {console.path_markup(destination)}")


@click.command(
    "init-small",
    short_help="Write a small pretrained checkpoint.",
    epilog=("\b\nExample:\n  colva init-small small --llm smollm2-135m --vision mobilenetv2 --expert mobilenetv2"),
)
@click.argument("destination", type=_PATH)
@click.option(
    "--llm", default="smollm2-135m", show_default=True, help="Language model: pretrained, or `scratch`, untrained."
)
@click.option("--vision", default="mobilenetv2", show_default=True, help="Vision tower, behind a new projector.")
@click.option("--expert", default="mobilenetv2", show_default=True, help="Vision expert, with a new adapter.")
@click.option("--family", default="internvl", show_default=True, help="internvl or llava, how images are prepared.")
@click.option("--seed", default=0, show_default=True, help="Seed of the new layers.")
@click.option("--tile", default=224, show_default=True, help="Pixels a side of a picture's tile; 32 is one token.")
@click.option("--expert-side", default=512, show_default=True, help="Pixels of the longer side for the expert.")
def init_small(
    destination: Path, llm: str, vision: str, expert: str, family: str, seed: int, tile: int, expert_side: int
) -> None:
    """Write a small model of pretrained parts, to train and evaluate on a laptop.

    The weights come from Python packages, and nothing is downloaded. A missing package is named with the command that
    installs it. The projector and the adapter are new.
    """
    from colva.checkpoints.init_small import init_small

    init_small(destination, llm, vision, expert, family, seed, tile, expert_side)
    parts = f"language model {escape(llm)}, vision encoder {escape(vision)}, expert {escape(expert)}"
    out.print(f"{parts}: {console.path_markup(destination)}")


def _print_names(context: click.Context, is_set: bool) -> None:
    """Print the families and experts, and exit."""
    if not is_set or context.resilient_parsing:
        return
    from colva.checkpoints.init_tiny import FAMILIES
    from colva.model.experts import EXPERTS

    out.print(f"families: {', '.join(FAMILIES)}\nexperts:  {', '.join([*EXPERTS, 'none'])}")
    context.exit()


def _run_conversion(
    conversion: Callable[..., ConvertReport], source: Path, destination: Path, arguments: dict[str, Any]
) -> None:
    list_tensors = arguments.pop("list_tensors")
    with console.progress_bar("tensors") as bar:
        task = bar.add_task("writing", total=None, note="")
        report = conversion(
            source,
            destination,
            _build_options(arguments),
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    print_report(report, destination, list_tensors)


def _build_options(arguments: dict[str, Any]) -> ConvertOptions:
    import torch

    from colva.checkpoints.convert import ConvertOptions

    size = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", arguments.pop("shard_size").upper())
    if size is None or float(size[1]) <= 0:
        raise UsageError("--shard-size: expected a size such as 500M or 4G")
    dtype = arguments.pop("dtype")
    return ConvertOptions(
        **arguments,
        shard_bytes=int(float(size[1]) * _UNITS[size[2]]),
        dtype=None if dtype is None else getattr(torch, dtype),
    )


def print_report(report: ConvertReport, destination: Path, list_tensors: bool = False) -> None:
    """Print the mapped tensors part by part, those that are not needed, and the notes."""
    table = Table(box=None, pad_edge=False)
    for name in ("part", "tensors", "size", "from"):
        table.add_column(name, justify="right" if name in ("tensors", "size") else "left", overflow="fold")
    parts: dict[str, list[str]] = {}
    for name in report.tensors:
        parts.setdefault(_part_name(name), []).append(name)
    for part, names in parts.items():
        sources = sorted({_part_name(source) for name in names for source in report.tensors[name].sources})
        size = sum(report.tensors[name].num_bytes for name in names)
        table.add_row(escape(part), str(len(names)), _format_size(size), escape(", ".join(sources) or "new"))
    out.print(table, soft_wrap=False)
    out.print("missing: none")
    _print_lines("not needed", [f"{name}: {why}" for name, why in report.unused.items()])
    if list_tensors:
        for name, stored in report.tensors.items():
            out.print(escape(f"{name} {list(stored.shape)} <- {', '.join(stored.sources) or 'new'}"))
    for note in report.notes:
        out.print(escape(note))
    if report.is_written:
        out.print(f"{report.result}: {console.path_markup(destination)}")
    else:
        out.print(f"dry run: nothing written to {escape(str(destination))}")


def _print_lines(title: str, lines: list[str]) -> None:
    if not lines:
        out.print(f"{title}: none")
        return
    out.print(f"{title} ({len(lines)}):")
    for line in lines[:_MAX_LISTED]:
        out.print(f"  {escape(line)}")
    if len(lines) > _MAX_LISTED:
        out.print(f"  and {len(lines) - _MAX_LISTED} more")


def _part_name(name: str) -> str:
    """Return the name of the part of a model that a tensor is in."""
    words = name.split(".")
    most = 4 if words[0] == "backbone" else 2 if words[0] in ("language_model", "model") else 1
    return ".".join(words[: min(most, max(len(words) - 1, 1))])


def _format_size(number: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= scale:
            return f"{number / scale:.1f} {unit}"
    return f"{number} B"
