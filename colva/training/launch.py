"""Starts the training processes of a node under torchrun."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import UsageError

DEFAULT_PORT = 29500


def launch(
    arguments: Sequence[str], num_processes: int, num_nodes: int = 1, node_rank: int = 0, master: str | None = None
) -> None:
    """Run `colva train ARGUMENTS` in several processes under torchrun, and wait for them.

    When one of them dies torchrun ends the others. `--worker` is added to their arguments: it marks a process that was
    started by this command.

    Args:
        arguments: of `colva train`, without those that set the number of processes.
        num_processes: on this node.
        num_nodes, node_rank: number of machines, and which of them this is.
        master: host or host:port of the first machine; required for several machines.

    Raises:
        UsageError: several nodes without a master; a process that failed (its own message was printed before).
    """
    if num_nodes > 1 and master is None:
        raise UsageError("--nnodes: several machines need the address of the first one (--master)")
    command = [f"--nproc-per-node={num_processes}"]
    if num_nodes > 1:
        host, _, port = (master or "").partition(":")
        command += [f"--nnodes={num_nodes}", f"--node-rank={node_rank}"]
        command += [f"--master-addr={host}", f"--master-port={port or DEFAULT_PORT}"]
    else:
        command += ["--standalone"]
    command += ["-m", "colva.cli", "train", *arguments, "--worker"]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    # the processes must import the same packages as this one
    root = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    # imported late: `colva train --help` does not need torch.distributed
    from torch.distributed import run as torchrun_module
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    torchrun: Any = torchrun_module  # without annotations
    try:
        torchrun.run(torchrun.parse_args(command))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        cause = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        raise UsageError(
            f"training process {rank} ended with {cause}, and the others were stopped; --resume continues from the "
            "last complete checkpoint"
        ) from error
