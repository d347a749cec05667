"""Secrets in text and in URLs."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from mmvm_data.core.errors import InputError, escape_message
from mmvm_data.core.redact import redact, redact_urls
from mmvm_data.io.openai_client import _excerpt
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.pipeline.output_folder import describe_request

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
        ("abfs://container@account/a", "abfs://container@account/a"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("user:pass@host", "user:pass@host"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert redact_urls(url) == shown
    assert redact(url) == shown
    assert escape_message(url) == shown
    assert str(InputError(url, "is broken")) == f"{shown}: is broken"


def test_a_build_does_not_record_the_password_of_its_root() -> None:
    assert describe_request("davis2017", "ftp://user:pass@host/davis", BuildOptions())["root"] == "ftp://***@host/davis"
    assert describe_request("davis2017", Path("a/b"), BuildOptions())["root"] == "a/b"
