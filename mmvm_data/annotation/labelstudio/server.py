"""A Label Studio server of one's own: for one annotator on a laptop, or with Postgres for a team."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Final
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from mmvm_data.annotation.labelstudio.client import TOKEN_VARIABLE
from mmvm_data.annotation.labelstudio.credentials import (
    Credentials,
    credentials_path,
    fetch_token,
    is_token_valid,
    read_credentials,
    write_credentials,
)
from mmvm_data.core.errors import OutputError, UsageError, escape_unprintable
from mmvm_data.core.options import OptionError, options
from mmvm_data.io.env import env_value
from mmvm_data.io.files import atomic_write
from mmvm_data.io.parent_watchdog import start_until_parent_exits
from mmvm_data.io.user_folders import create_private_folder, make_files_private, user_data_dir

USER: Final = "annotator@localhost.localdomain"
PASSWORD_VARIABLE: Final = "LABEL_STUDIO_PASSWORD"
_START_TIMEOUT: Final = 900.0  # seconds; a database is created in one to five minutes
_PHASES: Final = (
    (b"Starting development server", "answers in a moment"),
    (b"Initializing database", "creates its database"),
)
"""Text in the log of a server that starts -> what it does; the latest first."""
_SECRET_KEY: Final = re.compile(rb"(?:export )?SECRET_KEY=['\"]?")
_NO_TELEMETRY: Final = {
    "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
    "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
    "LABEL_STUDIO_SENTRY_DSN": "",  # the server has addresses of its own where these are not set
    "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
    "LABEL_STUDIO_SENTRY_RATE": "0",
    "LABEL_STUDIO_FRONTEND_SENTRY_RATE": "0",
    "LABEL_STUDIO_FEATURE_FLAGS_OFFLINE": "true",
}
"""The server reads names with this prefix first, whatever else the environment has."""


@dataclass
class Server:
    """A running server.

    Attributes:
        url: its address.
        user: e-mail address to log in with.
        folder: of its data.
        process: a watchdog that ends the server when this process ends, however it does.
        password, token: of this user; not part of the repr.
        is_password_valid, is_token_valid: whether the server accepts them; it does not where somebody has changed them.
        is_key_replaced: whether the server's key for sessions could not be read and was replaced.
        credentials: the file in which they are kept.
    """

    url: str
    user: str
    folder: Path
    process: subprocess.Popen[bytes]
    password: str = field(repr=False)
    token: str = field(repr=False)
    is_password_valid: bool = True
    is_token_valid: bool = True
    is_key_replaced: bool = False
    credentials: Path | None = None


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


def start_server(
    directory: Path,
    options: ServerOptions | None = None,
    reset_password: bool = False,
    progress: Callable[[float, str], None] | None = None,
) -> Server:
    """Start Label Studio for a folder and wait until it answers.

    The user's password and token are those of LABEL_STUDIO_PASSWORD and LABEL_STUDIO_API_KEY (environment or .env), or
    else those that were kept when the server was started first (``credentials``), or random ones, which are kept then.
    They reach the server through its environment only. Those of the environment are written nowhere.

    Args:
        directory: the benchmark, or the folder of clips; the server may serve files below its parent folder.
        options: where the server listens and keeps its data.
        reset_password: whether the user gets a new password (that of LABEL_STUDIO_PASSWORD, or a random one) first.
        progress: called with the seconds since the start, and with what the server does.

    Raises:
        UsageError: Label Studio is not installed, or the server does not start.
        OptionError: the port is in use, the host is not an address, or the data would lie in ``directory``.
        OutputError: the server's folder cannot be written.
    """
    options = options or ServerOptions()
    report = progress or (lambda seconds, phase: None)
    executable = _find_executable()
    if _is_port_in_use(options.host, options.port):
        raise OptionError("port", f"must be free, but something listens on {options.host}:{options.port}")
    folder = (options.data or default_folder(directory)).resolve()
    if folder.is_relative_to(directory.resolve()):
        raise OptionError("data", f"must lie outside of {directory}, which is given to others: it holds passwords")
    path = credentials_path(folder, options.database)
    kept = read_credentials(path)
    given = env_value(PASSWORD_VARIABLE)
    password = given or (None if reset_password or kept is None else kept.password) or secrets.token_urlsafe(9)
    token = env_value(TOKEN_VARIABLE) or (kept.token if kept else secrets.token_hex(20))
    environment = dict(os.environ) | _server_environment(directory, folder, options.database)
    login = {PASSWORD_VARIABLE: password, "LABEL_STUDIO_USERNAME": USER, "LABEL_STUDIO_USER_TOKEN": token}
    start = time.monotonic()
    try:
        create_private_folder(folder)
        make_files_private(folder)
        is_key_replaced = _ensure_secret_key(folder / ".env")
        log_handle = os.open(folder / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error
    with open(log_handle, "ab") as log:
        if reset_password:
            report(0.0, "sets the password")
            _reset_password(executable, environment, password, log, folder)
        if not given:  # before the server has it, so that it is known when this process is killed
            write_credentials(path, Credentials(USER, password, token))
        begin = log.seek(0, os.SEEK_END)
        command = [executable, "start", "--no-browser", "--internal-host", options.host, "--port", str(options.port)]
        # sqlite's files too are the owner's alone
        process = start_until_parent_exits(command, log, environment | login, umask=0o077)
    url = f"http://{options.host}:{options.port}"
    server = Server(url, USER, folder, process, password, token, is_key_replaced=is_key_replaced, credentials=path)
    try:
        while not _is_healthy(url):
            seconds = time.monotonic() - start
            if process.poll() is not None or seconds > _START_TIMEOUT:
                raise UsageError(f"Label Studio did not start{_last_line(folder)}; its log: {folder / 'server.log'}")
            report(seconds, _read_phase(folder, begin))
            time.sleep(0.5)
        _check_login(server, path, is_kept=not given)
    except BaseException:
        stop_server(server)
        raise
    return server


def stop_server(server: Server) -> None:
    """Stop the server and wait until it has ended; kill it after 20 seconds."""
    if server.process.stdin is not None:
        server.process.stdin.close()
    try:
        server.process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


def _find_executable() -> str:
    program = Path(sys.executable).with_name("label-studio")
    executable = str(program) if program.is_file() else shutil.which("label-studio")
    if not executable:
        raise UsageError("the Label Studio server is not installed: pip install 'mmvm-data[review-server]'")
    return executable


def _ensure_secret_key(path: Path) -> bool:
    """Write the key that signs sessions and tokens where Label Studio looks for it, unless it has one.

    A key that Label Studio draws begins with "$" once in fifty, which it reads as the name of another variable
    (django-environ): each start would draw another key, and log everybody out. Such a key is replaced.

    Returns:
        whether a key was replaced.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    keys = [line for line in lines if _SECRET_KEY.match(line)]
    is_unreadable = bool(keys) and _SECRET_KEY.sub(b"", keys[-1]).startswith(b"$")  # the last one counts
    if is_unreadable or not lines:
        kept = [line for line in lines if line not in keys]
        with atomic_write(path, "wb") as out:
            os.fchmod(out.fileno(), 0o600)  # before anything is written
            out.write(b"\n".join([*kept, b"SECRET_KEY=" + secrets.token_hex(32).encode()]) + b"\n")
    return is_unreadable


