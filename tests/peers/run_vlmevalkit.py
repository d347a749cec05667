"""Runs MMVMBench of a checkout of VLMEvalKit: ``CHECKOUT FOLDER OUT``.

FOLDER holds ``mine.tsv``, the plug-in beside it, and ``predictions.tsv`` and ``predictions.xlsx``. The judge says yes
where reply and answer are the same text. OUT becomes JSON: the accuracies by scorer and file, and the question and the
images of each row as the kit saves them.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import runpy
import sys
import types
from pathlib import Path
from typing import Any


class _Stub(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


class _Judge:
    fail_msg = "the judge failed"

    def generate(self, prompt: str) -> str:
        found = re.search(r"response was: \{(.*)\}\. The correct answer to this question is: \{(.*)\}\.", prompt, re.S)
        assert found is not None, prompt
        return "[YES]" if found[1] == found[2] else "[NO]"


def _run_all(function: Any, prompts: list[str], keys: list[Any], save: str, **_: Any) -> None:
    with open(save, "wb") as file:
        pickle.dump({key: function(prompt) for key, prompt in zip(keys, prompts, strict=True)}, file)


def main(checkout: Path, folder: Path, out: Path) -> None:
    """Score, and save all images."""
    os.environ["LMUData"] = str(folder)  # noqa: SIM112  the kit's own spelling
    for name in ("vlmeval", "vlmeval.dataset"):  # without the packages' own imports of every model and data set
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    for name in ("vlmeval.utils", "vlmeval.dataset.utils"):
        sys.modules[name] = _Stub(name)
    sys.modules["vlmeval.dataset.utils"].__path__ = [str(checkout / "vlmeval/dataset/utils")]
    sys.modules["vlmeval.dataset.utils"].build_judge = lambda **_: _Judge()  # type: ignore[attr-defined]
    sys.modules["vlmeval.utils"].track_progress_rich = _run_all  # type: ignore[attr-defined]
    kit, scorer = sys.modules["vlmeval.dataset"], importlib.import_module("vlmeval.dataset.image_vqa").MMVMBench
    kit.MMVMBench, kit.DATASET_CLASSES = scorer, [scorer]  # type: ignore[attr-defined]
    sys.modules["vlmeval"].dataset = kit  # type: ignore[attr-defined]
    runpy.run_path(str(next(folder.glob("*_vlmevalkit.py"))))
    task = kit.DATASET_CLASSES[0](dataset="mine")
    prompts = [[part["value"] for part in task.build_prompt(k)] for k in range(len(task))]
    results = {}
    for name, kind in (("plugin", type(task)), ("kit", scorer)):
        for file in ("predictions.tsv", "predictions.xlsx"):
            for stale in folder.glob("predictions_*"):
                stale.unlink()
            table = kind.evaluate(str(folder / file), model="judge")
            results[f"{name} {file}"] = {column: float(table[column].iloc[0]) for column in table.columns}
    out.write_text(json.dumps({"scores": results, "prompts": prompts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).resolve(), Path(sys.argv[3]))
