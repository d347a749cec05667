"""The login of a Label Studio server of one's own, kept in the user's configuration folder.

``label-studio/<name>-<digest>.json`` is readable by its owner alone. The digest stands for the server's database, so
that a folder of data that is used again finds its login again.
"""

from __future__ import annotations

import hashlib
import http.cookiejar
import json
import os
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import parse_json_object, read_json_object
from mmvm_data.io.user_folders import create_private_folder, user_config_dir

_TIMEOUT: Final = 60.0  # seconds for one answer of the server


@dataclass(frozen=True)
class Credentials:
    """How to log in.

    Attributes:
        user: e-mail address.
        password, token: of this user; not part of the repr.
    """

    user: str
    password: str = field(repr=False)
    token: str = field(repr=False)


def credentials_path(folder: Path, database: str | None) -> Path:
    """Return where the login of a server is kept.

    Args:
        folder: the server's data.
        database: ``postgresql://…``, or None for sqlite in ``folder``. Its user and password do not matter.
    """
    name, key = folder.name, os.fsencode(folder.resolve())
    if database is not None:
        parts = urlsplit(database)
        name = parts.path.strip("/")
        key = f"{parts.hostname}:{parts.port or 5432}/{name}".encode()
    digest = hashlib.sha256(key).hexdigest()[:12]
    return user_config_dir() / "label-studio" / f"{name[:60].replace(os.sep, '-')}-{digest}.json"


def read_credentials(path: Path) -> Credentials | None:
    """The login in a file; None when there is no such file.

    Raises:
        InputError: the file cannot be read, or holds no login.
    """
    if not path.exists():
        return None
    values = read_json_object(path)
    for name in ("user", "password", "token"):
        if not isinstance(values.get(name), str):
            raise InputError(path, "expected a text; remove the file to begin again", name)
    return Credentials(values["user"], values["password"], values["token"])


def write_credentials(path: Path, credentials: Credentials) -> None:
    """Keep a login, readable by the owner of the file alone.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        create_private_folder(path.parent)
        with atomic_write(path) as out:
            os.fchmod(out.fileno(), 0o600)  # before anything is written
            out.write(json.dumps(asdict(credentials), indent=1) + "\n")
    except OSError as error:
        raise OutputError(error.filename or path, error) from error


def fetch_token(url: str, user: str, password: str) -> str | None:
    """Log in as the page does, and return the user's token; None when the server does not accept the password, or
    does not answer.

    Args:
        url: of a server that is up.
        user, password: of the login page.
    """
    cookies = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(cookies))
    page = f"{url}/user/login/"
    try:
        opener.open(page, timeout=_TIMEOUT).close()
        csrf = next((cookie.value for cookie in cookies if cookie.name == "csrftoken"), None)
        form = {"email": user, "password": password, "csrfmiddlewaretoken": csrf or ""}
        request = urllib.request.Request(page, urlencode(form).encode(), {"Referer": page})
        opener.open(request, timeout=_TIMEOUT).close()
        with opener.open(f"{url}/api/current-user/token", timeout=_TIMEOUT) as answer:
            token = parse_json_object(answer.read(), url).get("token")
    except (OSError, InputError):  # urllib's errors are OSErrors: 401 without a session
        return None
    return token if isinstance(token, str) else None


def is_token_valid(url: str, token: str) -> bool:
    """Whether a server that is up accepts a token."""
    request = urllib.request.Request(f"{url}/api/current-user/whoami", headers={"Authorization": f"Token {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
