"""Every command over its own input files with faults: exit codes 0 to 3, one message at most, no traceback, no hang.

A sample; ``benchmarks/fuzz.py`` runs thousands.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.families import FAMILIES
from tests.fuzz.faults import SYSTEMATIC
from tests.fuzz.trial import (
    CONTROL,
    Inputs,
    check_output,
    group_of,
    open_inputs,
    run_trial,
    run_with_fault,
    run_words,
    scratch_folder,
)

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
        assert outcome.growth_mb < MAX_MB, outcome

    check()


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in HEAVY])
def test_faults(name: str, cache: dict[str, Inputs], scratch: Path) -> None:
    check_trials(name, 60, cache, scratch)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_faults_of_heavy_families(name: str, cache: dict[str, Inputs], scratch: Path) -> None:
    check_trials(name, 15, cache, scratch)


FOUND = {
    "tokenizer.json that is no tokenizer": ("checkpoints", 0, "m/tokenizer.json", "object"),
    "deep tokenizer.json": ("checkpoints", 0, "m/tokenizer.json", "200 levels"),
    "pipe as a lock": ("eval", 0, "runs/random/.lock", "named pipe"),
    "deep export": ("annotation", 0, "export.json", "deep and open"),
    "export in Latin-1": ("annotation", 0, "export.json", "Latin-1"),
    "link loop as a clip": ("ingest", 1, "clip.mp4", "link loop"),
    "run.json without a benchmark in a comparison": ("reports", 1, "runs/random/run.json", "object"),
    "deep configuration of training": ("train", 0, "pretrain.yaml", "deep lists"),
    "YAML tags": ("train", 0, "pretrain.yaml", "YAML tag"),
    "YAML that contains itself": ("train", 0, "pretrain.yaml", "YAML recursion"),
    "deep DeepSpeed configuration": ("train", 4, "zero.json", "deep objects"),
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
    assert all(CONTROL.search(text) for text in ("\x1b[31m", "a\rb", "\x9b31m", "\u202e")) and not CONTROL.search(
        "é\n\t"
    )
    assert check_output(1, "Traceback (most recent call last)\n") == "traceback printed"


VALUES = {
    "class of a tokenizer that is a number": ("checkpoints", 0, "m/tokenizer_config.json", {"tokenizer_class": 3}),
    "padding that is a text": ("checkpoints", 0, "m/config.json", {"pad_token_id": "x"}),
    "scores of a model that is a number": ("reports", 2, "runs/random/scores.json", {"model": 3}),
    "share that is a text": ("reports", 0, "runs/random/scores.json", {"overall": {"value": "x"}}),
    "counts that are a list": ("reports", 2, "b/build.json", {"counts": [1]}),
    "lone surrogate as a name": ("reports", 2, "runs/random/scores.json", {"model": "\ud800"}),
    "counts that are texts, resumed": ("build", 1, "done/build.json", {"counts": {"cases": "x"}}),
}
"""Values that once ended in a traceback: family, number of its command, file, what replaces its keys."""


@pytest.mark.parametrize("name", VALUES)
def test_found_values(name: str, cache: dict[str, Inputs], scratch: Path) -> None:
    family, number, file, changes = VALUES[name]
    inputs = get_inputs(family, cache, scratch)
    folder = scratch / "trial"
    inputs.write(folder)
    try:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        words = [word.replace("{d}", str(folder)) for word in FAMILIES[family].commands[number]]
        _, problem, stderr, *_ = run_words(inputs.family.program, words)
    finally:
        shutil.rmtree(folder)
    assert not problem, problem
    assert not stderr or path.name in stderr


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:9/y", "nosuch://x/y", "memory://nothing"])
def test_roots_that_cannot_be_opened(url: str, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    words = ["build", "--source", "davis", "--root", url, "--out", str(tmp_path / "out")]
    code, problem, stderr, *_ = run_words("mmvm-data", words)
    assert (code, problem) == (2, "")
    assert stderr.startswith(f"error: {url}: ")


@pytest.mark.parametrize("value", ["[" * 3000, "a=" + "[" * 3000, "a" + ".b" * 3000 + "=1", "a=" + "9" * 5000])
def test_deep_values_on_the_command_line(value: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    run = ["eval", "--bench", str(tmp_path), "--model", "random", "--out", str(tmp_path / "run")]
    for words in (["train", "pretrain/tiny", "--dry-run", "--set", value], [*run, "--body", value]):
        code, problem, stderr, *_ = run_words("colva", words)
        assert (code, problem) == (2, ""), problem
        assert len(stderr) < 1000
