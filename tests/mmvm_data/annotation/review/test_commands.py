"""The commands without a server: what they print, and where tokens come from and never go."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mmvm_data import cli
from mmvm_data.annotation.labelstudio import server
from mmvm_data.annotation.labelstudio.client import read_token
from mmvm_data.annotation.labelstudio.project import make_image_url
from mmvm_data.annotation.review import commands
from mmvm_data.annotation.review.commands import review
from mmvm_data.annotation.review.push import ReviewPushOptions
from mmvm_data.annotation.tracks.push import TrackPushOptions
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from tests.ports import free_port

PAGE = Path(__file__).resolve().parents[4] / "docs/annotator.md"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(a) for a in arguments])


def test_the_page_names_every_command_and_only_options_that_exist() -> None:
    text = PAGE.read_text()
    assert all(f"mmvm-data review {name}" in text for name in review.commands)
    known = {option for command in review.commands.values() for p in command.params for option in p.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= known


def test_a_token_is_asked_for_and_read_from_env_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="LABEL_STUDIO_API_KEY is not set"):
        read_token()
    (tmp_path / ".env").write_text("# ours\nexport LABEL_STUDIO_API_KEY='abc'\nOTHER=1\n")
    assert read_token() == "abc"
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "def")
    assert read_token() == "def"
    result = invoke("review", "push", tmp_path, "--url", "ftp://x")
    assert isinstance(result.exception, UsageError)
    assert "def" not in result.output + str(result.exception)


def test_without_the_extra_one_line_says_so(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['label_studio_sdk'] = None\n"
        "sys.argv = ['mmvm-data', 'review', 'status', sys.argv[1]]\n"
        "from mmvm_data.cli import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        capture_output=True,
        text=True,
        env={"LABEL_STUDIO_API_KEY": "x", "PYTHONPATH": str(PAGE.parents[1])},
    )
    assert ran.returncode == 2
    assert ran.stderr.strip() == "error: the review commands need more packages: pip install 'mmvm-data[review]'"


def test_serve_prints_address_and_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_PASSWORD"):
        monkeypatch.delenv(name, raising=False)

    def start_nothing(*arguments: object) -> server.Server:
        process = subprocess.Popen([sys.executable, "-c", ""])
        return server.Server("http://127.0.0.1:1", server.USER, tmp_path / "data", process, "pass-1", "token-1")

    monkeypatch.setattr(commands, "start_server", start_nothing)
    output = invoke("review", "serve", tmp_path).output
    assert "http://127.0.0.1:1" in output
    assert server.USER in output
    assert "pass-1" in output
    assert "LABEL_STUDIO_API_KEY=token-1" in output
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "token-1")
    monkeypatch.setenv("LABEL_STUDIO_PASSWORD", "pass-1")
    output = invoke("review", "serve", tmp_path).output
    assert "token-1" not in output
    assert "pass-1" not in output
    assert "token-1" not in repr(start_nothing())
    assert list(tmp_path.iterdir()) == []


def test_the_servers_data_is_the_users_alone_and_outside_the_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, bench = tmp_path / "bin/label-studio", tmp_path / "bench"
    program.parent.mkdir()
    bench.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import http.server, os, pathlib, sys\n"
        "folder = pathlib.Path(os.environ['LABEL_STUDIO_BASE_DATA_DIR'])\n"
        "(folder / 'label_studio.sqlite3').write_text(os.environ['LABEL_STUDIO_USER_TOKEN'])\n"
        "class Healthy(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200)\n"
        "        self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[-1])), Healthy).serve_forever()\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(server, "_find_executable", lambda: str(program))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = server.default_folder(bench)
    assert folder.is_relative_to(tmp_path / "home/mmvm_data")
    assert folder != server.default_folder(tmp_path / "other/bench")
    folder.mkdir(parents=True)
    (folder / "label_studio.sqlite3").touch(0o644)
    folder.chmod(0o755)
    running = server.start_server(bench, server.ServerOptions(port=free_port()))
    server.stop_server(running)
    assert running.folder == folder
    assert (folder / "label_studio.sqlite3").read_text() == running.token
    assert {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {
        folder.name: 0o700,
        ".env": 0o600,
        "label_studio.sqlite3": 0o600,
        "server.log": 0o600,
    }
    assert list(bench.iterdir()) == []


def test_a_postgres_url_is_passed_through(tmp_path: Path) -> None:
    environment = server._server_environment(tmp_path, tmp_path / "d", "postgresql://ann:p%40ss@db.example:5433/studio")
    assert {k: v for k, v in environment.items() if k.startswith(("POSTGRE", "DJANGO"))} == {
        "DJANGO_DB": "default",
        "POSTGRE_USER": "ann",
        "POSTGRE_PASSWORD": "p@ss",
        "POSTGRE_HOST": "db.example",
        "POSTGRE_PORT": "5433",
        "POSTGRE_NAME": "studio",
    }
    with pytest.raises(OptionError, match=r"^database must be postgresql://[^']*$"):
        server.ServerOptions(database="mysql://ann:secret@x/y")
    with pytest.raises(OptionError, match=r"port must be in \[1, 65535\], got 0"):
        server.ServerOptions(port=0)


def test_serve_without_the_server_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"pip install 'mmvm-data\[review-server\]'"):
        server.start_server(tmp_path)


def test_a_port_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.shutil, "which", lambda name: "/bin/true")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with pytest.raises(OptionError, match="port must be free"):
            server.start_server(tmp_path, server.ServerOptions(port=busy.getsockname()[1]))
    with pytest.raises(OptionError, match="host must be an address of this machine"):
        server.start_server(tmp_path, server.ServerOptions(host="no such host"))


def test_help_imports_neither_the_sdk_nor_shapely() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from mmvm_data import cli\n"
        "for name in ('review', 'ingest'):\n"
        "    assert CliRunner().invoke(cli.cli, [name, 'push', '--help']).exit_code == 0\n"
        "sys.exit(any(name in sys.modules for name in ('label_studio_sdk', 'httpx', 'shapely')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PAGE.parents[1]).returncode == 0


@pytest.mark.parametrize("options", [ReviewPushOptions, TrackPushOptions])
def test_push_options_name_the_argument(options: Any) -> None:
    with pytest.raises(OptionError, match=r"images must be a URL such as https://host/folder or .* got 'folder'"):
        options(images="folder")
    with pytest.raises(OptionError, match="files_root must be"):
        options(files_root="folder")
    with pytest.raises(OptionError, match="mask is an unknown option"):
        options(mask="brush")


def test_push_options_of_one_kind() -> None:
    with pytest.raises(OptionError, match=r"editor must be 'polygon' or 'brush', got 'pencil'"):
        ReviewPushOptions(editor="pencil")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"objects must be in \[1, 200\], got 201"):
        TrackPushOptions(objects=201)
    with pytest.raises(OptionError, match="objects must be an integer, got '3'"):
        TrackPushOptions(objects="3")  # type: ignore[arg-type]


def test_images_lie_below_files_root(tmp_path: Path) -> None:
    (tmp_path / "data/bench").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    url = make_image_url(tmp_path / "data/bench", None, tmp_path, "match_bench")
    assert url("match_bench/a b.jpg") == "/data/local-files/?d=data/bench/match_bench/a%20b.jpg"
    url = make_image_url(tmp_path / "data/bench", "s3://bucket/bench/", None, "match_bench")
    assert url("match_bench/a.jpg") == "s3://bucket/bench/match_bench/a.jpg"
    with pytest.raises(OptionError, match="files_root must be a folder that holds"):
        make_image_url(tmp_path / "data/bench", None, tmp_path / "other", "match_bench")
