"""Starting a server: a login that works and is kept, nothing sent elsewhere, and no process left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mmvm_data.annotation.labelstudio import credentials, server
from mmvm_data.annotation.labelstudio.credentials import Credentials
from mmvm_data.annotation.labelstudio.server import ServerOptions, start_server, stop_server
from mmvm_data.annotation.review.commands import _show_login
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from tests.ports import free_port

ROOT = Path(__file__).parents[4]
FAKE = Path(__file__).with_name("fake_studio.py")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to review, for a user whose folders are new."""
    for name in ("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "bench").mkdir()
    return tmp_path / "bench"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``label-studio`` is the program of ``fake_studio``."""
    program = tmp_path / "bin/label-studio"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
    program.chmod(0o755)
    monkeypatch.setattr(server, "_find_executable", lambda: str(program))
    return program


@contextmanager
def started(bench: Path, reset_password: bool = False) -> Iterator[server.Server]:
    running = start_server(bench, ServerOptions(port=free_port()), reset_password)
    try:
        yield running
    finally:
        stop_server(running)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_server_that_is_started_again_has_the_login_that_was_kept(bench: Path, fake: Path, tmp_path: Path) -> None:
    with started(bench) as first:
        assert (first.is_password_valid, first.is_token_valid) == (True, True)
    (kept,) = files_below(tmp_path / "config")
    assert kept == first.credentials
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    with started(bench) as again:
        assert (again.password, again.token) == (first.password, first.token)
        assert (again.is_password_valid, again.is_token_valid) == (True, True)
    assert list(bench.iterdir()) == []


def test_sessions_outlive_a_restart(bench: Path, fake: Path) -> None:
    """The key that signs them is kept, and is one that Label Studio can read again."""
    with started(bench) as first:
        path = first.folder / ".env"
        key = path.read_text()
    assert re.fullmatch(r"SECRET_KEY=[0-9a-f]{64}\n", key)
    assert path.stat().st_mode & 0o777 == 0o600
    with started(bench):
        assert path.read_text() == key
    path.write_text("SECRET_KEY=of an older server\n")
    with started(bench) as older:
        assert path.read_text() == "SECRET_KEY=of an older server\n"
        assert not older.is_key_replaced


@pytest.mark.parametrize("key", ["$(0w2", "'$(0w2'"])
def test_a_key_that_is_read_as_the_name_of_a_variable_is_replaced(
    bench: Path, fake: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """Label Studio reads no key in such a file, and would draw another one."""
    with started(bench) as first:
        path = first.folder / ".env"
    path.write_text(f"# kept\nSECRET_KEY=earlier\n\nOTHER=$1\nSECRET_KEY={key}\n")
    path.chmod(0o644)
    with started(bench) as replaced:
        assert replaced.is_key_replaced
        new = path.read_text()
        _show_login(replaced, bench)
    assert re.fullmatch(r"# kept\n\nOTHER=\$1\nSECRET_KEY=[0-9a-f]{64}\n", new)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "SECRET_KEY began with $" in capsys.readouterr().out
    with started(bench) as again:
        assert path.read_text() == new
        assert not again.is_key_replaced
        _show_login(again, bench)
    assert "SECRET_KEY" not in capsys.readouterr().out


def test_a_password_that_is_not_known_is_reported_and_set_again(bench: Path, fake: Path, tmp_path: Path) -> None:
    with started(bench) as first:
        pass
    shutil.rmtree(tmp_path / "config")
    with started(bench) as unknown:
        assert (unknown.is_password_valid, unknown.is_token_valid) == (False, False)
    with started(bench, reset_password=True) as new:
        assert new.password != first.password
        assert new.token == first.token  # read from the server
        assert (new.is_password_valid, new.is_token_valid) == (True, True)
    with started(bench) as again:
        assert (again.password, again.token, again.is_password_valid) == (new.password, new.token, True)


def test_a_password_of_the_environment_is_written_nowhere(
    bench: Path, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_PASSWORD", "of the environment")
    with started(bench) as first:
        assert (first.password, first.is_password_valid) == ("of the environment", True)
    assert files_below(tmp_path / "config") == []
    monkeypatch.setenv("LABEL_STUDIO_PASSWORD", "another one")
    with started(bench) as wrong:
        assert (wrong.is_password_valid, wrong.is_token_valid) == (False, False)
    with started(bench, reset_password=True) as right:
        assert (right.password, right.token, right.is_token_valid) == ("another one", first.token, True)


def test_resetting_the_password_of_a_new_server_is_no_error(bench: Path, fake: Path) -> None:
    with started(bench, reset_password=True) as running:
        assert running.is_password_valid


def test_nothing_is_sent_elsewhere(bench: Path, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABEL_STUDIO_COLLECT_ANALYTICS", "LABEL_STUDIO_SENTRY_DSN", "SENTRY_DSN"):
        monkeypatch.setenv(name, "true")
    with started(bench) as running:
        seen = json.loads((running.folder / "environment.json").read_text())
    # the server reads LABEL_STUDIO_NAME before NAME, and has addresses of its own for a name that is not set at all
    assert (seen["LABEL_STUDIO_SENTRY_DSN"], seen["LABEL_STUDIO_FRONTEND_SENTRY_DSN"]) == ("", "")
    for name in ("COLLECT_ANALYTICS", "LATEST_VERSION_CHECK"):
        assert seen[f"LABEL_STUDIO_{name}"] == "false"


def test_data_inside_the_benchmark_is_refused(bench: Path, fake: Path) -> None:
    with pytest.raises(OptionError, match="data must lie outside"):
        start_server(bench, ServerOptions(port=free_port(), data=bench / "studio"))
    assert list(bench.iterdir()) == []


def test_a_server_that_ends_while_it_starts_names_its_last_line(
    bench: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.write_text("#!/bin/sh\necho the disk is full; exit 1\n")
    with pytest.raises(UsageError, match=r"did not start \(the disk is full\); its log: .*server.log"):
        start_server(bench, ServerOptions(port=free_port()))


def test_what_a_starting_server_does_is_reported(bench: Path, fake: Path) -> None:
    seen: list[tuple[float, str]] = []
    stop_server(
        start_server(
            bench, ServerOptions(port=free_port()), progress=lambda seconds, phase: seen.append((seconds, phase))
        )
    )
    assert seen[0][1] in ("loads its program", "creates its database")
    assert [seconds for seconds, _ in seen] == sorted(seconds for seconds, _ in seen)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_command_that_ends_takes_its_server_with_it(bench: Path, fake: Path, how: int) -> None:
    code = (
        "import sys\n"
        "from mmvm_data.annotation.labelstudio import server\n"
        "program = sys.argv.pop(); server._find_executable = lambda: program\n"
        "from mmvm_data.cli import main; main()\n"
    )
    command = [sys.executable, "-c", code, "review", "serve", bench, "--port", str(free_port()), fake]
    with subprocess.Popen(command, cwd=bench.parent, stdout=subprocess.PIPE, env=_with_path()) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, b"")
        assert any(b"its database" in line for line in lines)
        child = int((server.default_folder(bench) / "pid").read_text())
        assert psutil.pid_exists(child)
        process.send_signal(how)
        process.wait(120)
    while psutil.pid_exists(child):  # where it stays, the time limit of the test ends it
        time.sleep(0.1)


def _with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_login_belongs_to_the_database(tmp_path: Path) -> None:
    path = credentials.credentials_path(tmp_path / "a", None)
    assert path != credentials.credentials_path(tmp_path / "b", None)
    database = credentials.credentials_path(tmp_path / "a", "postgresql://ann:secret@db/studio")
    assert database == credentials.credentials_path(tmp_path / "b", "postgres://bo:other@db:5432/studio")
    assert "secret" not in str(database)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "login.json"
    assert credentials.read_credentials(path) is None
    login = Credentials("a@b", "pass-1", "token-1")
    credentials.write_credentials(path, login)
    assert credentials.read_credentials(path) == login
    assert "pass-1" not in repr(login) and "token-1" not in repr(login)
    path.write_text('{"user": "a@b", "password": 3}')
    with pytest.raises(InputError, match=r"login\.json: password: expected a text"):
        credentials.read_credentials(path)
