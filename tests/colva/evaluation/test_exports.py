"""What VLMEvalKit's scorer and lmms-eval make of our files, with pandas and with lmms-eval's way of loading."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from colva import evaluate
from colva.evaluation import runs
from colva.evaluation.ask import ask_questions
from colva.evaluation.lmms_eval_export import export_lmms_eval
from colva.evaluation.models.base import Reply
from colva.evaluation.question import AskOptions
from colva.evaluation.scoring.extract import extract_option
from colva.evaluation.scoring.outcomes import ScoredRun
from colva.evaluation.scoring.score_run import score_run
from colva.evaluation.vlmevalkit_predictions import write_vlmevalkit_predictions
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.formats import bench, predictions, vlmevalkit
from tests.colva.evaluation.worlds import ScriptedModel, folder_of, original

SAID = {
    "case_000000": Reply("B"),
    "case_000001": Reply("=B"),  # a formula, were it not written as text
    "case_000002": Reply('"B",\nwith\ta tab, a quote " and a line\r\nbreak'),
    "case_000003": Reply("", error="broken"),
    "case_000004": Reply("no idea"),
    "case_000005": Reply("NaN"),
    "case_000006": Reply(""),
}


def run(folder: Path, out: Path, replies: dict[str, Reply] = SAID, **ask_options: Any) -> ScoredRun:
    options_of_run, model = AskOptions(**ask_options), ScriptedModel(replies, name="org/model x")
    with runs.open_run(out, runs.run_config(folder, options_of_run, model), overwrite=False):
        ask_questions(model, folder, options_of_run, out)
        return score_run(out)


def published_score(table: pd.DataFrame, folder: Path) -> dict[str, float]:
    """The published evaluator's steps (see ``mmvm_data.formats.tsv``); its rule is played by ours, which has parity."""
    meta = pd.read_csv(folder / bench.TSV, sep="\t")
    answers = dict(zip(meta["index"], meta["answer"], strict=True))
    questions = dict(zip(meta["index"], meta["question"], strict=True))
    assert {index: questions[index] for index in table["index"]} == dict(
        zip(table["index"], table["question"], strict=True)
    )
    hits: dict[str, list[bool]] = {}
    for row in table.to_dict("records"):
        options = dict(
            (part.strip() for part in line.split(".", 1)) for line in row["choices"].split("\n") if line.strip()
        )
        hit = (extract_option(str(row["prediction"]), options) or "Z") == answers[row["index"]]
        for group in ("overall", *(MATCH_TYPES[k][0] for k in json.loads(row["match_type"]))):
            hits.setdefault(group, []).append(hit)
    return {group: sum(answers) / len(answers) for group, answers in hits.items()}


def test_the_published_scorer_finds_our_scores(tmp_path: Path) -> None:
    folder = original(tmp_path, cases=14)
    scored = run(folder, tmp_path / "run")
    tsv, own_table, xlsx = write_vlmevalkit_predictions(scored, tmp_path / "run", xlsx=True)
    assert own_table.name == bench.TSV
    assert (tsv.name, xlsx.name) == ("org_model_x_MMatch.tsv", "org_model_x_MMatch.xlsx")
    for table in (pd.read_csv(tsv, sep="\t"), pd.read_excel(xlsx)):
        assert list(table.columns) == [*bench.PUBLISHED, "prediction"]
        assert len(table) == 14
        answers = published_score(table, folder)
        assert answers.pop("overall") == pytest.approx(scored.summary["overall"]["value"])
        ours = {name: row["value"] for name, row in scored.summary["by"]["type"].items() if name != "(none)"}
        assert answers == pytest.approx(ours)
    text = pd.read_csv(tsv, sep="\t", keep_default_na=False)["prediction"].tolist()
    assert text[:7] == ["B", "=B", SAID["case_000002"].text, "", "no idea", "NaN", ""]
    sheet = pd.read_excel(xlsx, keep_default_na=False)["prediction"].tolist()
    assert sheet[:2] == ["B", "=B"]


