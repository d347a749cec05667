"""Starting training processes: one in place, several under torchrun."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mmvm_data.core.errors import UsageError

PORT = 29500


def launch(words: Sequence[str], processes: int, nodes: int = 1, node_rank: int = 0, master: str | None = None) -> None:
    """Run `colva train WORDS` in several processes under torchrun, and wait for them.

    When one of them dies torchrun ends the others. `--worker` is added to their arguments, which tells them that they
    are among several.

    Args:
        words: arguments of `colva train`, without those that say how many processes.
        processes: on this node.
        nodes, node_rank: how many machines, and which one this is.
        master: host or host:port of the first; needed for several machines.

    Raises:
        UsageError: several nodes without a master; a process that failed (what it said stands above).
    """
    if nodes > 1 and master is None:
        raise UsageError("--nnodes: with several machines give the first one's address with --master")
    command = [f"--nproc-per-node={processes}"]
    if nodes > 1:
        host, _, port = (master or "").partition(":")
        command += [f"--nnodes={nodes}", f"--node-rank={node_rank}"]
        command += [f"--master-addr={host}", f"--master-port={port or PORT}"]
    else:
        command += ["--standalone"]
    command += ["-m", "colva.cli", "train", *words, "--worker"]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # the processes import what this one has imported
    root = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    # torch.distributed is imported late: `colva train --help` needs none of it
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun

    try:
        torchrun(parse_args(command))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        how = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        raise UsageError(
            f"training process {rank} ended with {how}, and the others were stopped; --resume goes on from the last "
            "complete checkpoint"
        ) from error
