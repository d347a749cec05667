"""Runs: planted answers score what was planted; a kill loses nothing; the same run gives the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from colva.evaluation import runs
from colva.evaluation.api import evaluate
from colva.evaluation.ask import Progress, ask_questions
from colva.evaluation.models.base import ModelAdapter, ModelOptions, Reply
from colva.evaluation.models.baselines import open_model
from colva.evaluation.question import AskOptions, Question
from colva.evaluation.scoring.outcomes import ScoredRun
from colva.evaluation.scoring.score_run import load_run, score_run
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.formats import bench
from mmvm_data.io.folder_lock import LOCK_FILE
from mmvm_data.io.openai_client import EndpointError
from tests.colva.evaluation.worlds import ScriptedModel, folder_of, lines
from tests.worlds import tree

ROOT = Path(__file__).resolve().parents[3]


def run_model(
    model: ModelAdapter, folder: Path, out: Path, ask_options: AskOptions | None = None, limit: int | None = None
) -> tuple[Progress, ScoredRun]:
    ask_options = ask_options or AskOptions()
    with runs.open_run(out, runs.run_config(folder, ask_options, model), overwrite=False):
        progress = ask_questions(model, folder, ask_options, out, limit)
        return progress, score_run(out)


def test_planted_answers_score_exactly(tmp_path: Path) -> None:
    """200 cases: 83 right, 40 another option, 30 refused, 27 unread, 20 without a reply."""
    folder = folder_of(tmp_path / "b", 200)
    cases = list(bench.read(folder))
    order = np.random.default_rng(0).permutation(200)
    kinds = np.repeat(["right", "wrong", "refused", "unread", "fault"], [83, 40, 30, 27, 20])
    kind = {cases[place].id: str(k) for place, k in zip(order, kinds, strict=True)}
    replies = {}
    for case in cases:
        other = next(o.letter for o in case.options if o.letter != case.letter)
        replies[case.id] = {
            "right": Reply(f"{case.letter}. it is the same"),
            "wrong": Reply(other),
            "refused": Reply("Sorry, I can't help with images of people yet."),
            "unread": Reply("either of them"),
            "fault": Reply("", error="broken"),
        }[kind[case.id]]
    _, scored = run_model(ScriptedModel(replies), folder, tmp_path / "run")
    summary = scored.summary
    assert (summary["overall"]["hits"], summary["overall"]["n"]) == (83, 200)
    assert (summary["replied"]["hits"], summary["replied"]["n"]) == (83, 180)
    assert {name: summary["cases"][name] for name in ("asked", "replied", "unread", "refused", "no_reply")} == {
        "asked": 200,
        "replied": 180,
        "unread": 27,
        "refused": 30,
        "no_reply": 20,
    }
    for name, of_kind in (("unread", "unread"), ("refused", "refused"), ("no_reply", "fault")):
        assert sorted(summary[name]) == sorted(key for key, k in kind.items() if k == of_kind)

    right, members = Counter[str](), Counter[str]()
    by = {name: (Counter[str](), Counter[str]()) for name in ("source", "candidates")}
    for case in cases:
        hit = kind[case.id] == "right"
        for number in case.match_types or (0,):
            group = MATCH_TYPES[number][0] if number else "(none)"
            members[group] += 1
            right[group] += hit
        for name, group in (("source", case.provenance.source), ("candidates", str(len(case.candidates)))):
            by[name][0][group] += hit
            by[name][1][group] += 1
    types = summary["by"]["type"]
    assert {group: (row["hits"], row["n"]) for group, row in types.items()} == {
        group: (right[group], members[group]) for group in members
    }
    assert list(types) == [name for name, _ in MATCH_TYPES.values() if name in types] + ["(none)"]
    for name, (hits, count) in by.items():
        assert {g: (row["hits"], row["n"]) for g, row in summary["by"][name].items()} == {
            g: (hits[g], count[g]) for g in count
        }
    for row in (summary["overall"], *types.values()):
        exact = stats.binom.ppf([0.025, 0.975], row["n"], row["value"]) / row["n"]
        assert np.abs(np.array([row["low"], row["high"]]) - exact).max() <= 1.01 / row["n"]
        wilson = proportion_confint(row["hits"], row["n"], method="wilson")
        assert (row["wilson_low"], row["wilson_high"]) == pytest.approx(wilson)
    assert summary["chance"] == pytest.approx(np.mean([1 / len(case.options) for case in cases]))
    table = summary["confusion"]
    assert sum(count for row in table.values() for count in row.values()) == 200
    assert sum(table[letter].get(letter, 0) for letter in table) == 83
    assert [line["id"] for line in lines(tmp_path / "run" / runs.ERRORS)] == [
        c.id for c in cases if kind[c.id] == "fault"
    ]


def test_letter_bias(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 60)
    _, scored = run_model(ScriptedModel({}), folder, tmp_path / "run")
    letters = scored.summary["letters"]
    right = Counter(case.letter for case in bench.read(folder))
    assert letters["by"]["A"] == {"right": right["A"], "chosen": 60, "hits": right["A"]}
    assert letters["bias"] == pytest.approx(1 - right["A"] / 60)


def test_circular_consistency(tmp_path: Path) -> None:
    """One case chosen right always, one wrong but the same object, one by its letter, one unread once."""
    folder = folder_of(tmp_path / "b", 5)
    ask_options = AskOptions(num_variants=2)
    from colva.evaluation.benchmark import load_questions

    replies = {}
    for q in load_questions(folder, ask_options, tmp_path):
        right = q.choices[q.answer]
        other = next(text for text in q.choices.values() if text != right and text.isdigit())
        letter = {text: label for label, text in q.choices.items()}
        replies[q.id] = {
            "case_000001": Reply(q.answer),
            "case_000002": Reply(letter[other if other != "1" else "2"] if q.variant == 0 else "?"),
            "case_000003": Reply("A"),
            "case_000004": Reply(letter[sorted(t for t in q.choices.values() if t.isdigit() and t != right)[0]]),
        }.get(q.case, Reply(q.answer))
    _, scored = run_model(ScriptedModel(replies), folder, tmp_path / "run", ask_options)
    circular = scored.summary["circular"]
    assert (circular["variants"], circular["questions"]) == (2, 10)
    assert (circular["all_right"]["hits"], circular["all_right"]["n"]) == (2, 5)
    assert circular["same"]["hits"] == 3
    assert scored.summary["overall"]["n"] == 5, "variants do not count in the overall score"


def test_second_run_asks_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 30)
    files = (runs.PREDICTIONS, runs.SCORES, runs.ANSWERS)
    contents = []
    for name in ("one", "two"):
        run_model(open_model("random", ModelOptions(seed=3)), folder, tmp_path / name)
        contents.append([(tmp_path / name / file).read_bytes() for file in files])
    assert contents[0] == contents[1]
    model = open_model("random", ModelOptions(seed=3))
    progress, _ = run_model(model, folder, tmp_path / "one")
    assert (progress.kept, progress.replies) == (30, 0)
    assert [(tmp_path / "one" / file).read_bytes() for file in files] == contents[0]
    run_model(open_model("random", ModelOptions(seed=4)), folder, tmp_path / "other")
    assert (tmp_path / "other" / runs.PREDICTIONS).read_bytes() != contents[0][0]


def test_order_of_replies_does_not_matter(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 40)

    class Uneven(ScriptedModel):
        def answer(self, questions):  # type: ignore[no-untyped-def]
            time.sleep(0.02 if questions[0].id.endswith("0") else 0)
            return super().answer(questions)

    run_model(ScriptedModel({}), folder, tmp_path / "one")
    run_model(Uneven({}, workers=8, batch=1), folder, tmp_path / "many")
    assert (tmp_path / "one" / runs.PREDICTIONS).read_bytes() == (tmp_path / "many" / runs.PREDICTIONS).read_bytes()


def test_a_changed_question_is_asked_again_and_no_other(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 16)
    run_model(ScriptedModel({}), folder, tmp_path / "run")
    image = folder / "match_bench/case_000003/FRAME01_CAND.jpg"  # of cases 3 and 11
    image.write_bytes(image.read_bytes() + b"\0")
    model = ScriptedModel({})
    progress, scored = run_model(model, folder, tmp_path / "run")
    assert model.asked == ["case_000003", "case_000011"]
    assert (progress.kept, scored.summary["overall"]["n"]) == (14, 16)
    assert len(lines(tmp_path / "run" / runs.UNUSED)) == 2


def test_a_smaller_limit_throws_no_answer_away(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 20)
    run_model(ScriptedModel({}), folder, tmp_path / "run")
    whole = (tmp_path / "run" / runs.PREDICTIONS).read_bytes()
    progress, scored = run_model(ScriptedModel({}), folder, tmp_path / "run", limit=5)
    assert (scored.summary["overall"]["n"], progress.is_complete, progress.report.cases) == (5, False, 5)
    model = ScriptedModel({})
    run_model(model, folder, tmp_path / "run")
    assert model.asked == []
    assert (tmp_path / "run" / runs.PREDICTIONS).read_bytes() == whole
    assert not (tmp_path / "run" / runs.UNUSED).exists()


def test_another_run_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 2)
    run_model(ScriptedModel({}), folder, tmp_path / "run")
    with pytest.raises(UsageError, match="another fingerprint, model"):
        run_model(ScriptedModel({}, name="else"), folder, tmp_path / "run")
    with pytest.raises(UsageError, match="another ask_options"):
        run_model(ScriptedModel({}), folder, tmp_path / "run", AskOptions(ask_why=True))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("")
    with pytest.raises(UsageError, match="holds no run"):
        run_model(ScriptedModel({}), folder, tmp_path / "full")
    config = runs.run_config(folder, AskOptions(), ScriptedModel({}))
    with (
        runs.open_run(tmp_path / "run", config, overwrite=False),
        pytest.raises(UsageError, match=r"`colva eval` \(pid \d+\) is writing here"),
        runs.open_run(tmp_path / "run", config, overwrite=False),
    ):
        pass


def test_many_errors_in_a_row_stop_the_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 40)
    down = {f"case_{i:06d}": Reply("", error="connection failed", retryable=True) for i in range(8, 40)}
    model = ScriptedModel(down, batch=1)
    with pytest.raises(EndpointError, match="10 questions in a row got no reply, the last: connection failed"):
        run_model(model, folder, tmp_path / "run")
    assert len(lines(tmp_path / "run" / runs.PREDICTIONS)) == 8
    # refusals of single questions do not
    own = {key: Reply("", error="too long") for key in down}
    _, scored = run_model(ScriptedModel(own, batch=1), folder, tmp_path / "own")
    assert scored.summary["cases"]["no_reply"] == 32


def test_a_scored_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 12)
    replies = {"case_000002": Reply("", error="broken"), "case_000003": Reply("no idea")}
    _, scored = run_model(ScriptedModel(replies), folder, tmp_path / "run")
    again = load_run(tmp_path / "run")
    assert [(o.prediction, o.chosen, o.error) for o in again.outcomes] == [
        (o.prediction, o.chosen, o.error) for o in scored.outcomes
    ]
    with pytest.raises(InputError, match="no scored run"):
        load_run(tmp_path)


SLOW = """
import sys, time
from pathlib import Path
from colva.evaluation.api import evaluate
from colva.evaluation.ask import ask_questions
from colva.evaluation.question import AskOptions, Question
from colva.evaluation import runs
from tests.colva.evaluation.worlds import ScriptedModel

