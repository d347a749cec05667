"""Requests to a Label Studio server: its own SDK, with our rules for retries and for errors around it.

The SDK (``label_studio_sdk``) brings the resources, pagination and the refresh of personal access tokens. Its retries
are switched off, because they also repeat requests that the server may have carried out. The rules here:

- A server that answered before is waited for while it restarts (``patience``).
- A request that creates something is repeated only when the server cannot have seen it, or has refused to look at it.
  Otherwise ``OutcomeUnknown`` is raised, and the caller looks at what is there.
- Every failure is one line with the server's URL and, if it answered, the status. The token is never part of it.

The SDK takes about two seconds of CPU time to import, so it is imported when a client is made and not before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.redact import redact
from mmvm_data.io.env import env_value

if TYPE_CHECKING:
    import httpx
    from label_studio_sdk.client import LabelStudio

T = TypeVar("T")

DEFAULT_URL: Final = "http://localhost:8080"
TOKEN_VARIABLE: Final = "LABEL_STUDIO_API_KEY"
RESERVED_ADDRESS: Final = "reserved network address"
"""In the reason of a refusal (403) that has nothing to do with the token: the server is told to use an address of its
own network, such as that of a model or of a bucket."""
_OVERLOADED: Final = (429, 503)
"""The server did not look at the request; it may be sent again whatever it asks for."""
_BUSY: Final = (*_OVERLOADED, 500, 502, 504)
_FIRST_DELAY, _MAX_DELAY = 0.5, 10.0
_FIRST_CONTACT: Final = 3.0  # seconds to try a server that never answered


class ServerError(UsageError):
    """The server cannot be reached, refuses, or has lost what was asked for."""


class RequestRejected(ServerError):
    """The server understood the request and refuses it.

    Attributes:
        status: HTTP status, 4xx.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class OutcomeUnknown(ServerError):
    """A request that must not be repeated blindly may or may not have been carried out."""


@dataclass(frozen=True)
class Project:
    """A project on the server.

    Attributes:
        id: its number.
        title: its title.
        label_config: XML, see labelstud.io/tags.
        overlap: how many people get each task.
    """

    id: int
    title: str
    label_config: str
    overlap: int = 1


