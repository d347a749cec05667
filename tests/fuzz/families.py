"""Families of commands that share their input files: what the files are, and the commands that read them.

In arguments, ``{d}`` stands for the folder of the files and ``{odd}`` for an odd text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

Command = tuple[str, ...]


class Family(NamedTuple):
    """Commands with the same inputs.

    Attributes:
        program: "mmvm-data" or "colva".
        prepare: writes the input files into a folder.
        commands: without the program.
        skip: parts of names of files that are not changed.
    """

    program: str
    prepare: Callable[[Path], None]
    commands: tuple[Command, ...]
    skip: tuple[str, ...] = ()


def _invoke(program: str, *words: object) -> None:
    from tests.fuzz.trial import group_of

    result = CliRunner().invoke(group_of(program), [str(word) for word in words])
    if result.exit_code:
        raise RuntimeError(f"{words}: {result.output}") from result.exception


def _benchmark(folder: Path) -> None:
    from tests.colva.evaluation.worlds import folder_of

    folder_of(folder / "b", 6)
    (folder / "b/audit.json").write_text('{"shortcuts": ["largest"]}')


def _published(folder: Path) -> None:
    _benchmark(folder)
    (folder / "b/cases.jsonl").unlink()


_RECIPE = """\
sources:
  - {name: a, reader: davis, root: s, quota: 2, sampling: {min_side: 4}}
