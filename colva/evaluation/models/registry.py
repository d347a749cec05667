"""Models by name: ``random``, ``openai:gpt-4o``, ``hf:FOLDER`` and so on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from colva.evaluation.models.base import ModelAdapter, ModelOptions
from mmvm_data.core.errors import UsageError

MODELS: Mapping[str, tuple[str, str]] = {
    "random": ("colva.evaluation.models.baselines", "a label drawn at random"),
    "first": ("colva.evaluation.models.baselines", "always the first option"),
    "largest": ("colva.evaluation.models.baselines", "the candidate with the most pixels"),
    "similarity:EXPERT": (
        "colva.evaluation.models.similarity",
        "the candidate with the nearest features of a vision expert",
    ),
    "openai:NAME": ("colva.evaluation.models.endpoint", "a model behind an OpenAI-compatible endpoint"),
    "hf:PATH": ("colva.evaluation.models.hf", "an image-text-to-text model that transformers loads natively"),
    "FOLDER": ("colva.evaluation.models.colva", "a CoLVA model, or a published checkpoint of one"),
}
"""Form of the name -> module that holds ``open_model(name, options)``, and what it is. A module is imported when a
model of its form is opened: baselines and endpoints need no torch."""


def open_model(spec: str, options: ModelOptions) -> ModelAdapter:
    """Open the model of a name.

    Args:
        spec: of one of the forms in ``MODELS``.
        options: each kind uses those that concern it.

    Raises:
        UsageError: no such model, or what it needs is not installed or missing.
    """
    if any((Path(spec) / name).is_file() for name in ("config.json", "colva_adapter.json")):
        return _opener("FOLDER")(spec, options)
    for form in MODELS:
        prefix, colon, _ = form.partition(":")
        prefix += colon
        if (spec.startswith(prefix) and len(spec) > len(prefix)) if colon else spec == prefix:
            return _opener(form)(spec.removeprefix(prefix) if colon else spec, options)
    raise UsageError(f"`model` must be one of {', '.join(MODELS)}, got {spec!r}")


def _opener(form: str) -> Callable[[str, ModelOptions], ModelAdapter]:
    opener: Callable[[str, ModelOptions], ModelAdapter] = import_module(MODELS[form][0]).open_model
    return opener
