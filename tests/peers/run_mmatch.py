"""Runs the data set MMatch of a checkout of MMVMEvalKit: ``CHECKOUT FOLDER PREDICTIONS OUT``.

FOLDER holds ``mllm_match_eval_full.tsv``; the policy is the kit's ``exact_matching``, which asks no judge. OUT becomes
JSON: the accuracies, the hit of each row, and what ``build_prompt`` makes of it.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any


def _run_all(function: Any, tasks: list[dict[str, Any]], keys: list[Any], save: str, **_: Any) -> list[Any]:
    results = [function(**task) for task in tasks]
    with open(save, "wb") as file:
        pickle.dump(dict(zip(keys, results, strict=True)), file)
    return results


def main(checkout: Path, folder: Path, predictions: Path, out: Path) -> None:
    """Score."""
    os.environ["MATCH_TSV_DATA_PATH"] = str(folder)
    for name in ("vlmeval", "vlmeval.dataset", "vlmeval.dataset.utils", "vlmeval.utils"):  # without every other set
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    tools, sets = sys.modules["vlmeval.utils"], sys.modules["vlmeval.dataset.utils"]
    tools.can_infer = importlib.import_module("vlmeval.utils.matching_util").can_infer  # type: ignore[attr-defined]
    tools.track_progress_rich = _run_all  # type: ignore[attr-defined]
    sets.build_judge, sets.DEBUG_MESSAGE = None, ""  # type: ignore[attr-defined]
    module = importlib.import_module("vlmeval.dataset.image_mcq")
    task = module.CrossImageMatchDataset(dataset="MMatch")
    table = task.evaluate(str(predictions), model="exact_matching")
    scored = module.load(str(predictions).replace(".tsv", "_exact_matching_result.tsv"))
    prompts = [task.build_prompt(number) for number in range(len(task))]
    result = {
        "scores": {column: float(table[column].iloc[0]) for column in table.columns},
        "hits": {str(index): int(hit) for index, hit in zip(scored["index"], scored["hit"], strict=True)},
        "prompts": prompts,
    }
    out.write_text(json.dumps(result))


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
