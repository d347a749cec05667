"""A real Label Studio server, started once, and what tests do with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.server import Server, ServerOptions, start_server, stop_server
from mmvm_data.pipeline.build import BuildOptions, build
from tests.ports import free_port
from tests.worlds import davis


@dataclass
class Studio:
    """The server and its user; ``files`` is the folder that it serves images from."""

    server: Server
    files: Path
    data: Path

    @property
    def url(self) -> str:
        return self.server.url

    def client(self, **options: Any) -> Client:
        return Client(self.url, self.server.token, **options)

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        """A request that the client has no method for, as a person's browser makes it."""
        headers = {"Authorization": f"Token {self.server.token}"}
        answer = httpx.request(method, self.url + path, json=body, params=params or None, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def restart(self) -> None:
        stop_server(self.server)
        self.start(self.port)

    def start(self, port: int) -> None:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LABEL_STUDIO_API_KEY", self.server.token if self.server else "3f" * 20)
            environment.setenv("LABEL_STUDIO_PASSWORD", "a-long-passphrase")
            self.server = start_server(self.files / "any", ServerOptions(port=port, data=self.data))


@pytest.fixture(scope="session")
def running_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Starts in about 40 seconds, once for each worker that needs it."""
    pytest.importorskip("label_studio_sdk", reason="label-studio is not installed")
    running = Studio(None, tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("studio"))  # type: ignore[arg-type]
    running.start(free_port())
    yield running
    stop_server(running.server)


@pytest.fixture
def studio(running_studio: Studio) -> Studio:
    """The server of the session, also after a test that stopped it and failed."""
    if running_studio.server.process.poll() is not None:
        running_studio.start(running_studio.port)
    return running_studio


@pytest.fixture
def built(studio: Studio, request: pytest.FixtureRequest) -> Path:
    """A benchmark of four cases, named after the test, below the folder that the server reads."""
    name = request.node.name[:40].replace("[", "-").replace("]", "")
    build("davis", davis(studio.files / f"{name}-world"), studio.files / name, BuildOptions(max_cases=4))
    return studio.files / name


@pytest.fixture
def annotate(studio: Studio) -> Callable[..., dict[str, Any]]:
    """``submit_annotation`` to the server of the session."""
    return partial(submit_annotation, studio)


def submit_annotation(
    studio: Studio,
    task: dict[str, Any],
    verdict: str | None = "accept",
    change: Callable[[list[dict[str, Any]]], None] = lambda results: None,
) -> dict[str, Any]:
    """Submit an annotation: the proposal with the verdict, after ``change(results)``; None leaves the verdict out."""
    results = [dict(r) for r in task["predictions"][0]["result"]]
    if verdict:
        results.append(choice("verdict", verdict))
    change(results)
    body = {"result": results, "lead_time": 12.5}
    return dict(studio.request("POST", f"/api/tasks/{task['id']}/annotations/", body).json())


def choice(name: str, *values: str) -> dict[str, Any]:
    """A result of a checkbox."""
    return {"id": name, "from_name": name, "to_name": "question", "type": "choices", "value": {"choices": [*values]}}


def answer_with(option: str) -> Callable[[list[dict[str, Any]]], None]:
    """A change of an annotation's results: another answer than the proposed one."""

    def change(results: list[dict[str, Any]]) -> None:
        results[:] = [*(r for r in results if r["from_name"] != "answer"), choice("answer", option)]

    return change


def tasks_of(client: Client, project: Project) -> dict[str, dict[str, Any]]:
    """The tasks of a project with everything that they hold, by case."""
    tasks = [client.get_task(task["id"]) for task in client.iter_tasks(project.id, "id")]
    return {task["data"]["case_id"]: task for task in tasks}
