"""`colva train`: parses, and starts what was asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from mmvm_data.core.errors import OutputError, UsageError


@click.command(
    short_help="Train a stage from a configuration file.",
    epilog=(
        "\b\nExamples:\n"
        "  colva train configs/pretrain/tiny.yaml\n"
        "  colva train configs/pretrain/tiny.yaml --resume --set run.steps=200"
    ),
)
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Another value, such as run.batch=32.")
@click.option("--resume", is_flag=True, help="Go on from the newest complete checkpoint, if there is one.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained on, for how long and in how much memory.")
@click.option("--deepspeed", metavar="ZERO", help="zero1, zero2, zero3, or a DeepSpeed JSON file.")
@click.option("--fsdp", is_flag=True, help="Shard the model over the processes by PyTorch (FSDP2), as zero3 does.")
@click.option(
    "--engine",
    type=click.Choice(["ours", "xtuner"]),
    default="ours",
    show_default=True,
    help="Who runs the steps; the losses are the same. See docs/xtuner.md.",
)
@click.option("--nproc", default=1, show_default=True, type=click.IntRange(1), help="Processes on this machine.")
@click.option("--nnodes", default=1, show_default=True, type=click.IntRange(1), help="Machines.")
@click.option("--node-rank", default=0, show_default=True, type=click.IntRange(0), help="Which machine this is.")
@click.option("--master", metavar="HOST[:PORT]", help="Address of machine 0, when there are several.")
@click.option("--worker", is_flag=True, hidden=True, help="One of several processes, started by this command.")
def train(
    config: Path,
    changes: tuple[str, ...],
    resume: bool,
    dry_run: bool,
    deepspeed: str | None,
    fsdp: bool,
    engine: str,
    nproc: int,
    nnodes: int,
    node_rank: int,
    master: str | None,
    worker: bool,
) -> None:
    """Train a stage as a configuration file says; the published runs and small ones are in configs/."""
    if node_rank >= nnodes:
        raise UsageError(f"--node-rank {node_rank}: machines are numbered from 0 to {nnodes - 1}")
    if fsdp and (deepspeed or engine != "ours"):
        raise UsageError("--fsdp: does not go with --deepspeed, nor with --engine xtuner")
    if engine == "xtuner":
        from colva.training.xtuner_imports import prepare

        prepare()  # before transformers, which the next line imports, finds torchvision
    from colva.training.zero import built_in, quiet, zero_config

    quiet()
    zero = zero_config(deepspeed) if deepspeed else None
    if fsdp and nproc * nnodes == 1 and not worker and not dry_run:
        raise UsageError("--fsdp: shards over several processes; say how many with --nproc")
    if not dry_run and not worker and (nproc > 1 or nnodes > 1 or zero is not None):
        from colva.training.launch import launch
        from colva.training.run import checked

        checked(config, changes)  # a typing error is said once, not by every process
        words = [str(config), *(part for change in changes for part in ("--set", change))]
        words += ["--resume"] if resume else []
        words += ["--deepspeed", deepspeed] if deepspeed else []
        words += ["--fsdp"] if fsdp else []
        words += ["--engine", engine] if engine != "ours" else []
        launch(words, nproc, nnodes, node_rank, master)
        return
    from colva.training.run import checked, run

    settings = checked(config, changes)
    if dry_run:
        from colva.training.estimate import dry_run as describe

        click.echo(json.dumps(describe(settings, nproc * nnodes, built_in(3) if fsdp else zero), indent=1))
        return
    try:
        if engine == "xtuner":
            from colva.training import xtuner

            final = xtuner.run(config, changes, resume, zero)
        else:
            final = run(settings, resume, zero, fsdp)
    except OutputError as error:
        raise UsageError(f"{error}; the last complete checkpoint is untouched, --resume goes on from it") from error
    if os.environ.get("RANK", "0") == "0":
        click.echo(f"trained weights: {final}")
