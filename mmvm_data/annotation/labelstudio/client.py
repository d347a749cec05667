"""A thin layer over Label Studio's REST interface (labelstud.io/api): timeouts, retries, errors of one line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmvm_data.core.errors import UsageError

if TYPE_CHECKING:
    import httpx

DEFAULT_URL: Final = "http://localhost:8080"
TOKEN: Final = "LABEL_STUDIO_API_KEY"
_BUSY: Final = (429, 502, 503, 504)
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0


class ServerError(UsageError):
    """The server cannot be reached, refuses, or has lost what was asked for."""


class Refused(ServerError):
    """The server understood the request and says no (4xx)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unsure(ServerError):
    """A request that must not be repeated blindly may or may not have been carried out."""


@dataclass(frozen=True)
class Project:
    """A project on the server."""

    id: int
    title: str
    config: str


class Client:
    """Requests to one server. A server that answered before is waited for while it restarts.

    Args:
        url: of the server.
        token: a personal access token, or a legacy one; see ``token``.
        timeout: seconds to wait for one answer.
        patience: seconds to go on trying after the server stopped answering; a server that never answered gets three
            seconds.

    Raises:
        UsageError: httpx is not installed, or the URL is none.
    """

    def __init__(self, url: str, token: str, timeout: float = 120.0, patience: float = 180.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"--url {url}: expected http://… or https://…")
        self.url = url.rstrip("/")
        self._token, self._patience, self._met = token, patience, False
        self._http = _httpx().Client(base_url=self.url, timeout=_httpx().Timeout(timeout, connect=10.0))
        self._headers: dict[str, str] = {}

    def get(self, path: str, **params: Any) -> Any:
        """JSON of a GET."""
        return self._call("GET", path, params=params)

    def send(self, method: str, path: str, body: Any = None, *, once: bool = False, **params: Any) -> Any:
        """JSON of another request.

        Args:
            once: it must not be carried out twice; a lost answer raises Unsure instead of a second try.
        """
        return self._call(method, path, params=params, json=body, once=once)

    def tasks(self, project: int, include: str = "", size: int = 200) -> Iterator[dict[str, Any]]:
        """The tasks of a project page by page, which no time limit stops, however many there are.

        Args:
            include: names of the fields that are wanted, by commas; "" for all, with annotations and predictions.
            size: tasks a page.
        """
        more = {"fields": "all"} | ({"include": include, "expand": "annotations"} if include else {})
        page, seen, total = 1, 0, 1
        while seen < total:
            try:
                found = self.get("/api/tasks", project=project, page=page, page_size=size, **more)
            except Refused as error:
                if error.status == 404 and page > 1:  # tasks were deleted meanwhile
                    self.get(f"/api/projects/{project}")
                    return
                raise
            yield from found["tasks"]
            seen, total, page = seen + size, found["total"], page + 1

    def project(self, name: str) -> Project | None:
        """The project of this title or number; None when there is none.

        Raises:
            UsageError: several have this title.
        """
        if name.isdigit():
            try:
                found = [self.get(f"/api/projects/{name}")]
            except Refused as error:
                if error.status != 404:
                    raise
                found = []
        else:
            listed = self.get("/api/projects", title=name, page_size=1000)
            found = [p for p in listed["results"] if p["title"] == name]
        if len(found) > 1:
            numbers = ", ".join(str(p["id"]) for p in found)
            raise UsageError(f"{self.url}: several projects are called {name!r}; give --project one of {numbers}")
        return Project(found[0]["id"], found[0]["title"], found[0]["label_config"]) if found else None

    def people(self) -> dict[int, str]:
        """Number of a user -> e-mail address."""
        return {user["id"]: user["email"] for user in self.get("/api/users")}

    def _call(self, method: str, path: str, once: bool = False, **request: Any) -> Any:
        httpx = _httpx()
        wait, renewed = _FIRST_WAIT, False
        end = time.monotonic() + (self._patience if self._met else 3.0)
        while True:
            try:
                answer = self._http.request(method, path, headers=self._authorised(), **request)
            except httpx.TransportError as error:
                reason = "took too long to answer" if isinstance(error, httpx.TimeoutException) else "does not answer"
                if once and not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
                    raise Unsure(f"{self.url} {reason}") from error
                if time.monotonic() + wait > end:
                    raise ServerError(f"{self.url} {reason}: is the server running? ({error})") from error
            else:
                self._met = True
                if answer.status_code == 401 and not renewed and "Bearer" in self._headers.get("Authorization", ""):
                    self._headers, renewed = {}, True  # access tokens last for minutes
                    continue
                if answer.status_code < 400:
                    return answer.json() if answer.content else None
                if answer.status_code < 500 and answer.status_code != 429:
                    raise self._refused(answer, path)
                if once and answer.status_code not in (429, 503):
                    raise Unsure(f"{self.url} answered {answer.status_code} to {method} {path}")
                if (answer.status_code not in _BUSY and answer.status_code != 500) or time.monotonic() + wait > end:
                    raise ServerError(f"{self.url} answered {answer.status_code} to {method} {path}: {_detail(answer)}")
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _authorised(self) -> dict[str, str]:
        if not self._headers:
            if self._token.count(".") == 2:  # a personal access token buys short-lived ones
                answer = self._http.post("/api/token/refresh", json={"refresh": self._token})
                if answer.status_code >= 500:
                    raise ServerError(f"{self.url} answered {answer.status_code} when the token was shown")
                if answer.status_code >= 400:
                    raise self._refused(answer, "/api/token/refresh", 401)
                self._headers = {"Authorization": f"Bearer {answer.json()['access']}"}
            else:
                self._headers = {"Authorization": f"Token {self._token}"}
        return self._headers

    def _refused(self, answer: httpx.Response, path: str, status: int | None = None) -> Refused:
        status = status or answer.status_code
        if status in (401, 403):
            return Refused(
                f"{self.url} does not accept the token in {TOKEN} ({_detail(answer)}): copy one from its page "
                "Account & Settings",
                status,
            )
        if status == 404:
            return Refused(f"{self.url}{path} is not there (was the project deleted?): {_detail(answer)}", status)
        return Refused(f"{self.url}{path} refused ({status}): {_detail(answer)}", status)


def token(folder: Path | None = None) -> str:
    """The token of the environment variable LABEL_STUDIO_API_KEY, else of ``.env`` in the working folder.

    Raises:
        UsageError: it is in neither.
    """
    found = setting(TOKEN, folder)
    if not found:
        raise UsageError(
            f"{TOKEN} is not set: put the token of Label Studio's page Account & Settings there, or in .env"
        )
    if not found.isascii() or not found.isprintable():
        raise UsageError(f"{TOKEN} holds characters that no token has")
    return found


def setting(name: str, folder: Path | None = None) -> str:
    """A value of the environment, else of the file ``.env`` (lines NAME=value); "" when it is in neither."""
    if os.environ.get(name):
        return os.environ[name].strip()
    file = (folder or Path()) / ".env"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
    for line in lines:
        key, _, value = line.strip().removeprefix("export ").partition("=")
        if key.strip() == name:
            return value.strip().strip("\"'")
    return ""


def _detail(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.reason_phrase or "no reason given"
    if not isinstance(body, dict):
        return str(body)[:300]
    said = body.get("validation_errors") or body.get("detail") or body
    return " ".join(str(said).split())[:300]


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise UsageError("the review commands need more packages: pip install 'mmvm-data[review]'") from error
    return httpx
