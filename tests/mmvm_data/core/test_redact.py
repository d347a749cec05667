"""Secrets in text and in URLs."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from mmvm_data.annotation.labelstudio.client import Client
from mmvm_data.core.errors import InputError, UsageError, escape_message
from mmvm_data.core.options import OptionError
from mmvm_data.core.redact import redact, redact_urls
from mmvm_data.io.console import path_markup
from mmvm_data.io.openai_client import _excerpt
from mmvm_data.io.remote import _error_text
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.pipeline.output_folder import describe_request
from tests.fuzz.trial import run_words

KEY = 'sk-a/b+"c' + "x" * 300


def test_a_key_at_every_offset_leaves_no_part() -> None:
    for form in (KEY, json.dumps(KEY)[1:-1], quote(KEY, "")):
        for offset in (*range(140), *range(9_680, 10_020, 7)):
            text = "y" * offset + form + form
            assert "xx" not in _excerpt(text.encode(), KEY)
    assert "xx" not in _excerpt((KEY * 200).encode(), KEY)


def test_short_keys_are_masked_as_words_only() -> None:
    assert redact("the key k of a token is wrong: k.", "k") == "the key *** of a token is wrong: ***."
    assert redact("nothing", "") == "nothing"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://user:pass@host/a/b", "s3://***@host/a/b"),
        ("ftp://user:p@ss@host/a: no such file", "ftp://***@host/a: no such file"),
        ("simplecache::ftp://:pass@host", "simplecache::ftp://***@host"),
        ("https://host/a?X-Amz-Signature=abc&b=1", "https://host/a?X-Amz-Signature=***&b=1"),
        ("s3://KEY:SE/CR+ET@bucket/a", "s3://***@bucket/a"),
        ("https://ghp_abc@host/x", "https://***@host/x"),
        ("http://host:8000/a@b?x=c@d", "http://host:8000/a@b?x=c@d"),
        ("http://host:8000?x=c@d", "http://host:8000?x=c@d"),
        ("zip://file.zip::https://host/a@b", "zip://file.zip::https://host/a@b"),
        ("mongodb://user:pass@host:1,other:2/x", "mongodb://***@host:1,other:2/x"),
        ("https://host/v1?api_key=k&author=x", "https://host/v1?api_key=***&author=x"),
        ("abfs://container@account/a", "abfs://container@account/a"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("user:pass@host", "user:pass@host"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert redact_urls(url) == shown
    assert redact(url) == shown
    assert escape_message(url) == shown
    error = InputError(url, f"is not {url}")
    assert (str(error), error.file, error.reason) == (f"{shown}: is not {shown}", shown, f"is not {shown}")
    assert str(UsageError(f"{url}: x")) == f"{shown}: x"
    assert OptionError("url", f"is not {url}").reason == f"is not {shown}"


def test_errors_of_file_systems_are_masked_before_they_are_cut() -> None:
    for offset in range(150, 201):
        text = "y" * offset + " ftp://user:xxxxxx@host"
        assert "xx" not in _error_text(OSError(text))


def test_errors_of_servers_are_masked_before_they_are_cut() -> None:
    pytest.importorskip("label_studio_sdk")
    client = Client("http://127.0.0.1:9", "tok-" + "x" * 36)
    for offset in range(250, 301):
        assert "xx" not in client._describe({"detail": "y" * offset + client._token})


def test_commands_show_no_password_of_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("label_studio_sdk")
    pytest.importorskip("openai")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "k")
    for words in (
        ["build", "--source", "davis", "--root", "memory://user:pass-1@x/y", "--out", str(tmp_path / "out")],
        ["review", "push", str(tmp_path), "--url", "ftp://user:pass-1@x"],
        ["rationale", str(tmp_path), "--endpoint", "ftp://user:pass-1@x", "--model", "m"],
    ):
        code, problem, stderr, *_ = run_words("mmvm-data", words)
        assert (code, problem) == (2, "")
        assert "user" not in stderr and "pass-1" not in stderr and "***" in stderr
    assert "pass-1" not in path_markup("s3://user:pass-1@bucket/out")


def test_a_build_does_not_record_the_password_of_its_root() -> None:
    assert describe_request("davis2017", "ftp://user:pass@host/davis", BuildOptions())["root"] == "ftp://***@host/davis"
    assert describe_request("davis2017", Path("a/b"), BuildOptions())["root"] == "a/b"
