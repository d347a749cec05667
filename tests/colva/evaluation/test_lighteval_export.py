"""The task for lighteval, with stand-ins for lighteval's classes; tests/peers runs it in lighteval itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from colva import evaluate
from colva.evaluation.lighteval_export import export_lighteval
from colva.evaluation.models.base import Reply
from colva.evaluation.question import AskOptions, Protocol
from mmvm_data.core.errors import UsageError
from tests.colva.evaluation.worlds import ScriptedModel, folder_of, lines, load_file, original


def load_task(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a task with stand-ins for lighteval's modules."""
    names = {
        "lighteval.metrics.metrics_sample": {"SampleLevelComputation": object},
        "lighteval.metrics.utils.metric_utils": {"SampleLevelMetricGrouping": SimpleNamespace},
        "lighteval.tasks.lighteval_task": {"LightevalTaskConfig": SimpleNamespace},
        "lighteval.tasks.requests": {"Doc": SimpleNamespace, "SamplingMethod": SimpleNamespace(GENERATIVE="text")},
    }
    return load_file(path, names, monkeypatch)


@pytest.mark.parametrize("protocol", ["mcq", "vqa"])
def test_a_task_asks_and_scores_as_we_do(tmp_path: Path, protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = original(tmp_path, cases=12)
    report = export_lighteval(folder, tmp_path / "task", "a-b", AskOptions(protocol=protocol))
    assert (report.cases, report.left_out) == (12, [])
    [config] = load_task(tmp_path / "task/a-b.py", monkeypatch).TASKS_TABLE
    assert (config.name, config.evaluation_splits) == ("a-b", ["test"])
    [metric] = config.metrics
    text = "The answer is 2." if protocol == "vqa" else "B"
    questions = lines(tmp_path / "task/questions.jsonl")
    ours = evaluate(
        folder, ScriptedModel({q["id"]: Reply(text) for q in questions}), tmp_path / "run", protocol=protocol
    )
    values: dict[str, list[float]] = {}
    for question, outcome in zip(questions, ours.scored.outcomes, strict=True):
        doc = config.prompt_function(question, "a-b")
        assert doc.query == outcome.prediction.text
        assert [image.filename for image in doc.images] == [
            str(tmp_path / "task" / path) for path in question["images"]
        ], "lighteval's details hold the path of an image that has one, else its bytes"
        for image, path in zip(doc.images, outcome.prediction.images, strict=True):
            assert image.tobytes() == Image.open(folder / path).convert("RGB").tobytes()
        response = SimpleNamespace(final_text=[text])
        for name, value in metric.sample_level_fn.compute(doc=doc, model_response=response).items():
            values.setdefault(name, []).append(value)
    # of an aggregation with "mean" in its name lighteval computes the standard error of the mean
    assert "mean" in metric.corpus_level_fn.__name__
    assert set(values) == set(metric.metric_name) == set(metric.higher_is_better)
    expected = {f"accuracy_{name}": share.value for name, share in ours.by_type.items() if name != "(none)"}
    assert {name: metric.corpus_level_fn(of) for name, of in values.items()} == pytest.approx(
        expected | {"accuracy": ours.accuracy}
    )


def test_datasets_reads_the_folder_and_does_not_take_other_questions_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It caches by the names of folder and subset; lighteval caches replies by the subset too."""
    datasets = pytest.importorskip("datasets")
    bench, task = folder_of(tmp_path / "b", 3), tmp_path / "task"
    for ask_options in (AskOptions(), AskOptions(suffix=" Answer now."), AskOptions()):
        export_lighteval(bench, task, "mmvm", ask_options)
        [config] = load_task(task / "mmvm.py", monkeypatch).TASKS_TABLE
        read = datasets.load_dataset(config.hf_repo, name=config.hf_subset, cache_dir=str(tmp_path / "cache"))
        assert list(read) == config.evaluation_splits
        assert [dict(row) for row in read["test"]] == lines(task / "questions.jsonl")


def test_corrected_images_make_other_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lighteval would take its cached replies to the former images, whose paths and questions are the same."""
    bench, task = folder_of(tmp_path / "b", 2), tmp_path / "task"
    names = []
    for has_changed in (False, False, True):
        if has_changed:
            [image, *_] = lines(task / "questions.jsonl")[1]["images"]
            Image.new("RGB", Image.open(task / image).size).save(task / image)
        export_lighteval(bench, task, "mmvm", AskOptions())
        names.append(load_task(task / "mmvm.py", monkeypatch).TASKS_TABLE[0].hf_subset)
    assert names[0] == names[1] != names[2]


def test_pixels_are_rgb_and_not_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_lighteval(folder_of(tmp_path / "b", 1), tmp_path / "task", "mmvm", AskOptions())
    module = load_task(tmp_path / "task/mmvm.py", monkeypatch)
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    Image.fromarray(pixels).save(tmp_path / "task/gray.png", exif=exif)
    image = module.open_image("gray.png")
    assert (image.mode, image.size, image.info) == ("RGB", (6, 4), {})
    assert np.array_equal(np.asarray(image)[..., 1], pixels)


@pytest.mark.parametrize(("name", "message"), [("extract", "must not be 'extract'"), ("a/b", "must be letters")])
def test_names_of_tasks(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export_lighteval(folder_of(tmp_path / "b", 1), tmp_path / "task", name, AskOptions())
    assert not (tmp_path / "task").exists()
