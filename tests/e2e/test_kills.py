"""Commands that write a result, killed at their file-system events, and two of them at the same time.

``MMVM_KILLS=all`` kills at every event instead of some, ``MMVM_RACES=100`` races 100 times instead of 6.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.pipeline.build import BuildOptions, BuildProgress, build
from tests.e2e.killed_commands import ask
from tests.forks import ROOT
from tests.worlds import davis

KILLS = 0 if os.environ.get("MMVM_KILLS") == "all" else 5
RACES = int(os.environ.get("MMVM_RACES", "6"))
SAMPLING = SamplingOptions(min_area=100, cases_per_video=1)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
CONSTANT = ["--min-area", "100", "--cases-per-video", "1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("kills") / "world", videos=2, frames=4)


@pytest.fixture(scope="module")
def bench(world: Path) -> Path:
    build("davis", world, world.parent / "b", BuildOptions(sampling=SAMPLING))
    return world.parent / "b"


def kill(work: Path, command: list[str], *retries: list[str], kills: int = KILLS, **more: Any) -> None:
    request = {"kind": "kill", "work": str(work), "command": command, "retries": list(retries) or [command]}
    result = ask(request | {"kills": kills, "is_atomic": False, "keeps_old": True} | more)
    assert result["faults"] == []
    assert result["kills"] == (min(kills, result["events"]) if kills else result["events"]) > 2


def build_command(world: Path, *more: str) -> list[str]:
    return ["mmvm-data", "build", "--source", "davis", "--root", str(world), "--out", "OUT", *CONSTANT, *more]


def test_build(world: Path, tmp_path: Path) -> None:
    kill(tmp_path, build_command(world), build_command(world, "--resume"))


def test_build_in_the_place_of_another(world: Path, bench: Path, tmp_path: Path) -> None:
    new = build_command(world, "--seed", "1")
    kill(tmp_path, [*new, "--overwrite"], [*new, "--resume"], [*new, "--overwrite"], before=str(bench))


def test_build_of_a_source_that_has_changed(world: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "world", tmp_path / "before"
    davis(root, videos=3, frames=4)

    def interrupt(progress: BuildProgress) -> None:
        if progress.videos == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build("davis", root, out, BuildOptions(sampling=SAMPLING), interrupt)
    shutil.rmtree(tmp_path / ".before.index", ignore_errors=True)
    records = (json.loads(line) for line in (out / ".build/videos.jsonl").read_text().splitlines())
    first = next(record["video"] for record in records if record["video"])
    for file in (root / "JPEGImages/480p" / first).iterdir():
        file.write_bytes(file.read_bytes() + b"\0")
    command = build_command(root, "--resume", "--accept-changes")
    kill(tmp_path, command, before=str(out), keeps_old=False)


@pytest.mark.parametrize("form", ["bench", "vlmevalkit", "sft", "hub", "webdataset"])
def test_export(bench: Path, tmp_path: Path, form: str) -> None:
    if form == "hub":
        pytest.importorskip("pyarrow")
    # the plug-in beside the table of vlmevalkit is always the same, and written before it
    is_atomic = form != "vlmevalkit"
    kill(tmp_path, ["mmvm-data", "export", str(bench), "--to", form, "--out", "OUT"], is_atomic=is_atomic)


def test_sft_in_the_place_of_another(world: Path, bench: Path, tmp_path: Path) -> None:
    """Both files are those of one benchmark."""
    build("davis", world, tmp_path / "other", BuildOptions(sampling=SamplingOptions(seed=1, min_area=100)))
    export = ["mmvm-data", "export", str(tmp_path / "other"), "--to", "sft", "--out", str(tmp_path / "before")]
    subprocess.run([sys.executable, "-m", "mmvm_data.cli", *export[1:]], check=True, capture_output=True, cwd=ROOT)
    command = ["mmvm-data", "export", str(bench), "--to", "sft", "--out", "OUT"]
    kill(tmp_path, command, before=str(tmp_path / "before"), is_atomic=True)


def test_ingest(tmp_path: Path) -> None:
    from tests.mmvm_data.annotation.tracks.clips import write_clip

    clip = write_clip(tmp_path / "clip.mp4", (12, 12))
    kill(tmp_path, ["mmvm-data", "ingest", "cut", str(clip), "--out", "OUT", "--min-shot", "0"])


def test_eval(bench: Path, tmp_path: Path) -> None:
    command = ["colva", "eval", "--bench", str(bench), "--model", "random", "--out", "OUT"]
    kill(tmp_path, command, kills=KILLS and 3)


def test_eval_in_the_place_of_another(bench: Path, tmp_path: Path) -> None:
    command = ["colva", "eval", "--bench", str(bench), "--out", str(tmp_path / "before"), "--model", "first"]
    subprocess.run([sys.executable, "-m", "colva.cli", *command[1:]], check=True, capture_output=True, cwd=ROOT)
    new = ["colva", "eval", "--bench", str(bench), "--out", "OUT", "--model", "random", "--overwrite"]
    kill(tmp_path, new, before=str(tmp_path / "before"), kills=KILLS and 3)


def test_merge_of_a_checkpoint(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from colva.checkpoints.init_tiny import init_tiny

    init_tiny(tmp_path / "base", "internvl2_5-qwen2", "mobilenetv2")
    weights = load_file(tmp_path / "base/model.safetensors").items()
    adapter = {name.replace("adapter.", "ot_mlp1."): w for name, w in weights if name.startswith("adapter.")}
    torch.save({"state_dict": adapter}, tmp_path / "a.pth")
    command = ["colva", "merge", str(tmp_path / "a.pth"), "OUT", "--base", str(tmp_path / "base")]
    kill(tmp_path, command, is_atomic=True, warm_up=True, kills=KILLS and 3)


SET_OPERATIONS = {
    "merge": ["--fresh-ids"],
    "split": ["--shares", "train=0.5,val=0.5"],
    "filter": ["--where", "candidates >= 2"],
    "sample": ["--n", "1"],
}


@pytest.mark.parametrize("operation", SET_OPERATIONS)
def test_set_operation(bench: Path, tmp_path: Path, operation: str) -> None:
    """All parts of a split appear in one step."""
    sources = [str(bench)]
    if operation == "merge":
        shutil.copytree(bench, tmp_path / "other")
        sources.append(str(tmp_path / "other"))
    command = ["mmvm-data", operation, *sources, *SET_OPERATIONS[operation], "--out", "OUT"]
    kill(tmp_path, command, is_atomic=True, warm_up=True, kills=KILLS and 3 + 2 * (operation == "split"))


def test_two_at_a_time(world: Path, bench: Path, tmp_path: Path) -> None:
    """One writes its result, and the other one waits and writes its own, or is refused with one line."""
    build("davis", world, tmp_path / "other", BuildOptions(sampling=SamplingOptions(seed=1, min_area=100)))

    def export(form: str, folder: Path = bench) -> list[str]:
        return ["mmvm-data", "export", str(folder), "--to", form, "--out", "OUT"]

    def evaluate(model: str) -> list[str]:
        return ["colva", "eval", "--bench", str(bench), "--model", model, "--out", "OUT"]

    new = build_command(world, "--seed", "1", "--overwrite")
    pairs: list[tuple[list[list[str]], Path | None]] = [
        ([build_command(world), build_command(world, "--seed", "1")], None),
        ([new, build_command(world, "--seed", "2", "--overwrite")], bench),
        ([export("bench"), export("bench", tmp_path / "other")], None),
        ([export("sft"), export("sft", tmp_path / "other")], None),
        ([export("webdataset"), export("webdataset", tmp_path / "other")], None),
        ([evaluate("first"), evaluate("random")], None),
    ]
    refused = asked = 0
    for number, (commands, before) in enumerate(pairs):
        seeds = list(range(number, RACES, len(pairs)))
        asked += len(seeds)
        request = {"kind": "race", "work": str(tmp_path), "seeds": seeds, "before": before and str(before)}
        result = ask(request | {"commands": commands, "results": commands})
        assert result["faults"] == []
        refused += result["refused"]
    assert asked == RACES and refused
