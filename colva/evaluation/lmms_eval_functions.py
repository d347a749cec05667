"""Functions of a task for lmms-eval, written beside its yaml as ``utils.py`` by ``colva export-lmms-eval``.

lmms-eval loads this file and calls the functions that the yaml names; the rule that reads answers is in ``extract.py``
beside it. The file needs no other module of this package.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TASK_DIR = Path(__file__).resolve().parent


def _load_extract() -> Any:
    spec = importlib.util.spec_from_file_location("mmvm_extract", _TASK_DIR / "extract.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_extract = _load_extract()


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """Return the drawn images of a question, RGB, as they are stored; their paths are relative to this file."""
    from PIL import Image

    images = [Image.open(_TASK_DIR / path).convert("RGB") for path in doc["images"]]
    for image in images:
        image.info.clear()  # an orientation tag, which models would apply
    return images


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, str] | None = None) -> str:
    """Return the question, with the text before and after it that a model's kwargs set."""
    kwargs = lmms_eval_specific_kwargs or {}
    return f"{kwargs.get('pre_prompt', '')}{doc['question']}{kwargs.get('post_prompt', '')}"


def process_results(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return 1.0 for a hit and 0.0 for a miss, for the metrics of the yaml: overall, and under each match type.

    Numbers with the aggregation ``mean`` are what lmms-eval computes standard errors of.
    """
    reply = str(results[0])
    if doc["protocol"] == "vqa":
        chosen = _extract.extract_number(reply, [int(label) for label in doc["labels"] if label.isdigit()])
    else:
        chosen = _extract.extract_option(reply, dict(zip(doc["labels"], doc["texts"], strict=True)))
    hit = float(chosen == doc["answer"])
    return {"overall": hit, **{f"type_{name}": hit for name in doc["type_names"]}}
