"""Keeps a program running until whoever started this ends.

Use: ``python -m mmvm_data.viz.parent_watchdog PROGRAM ARGUMENT …``.

The starter holds the other end of our standard input. However it ends, killed included, the pipe closes; the program is
then asked to end. mongod has no such switch of its own, and one that is left behind keeps its folder locked.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading


def keep(command: list[str]) -> int:
    """Run ``command`` until standard input closes or it ends by itself.

    Returns:
        its exit code; 127 when it cannot be started.
    """
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror or error}", file=sys.stderr)
        return 127

    def end() -> None:
        # not through sys.stdin: a reader that waits holds its lock when the interpreter ends
        while os.read(0, 1024):
            pass
        program.terminate()

    threading.Thread(target=end, daemon=True).start()
    return program.wait()


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