def test_what_a_spreadsheet_would_cut_is_refused_and_whole_in_the_tsv(tmp_path: Path) -> None:
    folder = original(tmp_path, cases=3)
    long = "x" * 40_000 + "B"
    scored = run(folder, tmp_path / "run", {"case_000001": Reply(long)})
    _, _, stale = write_vlmevalkit_predictions(run(folder, tmp_path / "short"), tmp_path / "run", xlsx=True)
    assert stale.exists()
    with pytest.raises(InputError, match=r"index 1, prediction: 40001 characters do not fit"):
        write_vlmevalkit_predictions(scored, tmp_path / "run", xlsx=True)
    tsv = tmp_path / "run/vlmevalkit/org_model_x_MMatch.tsv"
    assert pd.read_csv(tsv, sep="\t")["prediction"][1] == long
    assert not tsv.with_suffix(".xlsx").exists()
    report = tmp_path / "whole/report.html"
    with pytest.raises(InputError, match=r"index 1, prediction: 40001 characters do not fit"):
        evaluate(folder, ScriptedModel({"case_000001": Reply(long)}), tmp_path / "whole", xlsx=True)
    assert report.is_file() and (tmp_path / "whole/vlmevalkit/planted_MMatch.tsv").is_file()
    bell = run(folder, tmp_path / "bell", {"case_000001": Reply("B\a")})
    with pytest.raises(InputError, match="index 1: a reply holds control characters"):
        write_vlmevalkit_predictions(bell, tmp_path / "bell", xlsx=True)


def test_the_newer_protocol(tmp_path: Path) -> None:
    folder = original(tmp_path, cases=6)
    table = tmp_path / "newer.tsv"
    vlmevalkit.write(bench.read(folder), folder, table)
    scored = run(table, tmp_path / "run", {str(k): Reply("2") for k in range(6)}, protocol="vqa")
    [path] = write_vlmevalkit_predictions(scored, tmp_path / "run")
    assert path.name == "org_model_x_MMVMBench.tsv"
    mine, theirs = (pd.read_csv(p, sep="\t", dtype=str) for p in (path, table))
    for column in ("index", "question", "answer"):
        assert mine[column].tolist() == theirs[column].tolist()
    assert (tmp_path / "run" / runs.ANSWERS).exists() is False, "rows without candidates belong to no case"


@pytest.mark.parametrize("ask_options", [{"difficulty": 4}, {"suffix": " Answer now."}, {}])
def test_predictions_are_scored_with_the_table_beside_them(tmp_path: Path, ask_options: dict[str, Any]) -> None:
    """With other options than the table's, letters mean other candidates."""
    folder = original(tmp_path, cases=14)
    scored = run(folder, tmp_path / "run", {f"case_{k:06d}": Reply("B") for k in range(14)}, **ask_options)
    tsv, _ = write_vlmevalkit_predictions(scored, tmp_path / "run")
    shares = published_score(pd.read_csv(tsv, sep="\t"), tmp_path / "run/vlmevalkit")
    assert shares["overall"] == pytest.approx(scored.summary["overall"]["value"])


REPLIES_THAT_ARE_NO_TEXT = ("3", " 7\n", "1e3", "3.0", "inf", "nan", "None", "NA", "null", "True", "false")


@pytest.mark.parametrize("reply", REPLIES_THAT_ARE_NO_TEXT)
def test_cells_of_the_newer_protocol_stay_text(tmp_path: Path, reply: str) -> None:
    folder = folder_of(tmp_path / "b", 4)
    scored = run(folder, tmp_path / "run", {f"case_{k:06d}": Reply(reply) for k in range(4)}, protocol="vqa")
    for path in write_vlmevalkit_predictions(scored, tmp_path / "run", xlsx=True):
        table = pd.read_csv(path, sep="\t") if path.suffix == ".tsv" else pd.read_excel(path)
        for row in table.to_dict("records"):
            assert reply.strip() in "{" + row["prediction"] + "}"  # as the judge's prompt adds them
            assert "{" + row["answer"] + "}"


