"""The commands without a server: what they say, and where tokens come from and never go."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mmvm_data import cli
from mmvm_data.annotation.labelstudio import server
from mmvm_data.annotation.labelstudio.client import setting, token
from mmvm_data.annotation.review import commands
from mmvm_data.annotation.review.commands import review
from mmvm_data.core.errors import UsageError
from tests.mmvm_data.annotation.conftest import free_port

PAGE = Path(__file__).resolve().parents[3] / "docs/annotator.md"


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
        token()
    (tmp_path / ".env").write_text("# ours\nexport LABEL_STUDIO_API_KEY='abc'\nOTHER=1\n")
    assert token() == "abc"
    assert setting("OTHER") == "1"
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "def")
    assert token() == "def"
    result = invoke("review", "push", tmp_path, "--url", "ftp://x")
    assert isinstance(result.exception, UsageError)
    assert "def" not in result.output + str(result.exception)


def test_without_the_extra_one_line_says_so(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['httpx'] = None; sys.argv = ['mmvm-data', 'review', 'status', sys.argv[1]]\n"
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

    def started(*given: object) -> server.Server:
        process = subprocess.Popen([sys.executable, "-c", ""])
        return server.Server("http://127.0.0.1:1", server.USER, process, "pass-1", "token-1")

    monkeypatch.setattr(commands, "start", started)
    said = invoke("review", "serve", tmp_path).output
    assert "http://127.0.0.1:1" in said
    assert server.USER in said
    assert "pass-1" in said
    assert "LABEL_STUDIO_API_KEY=token-1" in said
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "token-1")
    monkeypatch.setenv("LABEL_STUDIO_PASSWORD", "pass-1")
    said = invoke("review", "serve", tmp_path).output
    assert "token-1" not in said
    assert "pass-1" not in said
    assert "token-1" not in repr(started())
    assert list(tmp_path.iterdir()) == []


def test_a_postgres_url_is_passed_through(tmp_path: Path) -> None:
    found = server._environment(tmp_path, tmp_path / "d", "postgresql://ann:p%40ss@db.example:5433/studio")
    assert {k: v for k, v in found.items() if k.startswith(("POSTGRE", "DJANGO"))} == {
        "DJANGO_DB": "default",
        "POSTGRE_USER": "ann",
        "POSTGRE_PASSWORD": "p@ss",
        "POSTGRE_HOST": "db.example",
        "POSTGRE_PORT": "5433",
        "POSTGRE_NAME": "studio",
    }
    with pytest.raises(UsageError, match="expected postgresql"):
        server.start(tmp_path, free_port(), database="mysql://x/y")
