"""A Label Studio server of one's own: for one annotator on a laptop, or with Postgres for a team."""

from __future__ import annotations

import hashlib
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
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from mmvm_data.annotation.labelstudio.client import TOKEN_VARIABLE
from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.core.options import OptionError, options
from mmvm_data.io.env import env_value
from mmvm_data.io.user_folders import create_private_folder, make_files_private, user_data_dir

USER: Final = "annotator@localhost.localdomain"
PASSWORD_VARIABLE: Final = "LABEL_STUDIO_PASSWORD"
_START_TIMEOUT: Final = 300.0  # seconds


@dataclass
class Server:
    """A running server.

    Attributes:
        url: its address.
        user: e-mail address to log in with.
        folder: of its data.
        password, token: of this user; not part of the repr.
    """

    url: str
    user: str
    folder: Path
    process: subprocess.Popen[bytes]
    password: str = field(repr=False)
    token: str = field(repr=False)


def _check_database(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql") or not parts.hostname or not parts.path.strip("/"):
        raise ValueError("must be postgresql://user:password@host:port/name")  # not repeated: it holds a password
    return url


@options
class ServerOptions:
    """Where a server listens and keeps its data.

    Attributes:
        port, host: where it listens.
        data: the server's folder (sqlite with passwords and tokens, uploads, its log); None for ``default_folder``. Its
            owner alone may enter it.
        database: ``postgresql://user:password@host:port/name`` instead of sqlite.
    """

    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    host: str = "127.0.0.1"
    data: Path | None = None
    database: Annotated[str, AfterValidator(_check_database)] | None = None


def default_folder(directory: Path) -> Path:
    """Return where the server of a benchmark keeps its data: in the user's folder, not in one that is shared."""
    real = directory.resolve()
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    return user_data_dir() / "label-studio" / f"{real.name[:60]}-{digest}"


def start_server(directory: Path, options: ServerOptions | None = None) -> Server:
    """Start Label Studio for a folder and wait until it answers.

    The user's password and token are those of LABEL_STUDIO_PASSWORD and LABEL_STUDIO_API_KEY (environment or .env),
    or random ones; they reach the server through its environment only.

    Args:
        directory: the benchmark, or the folder of clips; the server may serve files below its parent folder.
        options: where the server listens and keeps its data.

    Raises:
        UsageError: Label Studio is not installed, or the server does not start.
        OptionError: the port is in use, or the host is not an address.
        OutputError: the server's folder cannot be written.
    """
    options = options or ServerOptions()
    host, port = options.host, options.port
    program = Path(sys.executable).with_name("label-studio")
    executable = str(program) if program.is_file() else shutil.which("label-studio")
    if not executable:
        raise UsageError("the Label Studio server is not installed: pip install 'mmvm-data[review-server]'")
    if _is_port_in_use(host, port):
        raise OptionError("port", f"must be free, but something listens on {host}:{port}")
    folder = (options.data or default_folder(directory)).resolve()
    password = env_value(PASSWORD_VARIABLE) or secrets.token_urlsafe(9)
    token = env_value(TOKEN_VARIABLE) or secrets.token_hex(20)
    environment = (
        dict(os.environ)
        | _server_environment(directory, folder, options.database)
        | {
            PASSWORD_VARIABLE: password,
            "LABEL_STUDIO_USERNAME": USER,
            "LABEL_STUDIO_USER_TOKEN": token,
        }
    )
    command = [executable, "start", "--no-browser", "--internal-host", host, "--port", str(port)]
    try:
        create_private_folder(folder)
        make_files_private(folder)
        log_handle = os.open(folder / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(log_handle, "ab") as log:
            # a session of its own, so that Ctrl-C reaches this process first, which then stops the server
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,  # sqlite's files too are the owner's alone
            )
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error
    url = f"http://{host}:{port}"
    end = time.monotonic() + _START_TIMEOUT
    while not _is_healthy(url):
        if process.poll() is not None or time.monotonic() > end:
            process.terminate()
            raise UsageError(f"Label Studio did not start; its log: {folder / 'server.log'}")
        time.sleep(0.5)
    return Server(url, USER, folder, process, password, token)


def stop_server(server: Server) -> None:
    """Stop the server and wait until it has ended; kill it after 20 seconds."""
    server.process.terminate()
    try:
        server.process.wait(20)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


def _server_environment(directory: Path, folder: Path, database: str | None) -> dict[str, str]:
    environment = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(directory.resolve().parent),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    if database is None:
        return environment
    parts = urlsplit(database)
    return environment | {
        "DJANGO_DB": "default",
        "POSTGRE_USER": unquote(parts.username or "postgres"),
        "POSTGRE_PASSWORD": unquote(parts.password or ""),
        "POSTGRE_HOST": parts.hostname or "",
        "POSTGRE_PORT": str(parts.port or 5432),
        "POSTGRE_NAME": unquote(parts.path.strip("/")),
    }


def _is_port_in_use(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        try:
            return probe.connect_ex((host, port)) == 0
        except socket.gaierror as error:
            raise OptionError("host", f"must be an address of this machine, got {host!r}: {error}") from error


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
