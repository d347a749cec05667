"""Starting training processes: one in place, several under torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mmvm_data.errors import UsageError

PORT = 29500


def launch(
    words: Sequence[str], processes: int, nodes: int = 1, node_rank: int = 0, master: str | None = None
) -> int:
    """Run `colva train WORDS` in several processes under torchrun, and wait for them.

    When one of them dies torchrun ends the others. Call in the order of the processes' own arguments; `--worker` is
    added, which tells them that they are among several.

    Args:
        words: arguments of `colva train`, without those that say how many processes.
        processes: on this node.
        nodes, node_rank: how many machines, and which one this is.
        master: host or host:port of the first; needed for several machines.

    Returns:
        The exit code: 0, or that of the process that failed first.

    Raises:
        UsageError: several nodes without a master.
    """
    if nodes > 1 and master is None:
        raise UsageError("--nnodes: with several machines give the first one's address with --master")
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    if nodes > 1:
        host, _, port = (master or "").partition(":")
        command += [f"--nnodes={nodes}", f"--node-rank={node_rank}"]
        command += [f"--master-addr={host}", f"--master-port={port or PORT}"]
    else:
        command += ["--standalone"]
    command += ["-m", "colva.cli", "train", *words, "--worker"]
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # the processes import what this one has imported
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (root, environment.get("PYTHONPATH", "")) if p)
    return subprocess.run(command, env=environment, check=False).returncode
