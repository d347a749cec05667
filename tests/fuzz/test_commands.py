"""Every command over its own input files with faults: exit codes 0 to 3, one message at most, no traceback, no hang.

A sample; ``benchmarks/fuzz.py`` runs thousands.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.families import FAMILIES
from tests.fuzz.faults import SYSTEMATIC
from tests.fuzz.trial import Inputs, check_output, group_of, open_inputs, run_trial, run_with_fault, scratch_folder

HEAVY = ("checkpoints", "train")
"""Families whose commands take a quarter of a second and more."""
MAX_MB = 2048


def get_inputs(name: str, cache: dict[str, Inputs], scratch: Path) -> Inputs:
    if FAMILIES[name].program == "colva":
        pytest.importorskip("transformers")
    if name not in cache:
        cache[name] = open_inputs(name, scratch)
    return cache[name]


@pytest.fixture(scope="module")
def cache() -> dict[str, Inputs]:
    return {}


@pytest.fixture
def scratch() -> Iterator[Path]:
    yield scratch_folder(os.getpid())


def test_every_command_belongs_to_a_family() -> None:
    for program in ("mmvm-data", "colva"):
        fuzzed = {
            command[0] for family in FAMILIES.values() if family.program == program for command in family.commands
        }
        assert fuzzed == set(group_of(program).list_commands(None))  # type: ignore[arg-type]


def check_trials(name: str, examples: int, cache: dict[str, Inputs], scratch: Path) -> None:
    inputs = get_inputs(name, cache, scratch)

    @settings(max_examples=examples)
    @given(st.integers(0, 2**32))
    def check(number: int) -> None:
        outcome = run_trial(inputs, scratch / "trial", number)
        assert not outcome.problem, outcome
        assert outcome.peak_mb < MAX_MB

    check()


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in HEAVY])
def test_faults(name: str, cache: dict[str, Inputs], scratch: Path) -> None:
    check_trials(name, 60, cache, scratch)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_faults_of_heavy_families(name: str, cache: dict[str, Inputs], scratch: Path) -> None:
    check_trials(name, 15, cache, scratch)


FOUND = {
    "deep build.json in stats": ("benchmark", 2, "b/build.json", "deep objects"),
    "900 levels in rejects.jsonl": ("benchmark", 2, "b/rejects.jsonl", "deep lists"),
    "pipe as a drawn image": ("benchmark", 1, "b/match_bench/case_000000/FRAME00.jpg", "named pipe"),
    "pipe as a frame of a prompt": ("annotation", 3, "b/match_bench/case_000006/FRAME01_ORI.jpg", "named pipe"),
    "build.json of two lines, resumed": ("build", 1, "done/build.json", "objects in lines"),
    "build.json with text for the request, resumed": ("build", 1, "done/build.json", "text"),
    "deep build.json, resumed": ("build", 1, "done/build.json", "200 levels"),
    "folder as build.json, resumed": ("build", 1, "done/build.json", "folder"),
    "broken request of an unfinished build": ("build", 2, "half/.build/request.json", "cut"),
    "foreign journal of an unfinished build": ("build", 2, "half/.build/journal.jsonl", "objects in lines"),
    "export that is a list of numbers": ("annotation", 0, "export.json", "list of numbers"),
    "deep history": ("annotation", 0, "b/annotation/history.jsonl", "deep lists"),
    "empty drawn image to the Hub": ("export", 3, "b/match_bench/case_000000/FRAME00.jpg", "empty"),
    "text as a drawn image to the Hub": ("export", 3, "b/match_bench/case_000001/FRAME00.jpg", "lone surrogate"),
    "deep scores in an overview": ("reports", 2, "runs/random/scores.json", "deep objects"),
    "scores without scores in an overview": ("reports", 2, "runs/random/scores.json", "object"),
    "scores without scores in a comparison": ("reports", 1, "runs/random/scores.json", "object"),
    "foreign log.jsonl": ("reports", 2, "stage1/log.jsonl", "objects in lines"),
    "deep log.jsonl": ("reports", 2, "stage1/log.jsonl", "deep objects"),
    "folder as log.jsonl": ("reports", 2, "stage1/log.jsonl", "folder"),
    "run.json that is a list": ("eval", 0, "runs/random/run.json", "list"),
}
"""What once ended in a traceback or never: family, number of its command, file, fault."""


@pytest.mark.parametrize("name", FOUND)
def test_found_faults(name: str, cache: dict[str, Inputs], scratch: Path) -> None:
    family, number, file, fault = FOUND[name]
    assert fault in SYSTEMATIC
    inputs = get_inputs(family, cache, scratch)
    command = FAMILIES[family].commands[number]
    outcome = run_with_fault(inputs, scratch / "trial", command, file, fault, random.Random(0))
    assert not outcome.problem, outcome


def test_what_is_checked_of_an_outcome() -> None:
    assert not check_output(0, "anything")
    assert not check_output(2, "WARNING\nerror: x: not JSON\n  a list item\n")
    assert not check_output(2, "Usage: colva train\n\nError: no such option\n")
    assert check_output(None, "") and check_output(4, "")
    assert check_output(2, "") == "0 messages"
    assert check_output(2, "error: x\nmore\n") == "a message of several lines"
    assert check_output(2, "error: \n")
    assert check_output(2, "error: \x1b[31mx\n") == "an escape code in a message"
    assert check_output(1, "Traceback (most recent call last)\n") == "traceback printed"
