"""A Label Studio of one's own: for one annotator on a laptop, or with Postgres for a team."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from mmvm_data.annotation.labelstudio.client import TOKEN, setting
from mmvm_data.core.errors import OutputError, UsageError

USER: Final = "annotator@localhost.localdomain"
PASSWORD: Final = "LABEL_STUDIO_PASSWORD"
_SLOWEST_START: Final = 300.0


@dataclass
class Server:
    """A server that was started.

    Attributes:
        url, user: where, and who logs in; the password and the token are in ``password`` and ``token``, and are not
            shown by repr.
    """

    url: str
    user: str
    process: subprocess.Popen[bytes]
    password: str = field(repr=False)
    token: str = field(repr=False)


def start(
    directory: Path,
    port: int = 8080,
    host: str = "127.0.0.1",
    data: Path | None = None,
    database: str | None = None,
) -> Server:
    """Start Label Studio for a benchmark and wait until it answers.

    The user's password and token are those of LABEL_STUDIO_PASSWORD and LABEL_STUDIO_API_KEY (environment or .env),
    else made up anew; they reach the server through its environment only.

    Args:
        directory: the benchmark; the server may serve files below the folder that holds it.
        port, host: where it listens.
        data: the server's folder (sqlite, uploads, its log); None for ``annotation/server`` in the benchmark.
        database: ``postgresql://user:password@host:port/name`` instead of sqlite.

    Raises:
        UsageError: Label Studio is not installed, the port is taken, the URL is none, or it does not start.
        OutputError: ``data`` cannot be written.
    """
    program = Path(sys.executable).with_name("label-studio")
    found = str(program) if program.is_file() else shutil.which("label-studio")
    if not found:
        raise UsageError("label-studio is not installed: pip install 'mmvm-data[review]'")
    if _taken(host, port):
        raise UsageError(f"port {port} is taken: give another --port, or stop what listens there")
    folder = (data or directory / "annotation" / "server").resolve()
    password = setting(PASSWORD) or secrets.token_urlsafe(9)
    token = setting(TOKEN) or secrets.token_hex(20)
    environment = (
        dict(os.environ)
        | _environment(directory, folder, database)
        | {
            PASSWORD: password,
            "LABEL_STUDIO_USERNAME": USER,
            "LABEL_STUDIO_USER_TOKEN": token,
        }
    )
    command = [found, "start", "--no-browser", "--internal-host", host, "--port", str(port)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "server.log", "ab") as log:
            # a session of its own: the server is ended as a whole, and Ctrl-C reaches us first
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error
    url = f"http://{host}:{port}"
    end = time.monotonic() + _SLOWEST_START
    while not _healthy(url):
        if process.poll() is not None or time.monotonic() > end:
            process.terminate()
            raise UsageError(f"Label Studio did not start; its log: {folder / 'server.log'}")
        time.sleep(0.5)
    return Server(url, USER, process, password, token)


def stop(server: Server) -> None:
    """End the server and wait for it."""
    server.process.terminate()
    try:
        server.process.wait(20)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


def _environment(directory: Path, folder: Path, database: str | None) -> dict[str, str]:
    found = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(directory.resolve().parent),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    if database is None:
        return found
    parts = urlsplit(database)
    if parts.scheme not in ("postgres", "postgresql") or not parts.hostname or not parts.path.strip("/"):
        raise UsageError("--database: expected postgresql://user:password@host:port/name")
    return found | {
        "DJANGO_DB": "default",
        "POSTGRE_USER": unquote(parts.username or "postgres"),
        "POSTGRE_PASSWORD": unquote(parts.password or ""),
        "POSTGRE_HOST": parts.hostname,
        "POSTGRE_PORT": str(parts.port or 5432),
        "POSTGRE_NAME": unquote(parts.path.strip("/")),
    }


def _taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
