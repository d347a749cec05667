"""A model that Label Studio asks while people draw (an ML backend, labelstud.io/guide/ml_create): its HTTP protocol,
and how a project is connected with it.

Label Studio sends its requests to this server, so it must be able to reach it. ``/predict`` with a context is what
somebody just drew; without one, somebody opened a task, and the server would keep the answer as a prediction.
"""

from __future__ import annotations

import http.server
import json
import time
from typing import Any, Final, Protocol

from mmvm_data.annotation.labelstudio.client import (
    RESERVED_ADDRESS,
    Client,
    OutcomeUnknown,
    Project,
    RequestRejected,
)
from mmvm_data.annotation.labelstudio.project import SETTLE_SECONDS
from mmvm_data.annotation.labelstudio.shapes import Result
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.io.console import err
from mmvm_data.io.json_files import parse_json_object

_MAX_BODY: Final = 64_000_000  # bytes; a task with drafts of many brushes
_NO_ACTION: Final = ("/webhook", "/train", "/validate", "/delete", "/duplicate_model")


class Model(Protocol):
    """What answers.

    Attributes:
        name: title of the backend, and its version.
    """

    name: str

    def suggest(self, task: dict[str, Any], marks: list[Any]) -> list[Result]:
        """The results to show for what somebody just drew.

        Args:
            task: with its data, and with the drafts and annotations of this person.
            marks: results that were drawn with a smart tool and not answered yet.

        Raises:
            ValueError: the request cannot be answered; one line.
            InputError: a file is broken.
        """
        ...

    def prepare(self, task: dict[str, Any]) -> None:
        """Somebody opened a task: get ready, without making them wait."""
        ...


def open_backend(model: Model, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """A server that answers Label Studio; ``serve_forever`` starts it.

    Raises:
        OptionError: it cannot listen there.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/versions":
                self._answer(200, {"versions": [model.name]})
            else:
                self._answer(200 if path in ("/", "/health") else 404, {"status": "UP", "model_class": model.name})

        def do_POST(self) -> None:
            try:
                length = int(self.headers.get("Content-Length") or 0)
                if not 0 <= length <= _MAX_BODY:
                    raise ValueError(f"a request may have {_MAX_BODY} bytes")
                request = parse_json_object(self.rfile.read(length) or b"{}", "request")
                self._answer(*_respond(model, self.path.partition("?")[0], request))
            except (ValueError, InputError) as error:
                self._answer(400, {"error": str(error)})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            try:
                self.end_headers()
                self.wfile.write(payload)
            except ConnectionError:
                self.close_connection = True
                err.print(
                    "Label Studio did not wait for this answer; mark the object again, its pictures are encoded now"
                )

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged."""

    try:
        return http.server.ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise OptionError("port", f"must be free at {host}, got {port}: {error.strerror or error}") from error


def _respond(model: Model, path: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer to a request."""
    if path == "/setup":
        return 200, {"model_version": model.name}
    if path in _NO_ACTION:
        return 200, {}
    if path != "/predict":
        return 404, {"error": f"there is no {path!r:.60}"}
    tasks, params = request.get("tasks"), request.get("params") or {}
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        raise ValueError("expected a list of tasks with their data")
    context = params.get("context") if isinstance(params, dict) else None
    if not isinstance(context, dict):
        for task in tasks:
            model.prepare(task)
        return 200, {"results": [[] for _ in tasks]}  # no prediction: an empty one would hide the others
    marks = context.get("result") or []
    if not isinstance(marks, list):
        raise ValueError("expected a list of results in the context")
    answers = [{"result": model.suggest(task, marks), "model_version": model.name, "score": 0.0} for task in tasks]
    return 200, {"results": answers}


def connect_backend(client: Client, project: Project, name: str, url: str) -> int:
    """Make a project ask a backend while people draw, unless it does so already.

    Another backend of this name, as from an earlier run at another address, is changed to this one.

    Args:
        client, project: the server.
        name: title of the backend.
        url: at which the server reaches it; it must be running.

    Returns:
        its number.

    Raises:
        UsageError: the server does not accept it.
    """
    settings: dict[str, Any] = {"project": project.id, "url": url, "title": name, "is_interactive": True}

    def find() -> int | None:
        return next((number for number, address, _ in _list_backends(client, project) if address == url), None)

    if (number := find()) is not None:
        return number
    earlier = [number for number, _, title in _list_backends(client, project) if title == name]
    try:
        if earlier:
            client.call(f"connect {url}", lambda sdk: sdk.ml.update(earlier[0], **settings))
        else:
            client.call(f"connect {url}", lambda sdk: sdk.ml.create(**settings), creates=True)
    except OutcomeUnknown:
        time.sleep(SETTLE_SECONDS)
        if find() is None:
            raise
    except RequestRejected as error:
        # Label Studio 1.23 adds the backend, and then refuses to add a webhook in its own network besides
        if RESERVED_ADDRESS not in str(error) or find() is None:
            raise UsageError(
                f"{error}. The server must reach {url}; in its own network only if it was started with "
                "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false, as `mmvm-data review serve` starts it"
            ) from error
    number = find()
    assert number is not None  # it was made, and nobody else deletes it
    return number


def _list_backends(client: Client, project: Project) -> list[tuple[int, str, str]]:
    """Number, URL and title of the backends of a project that are asked while people draw."""
    listed: list[Any] = client.call(f"list models of project {project.id}", lambda sdk: sdk.ml.list(project=project.id))
    return [
        (int(backend.id), str(backend.url).rstrip("/"), str(backend.title))
        for backend in listed
        if backend.is_interactive
    ]
