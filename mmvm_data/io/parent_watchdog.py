"""Runs a program until the parent process ends.

Use: ``python -m mmvm_data.io.parent_watchdog PROGRAM ARGUMENT …``.

The parent holds the other end of the standard input. However it ends, killed included, the pipe closes; the program is
then terminated. Neither mongod nor Label Studio has such an option; one that is left behind keeps its folder or port.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO


def start_until_parent_exits(
    command: list[str], output: IO[bytes], env: Mapping[str, str], umask: int = -1
) -> subprocess.Popen[bytes]:
    """Start ``command`` below a watchdog: it ends with this process, also when that is killed.

    Args:
        command: program and arguments.
        output: gets what it prints.
        env: its environment.
        umask: of the files that it writes; -1 for that of this process.

    Returns:
        the watchdog, which has the program's exit code; closing its ``stdin`` terminates the program. Both have a
        session of their own, so Ctrl-C reaches this process alone.
    """
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), env.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", "mmvm_data.io.parent_watchdog", *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**env, "PYTHONPATH": paths},
        start_new_session=True,
        umask=umask,
    )


def run_until_parent_exits(command: list[str]) -> int:
    """Run ``command`` until standard input closes or it exits.

    Returns:
        Its exit code; 127 when it cannot be started.
    """
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror or error}", file=sys.stderr)
        return 127

    def terminate_at_end_of_input() -> None:
        # not through sys.stdin: a blocked reader holds its lock when the interpreter exits
        while os.read(0, 1024):
            pass
        program.terminate()

    threading.Thread(target=terminate_at_end_of_input, daemon=True).start()
    return program.wait()


if __name__ == "__main__":
    sys.exit(run_until_parent_exits(sys.argv[1:]))
