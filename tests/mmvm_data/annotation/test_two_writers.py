"""Two commands change one benchmark at the same time: what each has decided is in the result, or is reported."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mmvm_data import cli
from mmvm_data.annotation.rationale.cue_proposals import write_cues
from mmvm_data.annotation.rationale.generate import write_rationales
from mmvm_data.annotation.rationale.selection import RationaleOptions, RationaleProgress
from mmvm_data.annotation.review.pull import pull
from mmvm_data.core.types import Case, Cue, Review
from mmvm_data.formats import bench
from mmvm_data.formats.revisions import revise
from mmvm_data.io.openai_client import Endpoint
from mmvm_data.pipeline.build import BuildOptions, build
from tests.endpoint import Server, good, serving
from tests.mmvm_data.annotation.annotations import choice, text
from tests.mmvm_data.annotation.forked_commands import ask, write_export
from tests.worlds import davis, tree

pytest.importorskip("openai")
RACES = int(os.environ.get("MMVM_RACES", "20"))
"""Interleavings over all pairs of commands; 100 for a longer run."""
Verdicts = list[tuple[Case, list[dict[str, Any]], str]]
TEXT = "It has the same spots on its left side."


@pytest.fixture()
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with serving(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture()
def bench_dir(tmp_path: Path) -> Path:
    build("davis", davis(tmp_path / "world", videos=2), tmp_path / "b", BuildOptions(max_cases=4))
    return tmp_path / "b"


def records(folder: Path) -> dict[str, Case]:
    return {case.id: case for case in bench.read(folder)}


def other_answer(case: Case) -> tuple[int, dict[str, Any]]:
    """A wrong answer, and the result of an annotation that gives it."""
    option = next(o for o in case.options if o.number not in (None, case.answer))
    return option.number or 0, choice("answer", f"{option.letter}. {option.number}")


def model(server: Server) -> RationaleOptions:
    return RationaleOptions(endpoint=Endpoint(url=server.url, model="m", key="k", backoff=0.01))


class Slow:
    """An endpoint that answers when it is allowed to."""

    def __init__(self, server: Server) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        server.act = self.act

    def act(self, server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        self.asked.set()
        assert self.go_on.wait(60)
        good(server, handler, request, nth)


def rationales_with_pause(folder: Path, server: Server, during: Any) -> RationaleProgress:
    """Run ``rationale`` and, while it waits for its replies, something else."""
    slow, done = Slow(server), []
    thread = threading.Thread(target=lambda: done.append(write_rationales(folder, model(server))))
    thread.start()
    try:
        assert slow.asked.wait(60)
        during()
    finally:
        slow.go_on.set()
        thread.join(60)
    return done[0]


def test_verdicts_that_arrive_while_rationales_are_written(bench_dir: Path, server: Server, tmp_path: Path) -> None:
    before = records(bench_dir)
    export = write_export(tmp_path / "export.json", [(case, [], "reject") for case in before.values()])

    def reject() -> None:
        assert len(pull(bench_dir, None, None, export).changed) == len(before)

    done = rationales_with_pause(bench_dir, server, reject)
    assert done.changed == [] and done.written == 0
    assert all("rejected meanwhile" in reason for _, reason in done.failures) and len(done.failures) == len(before)
    assert {case.review.state for case in bench.read(bench_dir)} == {"rejected"}
    assert pull(bench_dir, None, None, export).changed == []


def test_an_answer_that_changes_while_its_rationale_is_written(bench_dir: Path, server: Server, tmp_path: Path) -> None:
    before = list(bench.read(bench_dir))
    number, answer = other_answer(before[0])
    mine = [text("rationale", TEXT)]
    export = write_export(tmp_path / "export.json", [(before[0], [answer], "fix"), (before[1], mine, "fix")])
    done = rationales_with_pause(bench_dir, server, lambda: pull(bench_dir, None, None, export))
    reasons = dict(done.failures)
    assert f"to object {number}" in reasons[before[0].id]
    assert "a person wrote or accepted" in reasons[before[1].id]
    assert done.changed == [case.id for case in before[2:]] and done.written == len(before) - 2
    failures = (bench_dir / "rationale_failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["case"] for line in failures] == [before[0].id, before[1].id]
    now = records(bench_dir)
    assert (now[before[0].id].answer, now[before[0].id].rationale) == (number, None)
    assert now[before[1].id].rationale == TEXT
    assert bench.validate(bench_dir).problems == []


def test_cues_and_rationales_keep_each_others_fields(bench_dir: Path, server: Server) -> None:
    done = rationales_with_pause(bench_dir, server, lambda: write_cues(bench_dir))
    assert len(done.changed) == len(records(bench_dir))
    cues = {case.id: case.cues for case in bench.read(bench_dir)}
    assert all(case.rationale_by == "model" for case in bench.read(bench_dir))
    assert any(cues.values())
    write_cues(bench_dir)
    assert {case.id: case.cues for case in bench.read(bench_dir)} == cues


def test_a_cue_of_a_person_outlives_rationales(bench_dir: Path, server: Server) -> None:
    case = next(case for case in bench.read(bench_dir) if case.answer is not None)
    cue = Cue(type=3, score=1, evidence="the word BUS is on it", source="human")

    def add_cue() -> None:
        revise(bench_dir, {case.id: case.model_copy(update={"cues": (cue,)})})

    rationales_with_pause(bench_dir, server, add_cue)
    now = records(bench_dir)[case.id]
    assert now.cues == (cue,) and now.rationale_by == "model"


def test_a_review_that_arrives_while_cues_are_measured(bench_dir: Path, tmp_path: Path) -> None:
    before = records(bench_dir)
    accepted, changed = [name for name, case in before.items() if case.answer is not None][:2]
    verdicts = [
        (before[accepted], [text("rationale", TEXT)], "fix"),
        (before[changed], [other_answer(before[changed])[1]], "fix"),
    ]
    export = write_export(tmp_path / "export.json", verdicts)

    def review(cases: int, types: int) -> None:
        if cases == len(before):
            assert len(pull(bench_dir, None, None, export).changed) == 2

    done = write_cues(bench_dir, on_progress=review)
    now = records(bench_dir)
    assert (now[accepted].rationale, now[accepted].review.state) == (TEXT, "fixed")
    assert now[accepted].cues and accepted in done.changed
    assert [name for name, reason in done.failures if "was changed while it was measured" in reason] == [changed]
    assert now[changed].cues == () and now[changed].review.state == "fixed"
    assert sum(done.types.values()) == sum(len(case.cues) for case in now.values())


def test_a_lost_verdict_is_pulled_again_and_a_later_change_is_kept(bench_dir: Path, tmp_path: Path) -> None:
    before = records(bench_dir)
    first, second, *_ = before
    _, answer = other_answer(before[second])
    verdicts = [(before[first], [], "reject"), (before[second], [answer], "fix")]
    export = write_export(tmp_path / "export.json", verdicts)
    pull(bench_dir, None, None, export)
    reviewed = records(bench_dir)
    history = (bench_dir / "annotation/history.jsonl").read_bytes()
    revise(bench_dir, before)  # what a command did that wrote whole records
    again = pull(bench_dir, None, None, export)
    assert again.changed == [first, second] and again.new == 0
    assert records(bench_dir) == reviewed
    assert (bench_dir / "annotation/history.jsonl").read_bytes() == history
    by_hand = reviewed[second].model_copy(update={"rationale": "by hand"})
    reopened = reviewed[first].model_copy(
        update={"review": Review(state="accepted", by="bo", at="2031-01-01T00:00:00Z")}
    )
    revise(bench_dir, {second: by_hand, first: reopened})
    files = tree(bench_dir)
    assert pull(bench_dir, None, None, export).changed == []
    assert tree(bench_dir) == files
    # of two annotations the record shows the older one
    newer = write_export(tmp_path / "export.json", [(before[second], [], "reject")], hour=2)
    assert pull(bench_dir, None, None, newer).changed == [second]
    revise(bench_dir, {second: reviewed[second]})
    assert pull(bench_dir, None, None, newer).changed == [second]
    assert records(bench_dir)[second].review.state == "rejected"


def test_a_pull_that_is_overtaken_by_another(bench_dir: Path, tmp_path: Path) -> None:
    """The slower one has older annotations: newer verdicts stay, and the history has all of them."""
    before = records(bench_dir)
    first, second, third, *_ = before
    slow: Verdicts = [(before[first], [], "reject"), (before[second], [], "reject")]
    fast: Verdicts = [(before[first], [], "accept"), (before[third], [], "reject")]
    slow_export = write_export(tmp_path / "slow.json", slow, hour=1)
    fast_export = write_export(tmp_path / "fast.json", fast, hour=2)
    calls: list[int] = []

    def overtake(done: int) -> None:
        calls.append(done)
        if done == len(slow):
            assert pull(bench_dir, None, None, fast_export).changed == [first, third]

    done = pull(bench_dir, None, None, slow_export, progress=overtake)
    assert calls == [1, 2] and done.changed == [second]
    states = {name: case.review.state for name, case in records(bench_dir).items()}
    assert (states[first], states[second], states[third]) == ("accepted", "rejected", "rejected")
    history = [json.loads(line) for line in (bench_dir / "annotation/history.jsonl").read_text().splitlines()]
    assert len(history) == 4
    assert pull(bench_dir, None, None, fast_export).changed == pull(bench_dir, None, None, slow_export).changed == []


def check_pull(folder: Path, printed: str, before: dict[str, Case], exported: dict[str, str]) -> None:
    now = records(folder)
    for name, verdict in exported.items():
        states = {"reject": ("rejected",), "accept": ("accepted",), "fix": ("fixed",)}[verdict]
        assert now[name].review.state in states and now[name].review.by == "ann@example.org"
        if verdict == "fix":
            assert now[name].answer == other_answer(before[name])[0] and now[name].rationale == TEXT


def check_rationale(folder: Path, printed: str) -> None:
    for case in bench.read(folder):
        assert case.rationale or case.review.state == "rejected" or case.id in printed


def check_cues(folder: Path, printed: str) -> None:
    for case in bench.read(folder):
        # nothing sets a wrong answer apart
        assert case.cues or case.answer is None or case.review.state == "fixed" or case.id in printed


def check_browse(folder: Path, printed: str, tags: dict[str, list[str]]) -> None:
    now = records(folder)
    for name, names in tags.items():
        assert set(now[name].extra.get("tags", ())) == set(names) - {"reject"}
        assert (now[name].review.reason == "tagged in FiftyOne") == ("reject" in names)


def test_interleavings(bench_dir: Path, server: Server, tmp_path: Path) -> None:
    """Pairs of commands with random delays at their writing events; afterwards a pull has nothing to repair."""
    before = records(bench_dir)
    names = list(before)
    verdicts = dict(zip(names, ("reject", "fix", "accept"), strict=False))
    changes = {"fix": [other_answer(before[names[1]])[1], text("rationale", TEXT)]}
    export = write_export(
        tmp_path / "export.json", [(before[n], changes.get(verdict, []), verdict) for n, verdict in verdicts.items()]
    )
    tags = {names[2]: ["golden"], names[3]: ["reject", "odd"]}
    endpoint = ["--endpoint", server.url, "--model", "m", "--backoff", "0.01"]
    commands: dict[str, list[str]] = {
        "pull": ["review", "pull", "BENCH", "--export", str(export)],
        "model": ["rationale", "BENCH", *endpoint],
        "template": ["rationale", "BENCH"],
        "cues": ["cues", "BENCH"],
        "browse": ["browse", "pull", "BENCH"],
    }
    checks: dict[str, Callable[[Path, str], None]] = {
        "pull": lambda folder, printed: check_pull(folder, printed, before, verdicts),
        "model": check_rationale,
        "template": check_rationale,
        "cues": check_cues,
        "browse": lambda folder, printed: check_browse(folder, printed, tags),
    }
    pairs = [("pull", "model"), ("pull", "template"), ("pull", "cues"), ("cues", "model"), ("browse", "model")]
    pairs += [("pull", "browse"), ("browse", "cues"), ("pull", "pull")]
    asked = 0
    for number, pair in enumerate(pairs):
        seeds = list(range(number, RACES, len(pairs)))
        request = {"kind": "race", "bench": str(bench_dir), "work": str(tmp_path), "tags": tags, "seeds": seeds}
        for raced in ask(request | {"commands": [commands[name] for name in pair]}):
            asked += 1
            folder, printed = Path(raced["folder"]), "".join(raced["printed"])
            assert raced["codes"] == [0, 0], printed
            assert "Traceback" not in printed
            for name in pair:
                checks[name](folder, printed)
            left = [name for name in os.listdir(folder) if name.startswith((".revision", ".lock"))]
            assert left == []
            if "pull" in pair:
                files = tree(folder)
                result = CliRunner().invoke(cli.cli, ["review", "pull", str(folder), "--export", str(export)])
                assert "0 cases changed" in result.output and tree(folder) == files
            assert bench.validate(folder).problems == []
    assert asked == RACES