class Client:
    """Requests to one server. It may be used from several threads.

    Args:
        url: of the server, http:// or https://.
        token: a personal access token or a legacy token (40 hexadecimal digits); see ``read_token``.
        timeout: seconds to wait for one answer.
        patience: seconds to keep trying after a server that answered before stopped answering; a server that never
            answered gets three seconds.

    Raises:
        OptionError: ``url`` is not a URL.
        UsageError: the SDK is not installed.
    """

    def __init__(self, url: str, token: str, timeout: float = 120.0, patience: float = 180.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise OptionError("url", f"must start with http:// or https://, got {url!r}")
        httpx, _ = _import_sdk()
        try:
            httpx.URL(url)
        except httpx.InvalidURL as error:
            raise OptionError("url", f"must be a URL, got {url!r}: {error}") from error
        self.url = url.rstrip("/")
        self._token, self._timeout, self._patience = token, timeout, patience
        self._has_answered = False
        self._sdk: LabelStudio | None = None

    def find_project(self, name: str) -> Project | None:
        """The project of this title or number; None when there is none.

        Raises:
            UsageError: several projects have this title.
        """
        if name.isdigit():
            try:
                return _to_project(self.call(f"read project {name}", lambda sdk: sdk.projects.get(int(name))))
            except RequestRejected as error:
                if error.status != 404:
                    raise
                return None
        listed: list[Any] = self.call("list projects", lambda sdk: list(sdk.projects.list(title=name, page_size=100)))
        projects = [_to_project(project) for project in listed if project.title == name]
        if len(projects) > 1:
            numbers = ", ".join(str(p.id) for p in projects)
            raise OptionError(
                "project", f"must be a number where several projects are called {name!r}: one of {numbers}"
            )
        return projects[0] if projects else None

    def create_project(self, title: str, label_config: str, **settings: Any) -> Project:
        """A new project.

        Args:
            title: 3 to 50 characters.
            label_config: XML, see labelstud.io/tags.
            settings: more fields of the project, as the SDK names them.

        Raises:
            OutcomeUnknown: it may exist now.
        """
        created = self.call(
            f"create project {title!r}",
            lambda sdk: sdk.projects.create(title=title, label_config=label_config, **settings),
            creates=True,
        )
        return _to_project(created)

    def update_project(self, project: int, **settings: Any) -> None:
        """Change fields of a project."""
        self.call(f"change project {project}", lambda sdk: sdk.projects.update(project, **settings))

    def delete_project(self, project: int) -> None:
        """Delete a project with its tasks."""
        self._delete(f"project {project}", lambda sdk: sdk.projects.delete(project))

    def create_view(self, project: int, data: dict[str, Any]) -> None:
        """A view (a tab of the data manager) of a project.

        Raises:
            OutcomeUnknown: it may exist now.
        """
        self.call(
            f"create a view of project {project}",
            lambda sdk: sdk.views.create(project=project, data=cast(Any, data)),
            creates=True,
        )

    def list_views(self, project: int) -> list[tuple[int, dict[str, Any]]]:
        """Number and data of each view of a project."""
        views: list[Any] = self.call(
            f"list views of project {project}",
            lambda sdk: sdk.views.with_raw_response.list(project=project).response.json(),
        )
        return [(int(view["id"]), dict(view.get("data") or {})) for view in views]

    def update_view(self, view: int, data: dict[str, Any]) -> None:
        """Replace the data of a view."""
        self.call(f"change view {view}", lambda sdk: sdk.views.update(str(view), data=cast(Any, data)))

    def mark_ground_truth(self, annotation: int) -> None:
        """Mark an annotation as ground truth, and no other of its task."""
        self.call(f"mark annotation {annotation}", lambda sdk: sdk.annotations.update(annotation, ground_truth=True))

    def iter_tasks(self, project: int, include: str = "", page_size: int = 200) -> Iterator[dict[str, Any]]:
        """The tasks of a project, page by page.

        Args:
            project: its number.
            include: comma-separated names of the fields that are needed; "" for all fields with annotations and
                predictions.
            page_size: tasks of one request.

        Yields:
            plain JSON of a task.
        """
        more: dict[str, Any] = {"include": include} if include else {}
        page, seen, total = 1, 0, 1
        while seen < total:

            def read_page(sdk: LabelStudio, page: int = page) -> Any:
                return sdk.tasks.list(
                    project=project,
                    page=page,
                    page_size=page_size,
                    request_options={"additional_query_parameters": {"expand": "annotations"} if include else {}},
                    **more,
                ).response

            try:
                answer = self.call(f"read tasks of project {project}", read_page)
            except RequestRejected as error:
                if error.status == 404 and page > 1:  # tasks were deleted in the meantime
                    self.call(f"read project {project}", lambda sdk: sdk.projects.get(project))
                    return
                raise
            for task in answer.tasks:
                yield _to_json(task)
            seen, total, page = seen + page_size, answer.total, page + 1

    def get_task(self, task: int) -> dict[str, Any]:
        """Plain JSON of a task with its annotations, drafts and predictions."""
        answer = self.call(f"read task {task}", lambda sdk: sdk.tasks.with_raw_response.get(str(task)))
        return dict(answer.response.json())  # as the server wrote it: the SDK's task has datetimes instead of text

    def update_task_data(self, task: int, data: dict[str, Any]) -> None:
        """Replace the data of a task."""
        self.call(f"change task {task}", lambda sdk: sdk.tasks.update(str(task), data=data))

    def delete_task(self, task: int) -> None:
        """Delete a task."""
        self._delete(f"task {task}", lambda sdk: sdk.tasks.delete(str(task)))

    def import_tasks(self, project: int, payload: bytes) -> None:
        """Create tasks.

        Args:
            project: its number.
            payload: JSON list of tasks. It is sent as it is: the SDK's ``import_tasks`` walks through every number of
                every brush in Python, which took 2.9 s instead of 0.1 s for 100 tasks with four brushes each.

        Raises:
            OutcomeUnknown: they may exist now.
            RequestRejected: status 400, one of the tasks is not valid.
        """
        self.call(
            f"import tasks into project {project}",
            lambda sdk: self._post_json(sdk, f"api/projects/{project}/import", payload),
            creates=True,
        )

    def create_prediction(
        self, task: int, model_version: str, result: list[dict[str, Any]], score: float | None = None
    ) -> None:
        """A prediction of a task.

        Args:
            task: its number.
            model_version: name of what predicts.
            result: shapes and choices.
            score: how sure it is, 0..1, which the list of tasks can be ordered by.

        Raises:
            OutcomeUnknown: it may exist now.
        """
        known: dict[str, Any] = {} if score is None else {"score": score}
        self.call(
            f"create a prediction of task {task}",
            lambda sdk: sdk.predictions.create(task=task, model_version=model_version, result=result, **known),
            creates=True,
        )

    def delete_prediction(self, prediction: int) -> None:
        """Delete a prediction."""
        self._delete(f"prediction {prediction}", lambda sdk: sdk.predictions.delete(prediction))

    def list_users(self) -> dict[int, str]:
        """E-mail addresses of the users by their numbers."""
        users = self.call("list users", lambda sdk: sdk.users.list())
        return {user.id: str(user.email) for user in users}

    def call(self, action: str, request: Callable[[LabelStudio], T], *, creates: bool = False) -> T:
        """Make one request with the SDK under the rules of this module.

        Args:
            action: what the request does, for messages ("read task 3").
            request: makes it; called again for every attempt.
            creates: it must not be carried out twice.

        Raises:
            OutcomeUnknown: ``creates``, and the answer was lost.
            RequestRejected: the server refuses (4xx).
            ServerError: the server cannot be reached or keeps failing.
        """
        httpx, api_error = _import_sdk()
        self._connect()  # importing the SDK is not part of the time that the server gets
        delay, is_renewed = _FIRST_DELAY, False
        end = time.monotonic() + (self._patience if self._has_answered else _FIRST_CONTACT)
        while True:
            sdk = self._connect()
            try:
                answer = request(sdk)
                self._has_answered = True
                return answer
            except httpx.TransportError as error:
                reason = "took too long to answer" if isinstance(error, httpx.TimeoutException) else "does not answer"
                if creates and not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
                    raise OutcomeUnknown(f"{self.url} {reason} (cannot {action})") from error
                if time.monotonic() + delay > end:
                    raise ServerError(
                        f"{self.url} {reason}: is the server running? ({redact(str(error), self._token)})"
                    ) from error
            except json.JSONDecodeError as error:  # the SDK reads a failed refresh of the token as JSON
                if time.monotonic() + delay > end:
                    raise ServerError(f"{self.url} cannot {action}: its answer is not JSON") from error
            except api_error as error:
                self._has_answered = True
                status = int(error.status_code or 0)
                if status == 401 and not is_renewed and "." in self._token:
                    self._sdk, is_renewed = None, True  # access tokens last for minutes, by the server's clock
                    continue
                if 400 <= status < 500 and status not in _OVERLOADED:
                    raise self._rejection(action, status, error.body) from None
                message = f"{self.url} answered {status} (cannot {action})"
                if status < 400:  # followed, a redirected POST would become a GET
                    raise ServerError(f"{message}: is there another address of the server?") from None
                if creates and status not in _OVERLOADED:
                    raise OutcomeUnknown(f"{message}: {self._describe(error.body)}") from None
                if status not in _BUSY or time.monotonic() + delay > end:
                    raise ServerError(f"{message}: {self._describe(error.body)}") from None
            time.sleep(delay)
            delay = min(2 * delay, _MAX_DELAY)

    def _connect(self) -> LabelStudio:
        """The SDK's client; it reads the token, and asks for an access token with the first request."""
        sdk = self._sdk
        if sdk is None:
            import httpx
            from label_studio_sdk.client import LabelStudio
            from label_studio_sdk.core.api_error import ApiError

            http = httpx.Client(timeout=httpx.Timeout(self._timeout, connect=10.0), follow_redirects=False)
            try:
                # a slash at the end, or the SDK cuts the last part of a path off when it refreshes a token
                connect: Any = LabelStudio  # its constructor has no annotations
                sdk = cast(
                    "LabelStudio",
                    connect(base_url=f"{self.url}/", api_key=self._token, httpx_client=http, max_retries=0),
                )
            except ApiError as error:
                raise self._rejection("log in", 401, error.body) from None
            self._sdk = sdk
        return sdk

    def _delete(self, what: str, request: Callable[[LabelStudio], object]) -> None:
        """Delete something; it may be gone already, as after an answer that was lost."""
        try:
            self.call(f"delete {what}", request)
        except RequestRejected as error:
            if error.status != 404:
                raise

    def _post_json(self, sdk: LabelStudio, path: str, payload: bytes) -> None:
        from label_studio_sdk.core.api_error import ApiError

        answer = sdk._client_wrapper.httpx_client.request(
            path, method="POST", content=payload, headers={"content-type": "application/json"}
        )
        if answer.status_code >= 400:
            raise ApiError(status_code=answer.status_code, body=_body_of(answer))

    def _rejection(self, action: str, status: int, body: Any) -> RequestRejected:
        reason = self._describe(body)
        if status == 401 or (status == 403 and RESERVED_ADDRESS not in reason):
            return RequestRejected(
                f"{self.url} does not accept the token in {TOKEN_VARIABLE} ({status}, {reason}): copy one from its "
                "page Account & Settings",
                status,
            )
        if status == 404:
            return RequestRejected(
                f"{self.url} cannot {action}: it is not there (404, was the project deleted?): {reason}", status
            )
        return RequestRejected(f"{self.url} cannot {action} ({status}): {reason}", status)

    def _describe(self, body: Any) -> str:
        """The reason in the body of a failure, on one line of at most 300 characters, without the token."""
        if isinstance(body, dict):
            body = body.get("validation_errors") or body.get("detail") or body
        if isinstance(body, str) and body.lstrip().startswith("<"):
            return "no reason given"  # a page for people
        return " ".join(redact(str(body or "no reason given"), self._token).split())[:300]


def read_token() -> str:
    """The token in the environment variable LABEL_STUDIO_API_KEY, or in ``.env`` of the working folder.

    Raises:
        UsageError: it is in neither, or holds characters that no token has.
    """
    token = env_value(TOKEN_VARIABLE)
    if not token:
        raise UsageError(
            f"{TOKEN_VARIABLE} is not set: put the token of Label Studio's page Account & Settings there, or in .env; "
            "`mmvm-data review serve` starts a server of your own and prints the line that sets it"
        )
    if not token.isascii() or not token.isprintable():
        raise UsageError(f"{TOKEN_VARIABLE} holds characters that no token has")
    return token


def _to_project(project: Any) -> Project:
    return Project(int(project.id), project.title or "", project.label_config or "", project.maximum_annotations or 1)


def _to_json(task: Any) -> dict[str, Any]:
    return dict(task.model_dump(exclude_unset=True, warnings=False))


def _body_of(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text


def _import_sdk() -> tuple[Any, Any]:
    """The module httpx and the SDK's error."""
    try:
        import httpx
        from label_studio_sdk.core.api_error import ApiError
    except ImportError as error:
        raise UsageError("the review commands need more packages: pip install 'mmvm-data[review]'") from error
    return httpx, ApiError
