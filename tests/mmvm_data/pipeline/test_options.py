"""Options of a build are validated where they are constructed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.options import OptionError
from mmvm_data.pipeline.build import BuildOptions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"engine": "locl"}, "engine must be 'local' or 'ray', got 'locl'"),
        ({"existing": "replace"}, "existing must be 'refuse', 'resume' or 'overwrite', got 'replace'"),
        ({"workers": 0}, "workers must be in [1, 1024], got 0"),
        ({"workers": "2"}, "workers must be an integer, got '2'"),
        ({"quality": 101}, "quality must be in [1, 100], got 101"),
        ({"writer_threads": -1}, "writer_threads must be at least 0, got -1"),
        ({"max_cases": 0}, "max_cases must be at least 1, got 0"),
        ({"max_cases": True}, "max_cases must be an integer, got True"),
        ({"proposals": 3}, "proposals must be "),
        ({"sampling": 3}, "sampling must be "),
        ({"worker": 2}, "worker is an unknown option"),
    ],
)
def test_wrong_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        BuildOptions(**values)
    assert str(caught.value).startswith(message)
    assert caught.value.argument == next(iter(values))


def test_options_are_frozen_and_replaced_with_validation() -> None:
    options = BuildOptions(SamplingOptions(seed=4), max_cases=3, proposals=Path("masks"), ranker_factory=None)
    assert (options.sampling.seed, options.max_cases, options.proposals) == (4, 3, Path("masks"))
    assert dataclasses.replace(options, workers=2).workers == 2
    with pytest.raises(OptionError, match="quality"):
        dataclasses.replace(options, quality=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.workers = 4  # type: ignore[misc]


def test_threads_write_where_cores_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers, threads in ((2, 1, 1), (2, 2, 0), (4, 1, 2), (4, 2, 1), (4, 3, 1), (4, 4, 0), (4, 5, 0)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert BuildOptions(workers=workers).num_writer_threads == threads
    assert BuildOptions(workers=1, writer_threads=0).num_writer_threads == 0
    assert BuildOptions(workers=9, writer_threads=1).num_writer_threads == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accept_changes": True}, "accept_changes needs `existing='resume'`"),
        ({"ray_address": "auto"}, "ray_address needs `engine='ray'`"),
    ],
)
def test_options_that_would_do_nothing_alone_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"^{message}$"):
        BuildOptions(**values)
