"""A real server of one's own on the data of an earlier one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from mmvm_data.annotation.labelstudio.credentials import fetch_token
from mmvm_data.annotation.labelstudio.server import Server, ServerOptions, start_server, stop_server
from tests.mmvm_data.annotation.conftest import Studio, free_port

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]


@pytest.fixture(scope="module")
def own(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a copy of the studio's database, for a user who has lost the password."""
    folder = tmp_path_factory.mktemp("own")
    data = folder / "copied"
    data.mkdir()
    for path in studio.data.glob("label_studio.sqlite3*"):
        shutil.copy2(path, data / path.name)
    (folder / "bench").mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        for name in ("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        running = start_server(folder / "bench", ServerOptions(port=free_port(), data=data), reset_password=True)
        yield running
        stop_server(running)


def test_the_password_of_an_existing_server_is_set_again(studio: Studio, own: Server) -> None:
    assert own.password != studio.server.password
    assert own.token == studio.server.token  # read from the server
    assert (own.is_password_valid, own.is_token_valid) == (True, True)
    assert fetch_token(own.url, own.user, studio.server.password) is None
