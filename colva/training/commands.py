"""The commands `colva train` and `colva configs`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from colva.training.config_files import find_config, list_shipped_configs
from mmvm_data.core.errors import OutputError, UsageError, escape_unprintable


@click.command(
    short_help="Train a stage from a configuration file.",
    epilog=(
        "\b\nExamples:\n"
        "  colva train pretrain/tiny\n"
        "  colva train configs/pretrain/tiny.yaml --resume --set trainer.max_steps=200"
    ),
)
@click.argument("config")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value of the configuration, such as trainer.global_batch_size=32.",
)
@click.option("--resume", is_flag=True, help="Continue from the newest complete checkpoint, if there is one.")
@click.option("--dry-run", is_flag=True, help="Print data, number of steps and memory without training.")
@click.option("--deepspeed", metavar="ZERO", help="zero1, zero2, zero3, or a DeepSpeed JSON file.")
@click.option("--fsdp", is_flag=True, help="Shard the model over the processes with PyTorch's FSDP2, like zero3.")
@click.option(
    "--engine",
    type=click.Choice(["native", "xtuner"]),
    default="native",
    show_default=True,
    help="What runs the steps; the losses are the same. See docs/xtuner.md.",
)
@click.option("--nproc", default=1, show_default=True, type=click.IntRange(1), help="Processes on this machine.")
@click.option("--nnodes", default=1, show_default=True, type=click.IntRange(1), help="Number of machines.")
@click.option("--node-rank", default=0, show_default=True, type=click.IntRange(0), help="Index of this machine.")
@click.option("--master", metavar="HOST[:PORT]", help="Address of machine 0, if there are several.")
@click.option("--worker", is_flag=True, hidden=True, help="One of several processes, started by this command.")
def train(
    config: str,
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
    """Train a stage from a configuration: a YAML file, or a name that `colva configs` lists."""
    if node_rank >= nnodes:
        raise UsageError(f"--node-rank {node_rank}: machines are numbered from 0 to {nnodes - 1}")
    if fsdp and (deepspeed or engine != "native"):
        raise UsageError("--fsdp: cannot be combined with --deepspeed or --engine xtuner")
    path = find_config(config)
    if engine == "xtuner":
        from colva.training.xtuner_imports import prepare_imports

        prepare_imports()  # before transformers, which the next line imports, looks for torchvision
    from colva.training.zero import load_deepspeed_config, remove_stale_build_locks, silence_warnings

    silence_warnings()
    zero = load_deepspeed_config(deepspeed) if deepspeed else None
    if zero is not None and not worker and not dry_run:
        for lock in remove_stale_build_locks():
            click.echo(f"removed {escape_unprintable(str(lock))}, left by a compilation that was killed", err=True)
    if fsdp and nproc * nnodes == 1 and not worker and not dry_run:
        raise UsageError("--fsdp: shards over several processes; set their number with --nproc")
    if not dry_run and not worker and (nproc > 1 or nnodes > 1 or zero is not None):
        from colva.training.launch import launch
        from colva.training.run import load_config, lock_run

        # a mistake, and another run in the folder, is reported once and not by every process
        with lock_run(load_config(path, changes).output_dir, node_rank):
            pass
        arguments = [str(path), *(part for change in changes for part in ("--set", change))]
        arguments += ["--resume"] if resume else []
        arguments += ["--deepspeed", deepspeed] if deepspeed else []
        arguments += ["--fsdp"] if fsdp else []
        arguments += ["--engine", engine] if engine != "native" else []
        launch(arguments, nproc, nnodes, node_rank, master)
        return
    from colva.training.run import load_config
    from colva.training.run import train as run_training

    settings = load_config(path, changes)
    if dry_run:
        from colva.training.estimate import estimate_run

        estimate = estimate_run(settings, nproc * nnodes, zero, fsdp)
        click.echo(json.dumps(estimate, indent=1))
        return
    try:
        if engine == "xtuner":
            from colva.training.xtuner import train_with_xtuner

            final: Path = train_with_xtuner(path, changes, resume, zero)
        else:
            final = run_training(settings, resume, zero, fsdp)
    except OutputError as error:
        message = f"{error}; the last complete checkpoint is untouched, --resume continues from it"
        raise UsageError(message) from error
    if os.environ.get("RANK", "0") == "0":
        click.echo(f"trained weights: {escape_unprintable(str(final))}")


@click.command(
    short_help="List the configurations that `colva train` knows by name.",
    epilog="\b\nExamples:\n  colva configs\n  colva train pretrain/tiny --dry-run",
)
def configs() -> None:
    """List the configurations that come with the package, with the hardware that each needs.

    Memory figures marked as estimates are counted from the networks' shapes; `colva train NAME --dry-run` counts them
    for a given number of processes and model.
    """
    shipped = list_shipped_configs()
    width = max(len(config.name) for config in shipped)
    for config in shipped:
        click.echo(f"{config.name:<{width}}  {config.hardware or 'hardware not stated'}")
        click.echo(f"{'':<{width}}  {config.title}")
