"""Ports for servers that bind the port they are given some seconds later."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator

_FIRST, _SHARE, _SHARES = 20_000, 1_500, 8
"""Above the ports of Ray's workers, and below those that Linux gives to connections and to whoever binds port 0."""


def _candidates() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _FIRST + worker % _SHARES * _SHARE
    return itertools.cycle(first + (os.getpid() + k) % _SHARE for k in range(_SHARE))


_ports = _candidates()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, another one with each call.

    Nobody else gets it before its server binds it: the processes of pytest-xdist have ranges of their own, and the
    system gives these ports to nobody. A port that was bound as 0 and given back can be another process's by then.
    """
    for port in itertools.islice(_ports, _SHARE):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no free port among {_SHARE}")
