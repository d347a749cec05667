"""A server for a team: Label Studio on a real PostgreSQL, from an empty database to the second pull."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmvm_data import cli
from mmvm_data.annotation.labelstudio.server import ServerOptions, start_server, stop_server
from mmvm_data.formats import bench
from tests.mmvm_data.annotation.conftest import Studio, answer_with, submit_annotation, tasks_of
from tests.mmvm_data.annotation.review.grids import write_grids
from tests.ports import free_port
from tests.worlds import tree

# creating the tables of Label Studio takes most of the time
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1000)]


def find_programs() -> Path:
    """The folder of initdb and pg_ctl."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("PostgreSQL is missing: install Debian's postgresql")
    return folders[-1]


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database, of a PostgreSQL that runs as a user of its own where this one is root."""
    programs, port = find_programs(), free_port()
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="mmvm-postgres-"))  # pytest's own folders are closed to other users
    (folder / "password").write_text("a secret\n")
    if user:
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)

    def run(*command: object) -> None:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr

    data = folder / "data"
    login = ("--username=studio", "--auth=scram-sha-256", "--pwfile=password")
    run(programs / "initdb", "--pgdata", data, "--no-sync", "--no-locale", "--encoding=UTF8", *login)
    settings = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} {settings}"
    run(programs / "pg_ctl", "start", "-D", data, "--wait", "--log", folder / "log", "-o", options)
    try:
        yield f"postgresql://studio:a%20secret@127.0.0.1:{port}/postgres"
    finally:
        run(programs / "pg_ctl", "stop", "-D", data, "--wait", "--mode", "immediate")
        shutil.rmtree(folder)


@pytest.fixture
def team(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A server on the database, whose login the commands find in their environment."""
    pytest.importorskip("label_studio_sdk", reason="label-studio is not installed")
    for name in ("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    files, data = tmp_path / "files", tmp_path / "studio"
    files.mkdir()
    server = start_server(files / "team", ServerOptions(port=free_port(), data=data, database=database))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    yield Studio(server, files, data)
    stop_server(server)


def review(command: str, folder: Path) -> str:
    result = CliRunner().invoke(cli.cli, ["review", command, str(folder)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_a_review_on_postgres(team: Studio) -> None:
    folder = team.files / "team"
    write_grids(folder, (4, 6, 3))
    assert (team.server.is_password_valid, team.server.is_token_valid) == (True, True)
    assert "3 new" in review("push", folder)
    assert "3 unchanged" in review("push", folder)
    project = team.client().find_project("team")
    assert project is not None
    tasks = tasks_of(team.client(), project)
    submit_annotation(team, tasks["case_000000"])
    submit_annotation(team, tasks["case_000001"], "fix", answer_with("C. 3"))
    before = tree(folder)
    assert "2 cases changed" in review("pull", folder)
    assert [(case.review.state, case.answer) for case in bench.read(folder)] == [
        ("accepted", 2),
        ("fixed", 3),
        ("proposed", 2),
    ]
    pulled = tree(folder)
    assert pulled != before
    assert "0 cases changed" in review("pull", folder)
    assert tree(folder) == pulled
    assert "2 of 3 tasks done" in review("status", folder)
    assert list(team.data.glob("*.sqlite3*")) == []  # everything is in the database
    assert team.server.credentials is not None
    assert "secret" not in team.server.credentials.read_text()
