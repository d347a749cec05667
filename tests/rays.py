"""A Ray cluster of one machine for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port

# the cluster listens on this machine only; Ray reads this once, when it is imported
os.environ["RAY_AUTH_MODE"] = "disabled"
ROOT = Path(__file__).resolve().parents[1]


def cluster(cpus: int = 2) -> Iterator[str]:
    """Starts a cluster, gives its address, and ends it."""
    port = free_port()
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--include-dashboard=false"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--num-cpus={cpus}", "--disable-usage-stats"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    head = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = ""
        assert head.stdout is not None
        for line in head.stdout:
            said += line
            if "Ray runtime started" in line:
                break
        else:
            raise RuntimeError(f"Ray did not start:\n{said}")
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        try:
            head.wait(timeout=30)
        except subprocess.TimeoutExpired:
            head.kill()
            head.wait()
        if head.stdout:
            head.stdout.close()