sampling: {min_area: 50, cases_per_video: 2, max_gap: 3, candidates: all}
splits: {train: 0.5, test: 0.5}
review: {overlap: 1, annotators: [ann]}
total: 2
"""


def _sources(folder: Path) -> None:
    from tests.worlds import davis

    davis(folder / "s", videos=2, frames=3, size=(60, 160))
    words = ("build", "--source", "davis", "--root", folder / "s", "--min-area", "50", "--out")
    _invoke("mmvm-data", *words, folder / "done")
    (folder / "recipe.yaml").write_text(_RECIPE)
    journal = folder / "half/.build"
    journal.mkdir(parents=True)
    (folder / "half/match_bench").mkdir()
    request = json.loads((folder / "done/build.json").read_text())["request"]
    (journal / "request.json").write_text(json.dumps(request))
    line = {"boot": "", "state": {"units": 0, "cases": 0}, "bytes": {}}
    (journal / "journal.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({"synced": 1000}) + "\n")


def _reviewed(folder: Path) -> None:
    from mmvm_data.formats import bench
    from tests.mmvm_data.annotation.annotations import choice
    from tests.mmvm_data.annotation.forked_commands import write_export

    _benchmark(folder)
    cases = list(bench.read(folder / "b"))
    changes: list[dict[str, Any]] = [choice("answer", "1")]
    write_export(folder / "export.json", [(case, changes, "accept") for case in cases[:3]])
    _invoke("mmvm-data", "review", "pull", folder / "b", "--export", folder / "export.json")
    write_export(folder / "export.json", [(case, changes, "reject") for case in cases[:4]], hour=2)
    _invoke("mmvm-data", "rationale", folder / "b", "--limit", "2")
    pairs = {"pairs": [{"cases": [case.id for case in cases[:2]]}]}
    audit = {"repeated_cases": [], "near_duplicates": pairs, "leak": {"videos": ["a b"], "frames": pairs}}
    (folder / "audit.json").write_text(json.dumps(audit))
    (folder / "answers.jsonl").write_text(
        "".join(json.dumps({"id": case.id, "model": "m", "answer": "A", "text": "A"}) + "\n" for case in cases)
    )


def _clips(folder: Path) -> None:
    from tests.mmvm_data.annotation.tracks.clips import write_clip

    write_clip(folder / "clip.mp4", shots=(8,))
    _invoke("mmvm-data", "ingest", folder / "clip.mp4", "--out", folder / "c", "--min-shot", "0.1")
    (folder / "export.json").write_text(json.dumps([{"id": 1, "data": {"shot": "clip"}, "annotations": []}]))


def _runs(folder: Path) -> None:
    _benchmark(folder)
    for model in ("random", "first"):
        _invoke("colva", "eval", "--bench", folder / "b", "--model", model, "--out", folder / f"runs/{model}")
    (folder / "stage1").mkdir()
    lines = [{"step": 0, "eval_loss": 2.0}, {"step": 5, "loss": 1.5}, {"step": 10, "loss": 1.0, "eval_loss": 1.25}]
    (folder / "stage1/log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _checkpoint(folder: Path) -> None:
    _benchmark(folder)
    words = ("init-tiny", folder / "m", "--family", "internvl2_5-qwen2", "--expert", "mobilenetv2")
    _invoke("colva", *words)


def _training(folder: Path) -> None:
    from colva.training.config_files import find_config

    _checkpoint(folder)
    _invoke("mmvm-data", "synth", folder / "v", "--videos", "2", "--frames", "3")
    for stage in ("pretrain", "finetune"):
        text = find_config(f"{stage}/tiny").read_text()
        for old, new in (
            ("demo/tiny", "m"),
            ("demo/videos", "v"),
            ("num_workers: 2", "num_workers: 0"),
            ("demo/bench", "b"),
            ("demo/", ""),
        ):
            text = text.replace(old, new if " " in old else f"{folder}/{new}")
        (folder / f"{stage}.yaml").write_text(text)
    (folder / "zero.json").write_text('{"zero_optimization": {"stage": 1}}')


_FORMS = (
    "bench",
    "vlmevalkit",
    "sft",
    "hub",
    "webdataset",
    "llamafactory",
    "ms-swift",
    "xtuner",
    "coco",
    "ytvis",
    "davis",
    "cvat",
)
_EXPORTS: tuple[Command, ...] = tuple(("export", "{d}/b", "--to", form, "--out", "{d}/out") for form in _FORMS)
_ENDPOINT: Command = ("--endpoint", "http://127.0.0.1:9/v1", "--model", "m")
_BUILD: Command = ("build", "--source", "davis", "--root", "{d}/s", "--min-area", "50")
_DRY_RUNS: tuple[Command, ...] = tuple(
    ("train", f"{{d}}/{stage}.yaml", "--dry-run") for stage in ("pretrain", "finetune")
)

FAMILIES: Mapping[str, Family] = {
    "build": Family(
        "mmvm-data",
        _sources,
        (
            (*_BUILD, "--out", "{d}/new"),
            (*_BUILD, "--out", "{d}/done", "--resume"),
            (*_BUILD, "--out", "{d}/half", "--resume"),
            (*_BUILD, "--out", "{d}/done", "--overwrite"),
            ("build", "--source", "davis", "--root", "{odd}", "--out", "{d}/new"),
            ("build", "--source", "{odd}", "--root", "{d}/s", "--out", "{odd}"),
            ("synth", "{d}/s/ImageSets", "--videos", "{odd}"),
            ("sources", "--json"),
            ("build", "{d}/recipe.yaml", "--out", "{d}/new"),
            ("build", "{d}/recipe.yaml", "--dry-run"),
            ("sources", "--root", "{d}/s"),
            ("sources", "--root", "{odd}"),
            ("build", "--source", "auto", "--root", "{d}/s", "--min-area", "50", "--out", "{d}/new"),
        ),
        skip=("/done/match_bench",),
    ),
    "benchmark": Family(
        "mmvm-data",
        _benchmark,
        (
            ("validate", "{d}/b"),
            ("validate", "{d}/b", "--deep", "--json"),
            ("stats", "{d}/b"),
            ("report", "{d}/b"),
            ("audit", "{d}/b", "--workers", "1"),
            ("diff", "{d}/b", "{d}/b", "--files"),
            ("merge", "{d}/b", "--out", "{d}/merged", "--fresh-ids"),
            ("split", "{d}/b", "--by", "source", "--out", "{d}/parts"),
            ("filter", "{d}/b", "--where", "{odd}", "--out", "{d}/kept"),
            ("filter", "{d}/b", "--where", "candidates >= 2", "--out", "{d}/kept"),
            ("sample", "{d}/b", "--n", "2", "--balance", "source", "--out", "{d}/drawn"),
            ("sample", "{d}/b", "--n", "2", "--resist", "--out", "{d}/hard"),
        ),
    ),
    "export": Family("mmvm-data", _benchmark, _EXPORTS),
    "annotation": Family(
        "mmvm-data",
        _reviewed,
        (
            ("review", "pull", "{d}/b", "--export", "{d}/export.json"),
            ("review", "push", "{d}/b", "--url", "{odd}"),
            ("rationale", "{d}/b"),
            ("rationale", "{d}/b", "--replace", "--dry-run"),
            ("rationale", "{d}/b", "--dry-run", *_ENDPOINT, "--body", "{odd}"),
            ("cues", "{d}/b"),
        ),
    ),
    "import": Family("mmvm-data", _published, (("import", "{d}/b"),)),
    "ingest": Family(
        "mmvm-data",
        _clips,
        (
            ("ingest", "pull", "{d}/c", "--export", "{d}/export.json"),
            ("ingest", "{d}/clip.mp4", "--out", "{d}/c", "--min-shot", "0.1"),
            ("build", "--source", "clips", "--root", "{d}/c", "--out", "{d}/new", "--min-candidates", "1"),
        ),
    ),
    "browse": Family(
        "mmvm-data",
        _reviewed,
        (
            ("browse", "open", "{d}/b", "--predictions", "{d}/answers.jsonl", "--no-app", "--database-uri", "x"),
            ("browse", "open", "{d}/b", "--audit", "{d}/audit.json", "--no-app", "--database-uri", "x"),
            ("browse", "pull", "{d}/b", "--name", "x"),
        ),
    ),
    "eval": Family(
        "colva",
        _runs,
        (
            ("eval", "--bench", "{d}/b", "--model", "random", "--out", "{d}/runs/random"),
            ("eval", "--bench", "{d}/b", "--model", "first", "--out", "{d}/runs/random", "--overwrite"),
            ("eval", "--bench", "{d}/b", "--model", "largest", "--out", "{d}/new", "--body", "{odd}"),
            ("export-lmms-eval", "{d}/b", "--out", "{d}/task"),
            ("export-inspect", "{d}/b", "--out", "{d}/task"),
            ("export-lighteval", "{d}/b", "--out", "{d}/task"),
        ),
    ),
    "reports": Family(
        "colva",
        _runs,
        (
            ("compare", "{d}/runs/random", "{d}/runs/first"),
            ("compare", "{d}/runs/random", "{d}/runs/first", "--out", "{d}/c.html"),
            ("overview", "{d}"),
        ),
        skip=("FRAME",),
    ),
    "checkpoints": Family(
        "colva",
        _checkpoint,
        (
            ("convert", "{d}/m", "{d}/out", "--to", "original", "--dry-run"),
            ("convert", "{d}/m", "{d}/out", "--to", "original"),
            ("merge", "{d}/m", "{d}/out", "--dry-run"),
            ("chat", "{d}/m", "--bench", "{d}/b", "--out", "{d}/a.jsonl", "--device", "cpu"),
            ("init-tiny", "{d}/b/cases.jsonl"),
            ("init-tiny", "{d}/new", "--family", "{odd}"),
            ("init-small", "{d}/new", "--llm", "{odd}"),
        ),
        skip=("FRAME", "/b/audit"),
    ),
    "train": Family(
        "colva",
        _training,
        (
            *_DRY_RUNS,
            ("train", "{d}/pretrain.yaml", "--dry-run", "--set", "trainer.max_steps={odd}"),
            ("train", "{d}/finetune.yaml", "--dry-run", "--set", "{odd}"),
            ("train", "{d}/finetune.yaml", "--dry-run", "--deepspeed", "{d}/zero.json"),
            ("configs",),
        ),
        skip=("FRAME", "/b/audit"),
    ),
}


@contextmanager
def replaced_services(folder: str) -> Iterator[None]:
    """Let ``browse pull`` find tags in memory instead of in a database."""
    from mmvm_data.viz import fiftyone, mongo
    from tests.mmvm_data.annotation.forked_commands import use_fake_app

    before = dict(vars(fiftyone)), dict(vars(mongo))
    use_fake_app({"case_000001": ["reject"], "case_000002": ["odd"]})
    vars(fiftyone)["_stored_folder"] = lambda _: str(Path(folder).resolve())
    try:
        yield
    finally:
        vars(fiftyone).update(before[0])
        vars(mongo).update(before[1])
