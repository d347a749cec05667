"""Values from the environment and from ``.env`` files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmvm_data.core.errors import InputError
from mmvm_data.io.env import env_value

NAME = "MMVM_DATA_TEST_VALUE"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("OTHER=1\n", None),
        (f"{NAME}=abc\n", "abc"),
        (f"export {NAME}='abc'\n", "abc"),
        (f'# comment\n{NAME} = "a b#c"\n', "a b#c"),
        (f"{NAME}=abc # comment\n", "abc"),
        (f"{NAME}=\n{NAME}=abc\n", "abc"),  # the last assignment counts
        (f"{NAME}=abc\n{NAME}=\n", None),
        (f"{NAME}=abc\n{NAME}=def\n", "def"),
        (f"{NAME}\n", None),
        (f"{NAME}=${{OTHER}}x\n", "${OTHER}x"),  # not expanded
        (f"{NAME}=a=b\r\n", "a=b"),
    ],
)
def test_env_file(tmp_path: Path, text: str, expected: str | None) -> None:
    (tmp_path / ".env").write_text(text, newline="")
    assert env_value(NAME, tmp_path / ".env") == expected


def test_environment_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(NAME, "from environment")
    assert env_value(NAME) == "from environment"
    (tmp_path / ".env").write_text(f"{NAME}=from file\n")
    assert env_value(NAME) == "from environment"
    monkeypatch.setenv(NAME, "")
    assert env_value(NAME) == "from file"


def test_missing_file(tmp_path: Path) -> None:
    assert env_value(NAME, tmp_path / "missing") is None
    assert env_value(NAME, tmp_path) is None


def test_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        env_value(NAME, tmp_path / ".env")