class Slow(ScriptedModel):
    def answer(self, questions):
        time.sleep(0.05)
        return super().answer(questions)

model = Slow({}, batch=2)
folder, out = map(Path, sys.argv[1:])
with runs.open_run(out, runs.run_config(folder, AskOptions(), model), False):
    ask_questions(model, folder, AskOptions(), out)
"""


def test_kill_in_the_middle(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 60)
    run_model(ScriptedModel({}), folder, tmp_path / "whole")
    path = tmp_path / "run" / runs.PREDICTIONS
    for wanted in (6, 20):
        child = subprocess.Popen(
            [sys.executable, "-c", SLOW, str(folder), str(tmp_path / "run")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        while not path.exists() or path.read_bytes().count(b"\n") < wanted:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    with open(path, "ab") as handle:
        handle.write(path.read_bytes()[:77])  # a line that the kill cut off
    before = {line["id"] for line in map(json.loads, path.read_text().splitlines()[:-1])}
    model = ScriptedModel({})
    progress, _ = run_model(model, folder, tmp_path / "run")
    assert len(before) >= 20
    assert progress.kept == len(before)
    assert not before & set(model.asked)
    assert path.read_bytes() == (tmp_path / "whole" / runs.PREDICTIONS).read_bytes()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 3)
    run_model(ScriptedModel({}), folder, tmp_path / "run")
    path = tmp_path / "run" / runs.PREDICTIONS
    path.write_text(path.read_text().replace('"reply"', '"replies"', 1))
    with pytest.raises(InputError, match=r"predictions.jsonl: line 1: no prediction"):
        run_model(ScriptedModel({}), folder, tmp_path / "run")


class FailsAfter(ScriptedModel):
    """A model that ends the process's work after a number of calls."""

    def __init__(self, name: str, calls: int) -> None:
        super().__init__({}, name=name, batch=1)
        self.calls = calls

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        if len(self.asked) >= self.calls:
            raise KeyboardInterrupt
        return super().answer(questions)


