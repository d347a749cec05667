"""Commands in forked processes that call back before each event that changes files, and the scripts that fork them.

A process that forks must have no threads, so a test asks such a script by ``ask_script``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mmvm_data.core.errors import InputError, UsageError

ROOT = Path(__file__).resolve().parents[1]
KILLED = 77
"""Exit code of a process that a hook ends."""
WRITING_EVENTS = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
Hook = Callable[[], object]


def ask_script(module: str, request: dict[str, Any], timeout: int) -> Any:
    """Run a module that reads a request as JSON and prints its answer last; returns the answer."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", module]
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, env=environment, cwd=ROOT, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_command(group: click.Command, arguments: list[str]) -> tuple[int, str]:
    """Run a command in this process; returns its exit code and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            group.main(arguments, standalone_mode=False)
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        except (InputError, UsageError) as error:
            print(error)
            code = 2
    return code, printed.getvalue()


def fork(run: Callable[[], tuple[int, str]], folder: str | Path, output: Path, hook: Hook | None = None) -> int:
    """Run a command in a fork, and return its process id.

    Args:
        run: runs the command, as ``run_command``.
        folder: changes below it count, and all renames, removals and new folders.
        output: file for what the command prints.
        hook: called before each change.
    """
    child = os.fork()
    if child:
        return child
    code = 99
    try:

        def audit(event: str, details: tuple[Any, ...]) -> None:
            if event == "open":
                path, _, flags = details
                is_written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                if not is_written or not str(path).startswith(str(folder)):
                    return
            elif event not in WRITING_EVENTS:
                return
            if hook:
                hook()

        sys.addaudithook(audit)
        code, printed = run()
        output.write_text(printed, encoding="utf-8")
    except BaseException:
        output.write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """The exit code of a fork."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