def _reset_password(executable: str, environment: dict[str, str], password: str, log: IO[bytes], folder: Path) -> None:
    """Give the user of a server that is not running a new password; a server without the user is left as it is."""
    ran = subprocess.run(
        [executable, "reset_password", "--username", USER],
        input=f"{password}\n".encode(),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,  # without a terminal it reads the password from its input
        umask=0o077,
    )
    log.write(ran.stdout)
    answers = (b"successfully changed", b"same as current", b"not found")
    if ran.returncode or not any(answer in ran.stdout for answer in answers):
        raise UsageError(f"Label Studio did not set the password; its log: {folder / 'server.log'}")


def _check_login(server: Server, path: Path, is_kept: bool) -> None:
    """Compare the password and the token with what the server accepts, and keep a token that it has instead."""
    token = fetch_token(server.url, server.user, server.password)
    server.is_password_valid = token is not None
    server.is_token_valid = is_token_valid(server.url, server.token)
    if token is not None and not server.is_token_valid:
        server.token, server.is_token_valid = token, is_token_valid(server.url, token)
        if is_kept:
            write_credentials(path, Credentials(server.user, server.password, token))


def _read_phase(folder: Path, begin: int) -> str:
    """What a server that starts does, by its log from a byte on."""
    with open(folder / "server.log", "rb") as log:
        log.seek(begin)
        text = log.read()
    return next((phase for mark, phase in _PHASES if mark in text), "loads its program")


def _last_line(folder: Path) -> str:
    lines = (folder / "server.log").read_text("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f" ({escape_unprintable(last[:200])})" if last else ""


def _server_environment(directory: Path, folder: Path, database: str | None) -> dict[str, str]:
    environment = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(directory.resolve().parent),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",  # `ingest assist` runs beside it
        **_NO_TELEMETRY,
    }
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):  # a storage may name no server of one's own network by itself
        environment["LABEL_STUDIO_S3_ENDPOINT"] = endpoint
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