def test_replies_that_are_replaced_stay_until_the_new_ones_are_complete(tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path / "b", 6), tmp_path / "run"
    kept = out / ".replaced"

    def replies(where: Path) -> int:
        return len(lines(where / runs.PREDICTIONS)) if (where / runs.PREDICTIONS).exists() else 0

    evaluate(folder, ScriptedModel({}, name="first"), out)
    files = tree(out)
    config = runs.run_config(folder, AskOptions(), ScriptedModel({}, name="first"))
    with runs.open_run(out, config, overwrite=False), pytest.raises(UsageError, match="is writing here"):
        evaluate(folder, ScriptedModel({}, name="second"), out, overwrite=True)
    assert tree(out, leave_out=(LOCK_FILE,)) == files
    with pytest.raises(KeyboardInterrupt):
        evaluate(folder, FailsAfter("second", 2), out, overwrite=True)
    assert (replies(out), replies(kept)) == (2, 6)
    with pytest.raises(KeyboardInterrupt):  # another one in the place of the second: both are kept
        evaluate(folder, FailsAfter("third", 3), out, overwrite=True)
    assert (replies(out), replies(kept), replies(kept / ".replaced")) == (3, 2, 6)
    # a question without a reply: the new run is not complete
    broken = ScriptedModel({"case_000004": Reply("", error="too long")}, name="third", batch=1)
    evaluate(folder, broken, out)
    assert (replies(out), replies(kept)) == (5, 2)
    evaluate(folder, ScriptedModel({}, name="third", batch=1), out)
    assert replies(out) == 6 and not kept.exists()
    assert {path.name for path in out.iterdir()} == {name.split("/")[0] for name in files}


def test_killed_before_the_new_run_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = folder_of(tmp_path / "b", 2), tmp_path / "run"
    evaluate(folder, ScriptedModel({}, name="first"), out)
    files = tree(out)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(runs, "atomic_write", die)
        evaluate(folder, ScriptedModel({}, name="second"), out, overwrite=True)
    assert not (out / runs.RUN).exists()
    with pytest.raises(UsageError, match="holds a run with another"):
        evaluate(folder, ScriptedModel({}, name="second"), out)
    assert tree(out) == files