@pytest.mark.parametrize("protocol", ["mcq", "vqa"])
def test_browse_reads_our_answers(tmp_path: Path, protocol: str) -> None:
    folder = folder_of(tmp_path / "b", 9)
    replies = {f"case_{i:06d}": Reply("2" if protocol == "vqa" else "B") for i in range(5)}
    replies |= {
        "case_000005": Reply("I cannot tell. Cannot determine the answer"),
        "case_000006": Reply("?"),
        "case_000007": Reply("none" if protocol == "vqa" else "None of the above choices are correct"),
        "case_000008": Reply("", error="broken"),
    }
    run(folder, tmp_path / "run", replies, protocol=protocol)
    answers = predictions.read_answers([tmp_path / "run" / runs.ANSWERS])["org/model x"]
    cases = {case.id: case for case in bench.read(folder)}
    meant = {key: predictions.resolve_choice(cases[key], answer) for key, answer in answers.items()}
    assert meant == {f"case_{i:06d}": "2" for i in range(5)} | {
        "case_000005": "refused",
        "case_000006": "no answer",
        "case_000007": "none",
    }
    assert answers["case_000006"].text == "?"


def lmms_functions(folder: Path) -> Any:
    """``utils.py`` as lmms-eval loads it: by its path alone."""
    spec = importlib.util.spec_from_file_location("utils", folder / "utils.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("protocol", ["mcq", "vqa"])
def test_a_task_of_lmms_eval_scores_as_we_do(tmp_path: Path, protocol: str) -> None:
    folder = original(tmp_path, cases=12)
    report = export_lmms_eval(folder, tmp_path / "task", "mmvm_test", AskOptions(protocol=protocol))  # type: ignore[arg-type]
    assert (report.cases, report.left_out) == (12, [])
    utils = lmms_functions(tmp_path / "task")

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined, unused-ignore]
        pass

    Loader.add_constructor("!function", lambda loader, node: getattr(utils, node.value.partition(".")[2]))
    config = yaml.load((tmp_path / "task/mmvm_test.yaml").read_text(), Loader)
    assert (config["task"], config["dataset_path"], config["output_type"]) == ("mmvm_test", "json", "generate_until")
    docs = [json.loads(line) for line in Path(config["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()]
    texts = ["2" if protocol == "vqa" else "B"] * 12
    replies = {doc["id"]: Reply(text) for doc, text in zip(docs, texts, strict=True)}
    scored = run(folder, tmp_path / "run", replies, protocol=protocol)
    collected: dict[str, list[Any]] = {}
    for doc, text, outcome in zip(docs, texts, scored.outcomes, strict=True):
        assert config["doc_to_text"](doc, {"pre_prompt": "", "post_prompt": " !"}) == outcome.prediction.text + " !"
        assert doc[config["doc_to_target"]] == outcome.prediction.answer
        images = config["doc_to_visual"](doc)
        assert [(image.mode, image.size) for image in images] == [("RGB", (80, 45))] * 2
        for name, value in config["process_results"](doc, [text]).items():
            collected.setdefault(name, []).append(value)
    # of the kit's own aggregation it knows the standard error; it needs numbers
    assert {metric["aggregation"] for metric in config["metric_list"]} == {"mean"}
    metrics = {
        metric["metric"]: sum(values := collected[metric["metric"]]) / len(values) for metric in config["metric_list"]
    }
    assert metrics.pop("overall") == pytest.approx(scored.summary["overall"]["value"])
    types = {f"type_{name}": row["value"] for name, row in scored.summary["by"]["type"].items() if name != "(none)"}
    assert metrics == pytest.approx(types)


def test_names_of_tasks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name must be letters"):
        export_lmms_eval(folder_of(tmp_path / "b", 1), tmp_path / "task", "a/b", AskOptions())
