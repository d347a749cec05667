"""Tokens that no longer count: one message, and nothing is changed."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmvm_data import cli
from mmvm_data.annotation.labelstudio.client import RequestRejected
from tests.mmvm_data.annotation.conftest import Studio
from tests.mmvm_data.annotation.review.grids import write_grids
from tests.mmvm_data.annotation.review.test_page import invoke
from tests.worlds import tree

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]


@pytest.fixture
def folder(studio: Studio, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Two cases on the server."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    place: Path = studio.files / request.node.name[:40]
    write_grids(place, (6, 4))
    invoke("review", "push", place)
    return place


def test_tokens_that_no_longer_count_are_one_message(
    folder: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = studio.request("GET", "/api/jwt/settings").json()
    studio.request("POST", "/api/jwt/settings", settings | {"api_tokens_enabled": True})
    revoked = studio.request("POST", "/api/token/", {}).json()["token"]
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", revoked)
    invoke("review", "status", folder)
    studio.request("POST", "/api/token/blacklist/", {"refresh": revoked})
    head, claims, signature = revoked.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"exp": 1_700_000_000}
    claims = base64.urlsafe_b64encode(json.dumps(decoded).encode()).decode().rstrip("=")
    expired = f"{head}.{claims}.{signature}"
    files = tree(folder)
    for token in ("0" * 40, expired, revoked):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
        for command in ("push", "pull", "status"):
            with pytest.raises(RequestRejected, match="does not accept the token in LABEL_STUDIO_API_KEY") as caught:
                CliRunner().invoke(cli.cli, ["review", command, str(folder)], catch_exceptions=False)
            assert "Account & Settings" in str(caught.value) and token not in str(caught.value)
        assert tree(folder) == files
