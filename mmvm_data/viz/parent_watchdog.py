"""Runs a program until the parent process ends.

Use: ``python -m mmvm_data.viz.parent_watchdog PROGRAM ARGUMENT …``.

The parent holds the other end of the standard input. However it ends, killed included, the pipe closes; the program is
then terminated. mongod has no such option, and one that is left behind keeps its folder locked.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading


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
