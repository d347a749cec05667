"""The judge sees only what the rule cannot read, is paid once, and is never replaced by chance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from colva.evaluation import runs
from colva.evaluation.ask import ask_questions
from colva.evaluation.models.base import Reply
from colva.evaluation.question import AskOptions
from colva.evaluation.scoring.outcomes import ScoredRun
from colva.evaluation.scoring.score_run import load_run, score_run
from mmvm_data.io.openai_client import Endpoint
from tests.colva.evaluation.worlds import ScriptedModel, folder_of
from tests.endpoint import Server, completion, send, serving

CLEAR, VAGUE, SILENT, ODD = "B", "the striped one on the left", "I would rather not say", "hm"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(monkeypatch, tmp_path) as running:
        running.act = verdict
        yield running


def verdict(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
    text = request["messages"][0]["content"]
    if "The person's reason" in text:
        send(handler, 200, completion("Yes." if "because of mark 1" in text else "no"))
    elif VAGUE in text:
        send(handler, 200, completion("2" if "which numbered object" in text else "B"))
    elif SILENT in text:
        send(handler, 200, completion("Z"))
    else:
        send(handler, 200, completion("It could be A or B, who knows"))


def scored(folder: Path, out: Path, server: Server, replies: dict[str, Reply], **ask_options: Any) -> ScoredRun:
    model, options_of_run = ScriptedModel(replies), AskOptions(**ask_options)
    with runs.open_run(out, runs.run_config(folder, options_of_run, model), overwrite=False):
        ask_questions(model, folder, options_of_run, out)
        return score_run(out, judge=Endpoint(url=server.url, model="judge", key="k", backoff=0.01, retries=1))


@pytest.mark.parametrize("protocol", ["mcq", "vqa"])
def test_verdicts(server: Server, tmp_path: Path, protocol: str) -> None:
    folder = folder_of(tmp_path / "b", 4)
    texts = ["2" if protocol == "vqa" else CLEAR, VAGUE, SILENT, ODD]
    replies = {f"case_{i:06d}": Reply(text) for i, text in enumerate(texts)}
    found = scored(folder, tmp_path / "run", server, replies, protocol=protocol)
    right = "2" if protocol == "vqa" else "B"
    assert [o.chosen for o in found.outcomes] == [right, right, "Z", None]
    assert [o.by_judge for o in found.outcomes] == [False, True, True, False]
    cases = found.summary["cases"]
    assert (cases["unread"], cases["refused"], cases["by_judge"]) == (1, 1, 2)
    assert len(server.requests) == 3
    assert [f["id"] for f in found.summary["judge"]["failures"]] == ["case_000003"]
    again = scored(folder, tmp_path / "run", server, replies, protocol=protocol)
    assert len(server.requests) == 3, "kept verdicts are not asked for again"
    assert again.summary == found.summary
    assert [o.chosen for o in load_run(tmp_path / "run").outcomes] == [o.chosen for o in found.outcomes]


def test_a_judge_that_fails_leaves_the_text_unread(server: Server, tmp_path: Path) -> None:
    server.act = lambda s, handler, r, n: send(handler, 500, "down")
    folder = folder_of(tmp_path / "b", 2)
    found = scored(folder, tmp_path / "run", server, {"case_000001": Reply(VAGUE)})
    assert found.outcomes[1].chosen is None
    assert "status 500" in found.summary["judge"]["failures"][0]["reason"]
    server.act = verdict
    assert scored(folder, tmp_path / "run", server, {}).outcomes[1].chosen == "B"


def test_a_verdict_that_is_cut_while_the_judge_reasons_is_not_kept(server: Server, tmp_path: Path) -> None:
    choice = {"message": {"content": None, "reasoning_content": "It says"}, "finish_reason": "length"}
    server.act = lambda s, handler, r, n: send(handler, 200, json.dumps({"choices": [choice]}))
    folder = folder_of(tmp_path / "b", 2)
    found = scored(folder, tmp_path / "run", server, {"case_000001": Reply(VAGUE)})
    assert "cut off at the limit" in found.summary["judge"]["failures"][0]["reason"]
    server.act = verdict
    assert scored(folder, tmp_path / "run", server, {}).outcomes[1].chosen == "B"


def test_reasons_are_compared_with_those_of_people(server: Server, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 4)  # cases 1 and 3 have a rationale
    replies = {f"case_{i:06d}": Reply("B", why=f"I see mark {i}") for i in range(4)}
    reasons = scored(folder, tmp_path / "run", server, replies, ask_why=True).summary["reasons"]
    assert (reasons["asked"], reasons["empty"]) == (4, 0)
    assert (reasons["agree"]["hits"], reasons["agree"]["n"]) == (1, 2)
