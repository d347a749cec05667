"""Players by name: ``random``, ``openai:gpt-4o``, ``hf:FOLDER`` and so on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from colva.evaluation.models.base import Player, PlayerOptions
from mmvm_data.core.errors import UsageError

PLAYERS: Mapping[str, tuple[str, str]] = {
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
"""Form of the name -> module that holds ``open_player(name, options)``, and what it is. Modules are imported when they
are asked for: the trivial players and endpoints need no torch."""


def open_player(spec: str, options: PlayerOptions) -> Player:
    """The player of a name.

    Args:
        spec: of one of the forms in ``PLAYERS``.
        options: each player takes what concerns it.

    Raises:
        UsageError: no such player, or what it needs is not installed or not there.
    """
    if any((Path(spec) / name).is_file() for name in ("config.json", "colva_adapter.json")):
        return _opener("FOLDER")(spec, options)
    for form in PLAYERS:
        head, colon, _rest = form.partition(":")
        if (spec.startswith(head + colon) and len(spec) > len(head + colon)) if colon else spec == head:
            return _opener(form)(spec.removeprefix(head + colon) if colon else spec, options)
    raise UsageError(f"--model {spec!r}: expected one of {', '.join(PLAYERS)}")


def _opener(form: str) -> Callable[[str, PlayerOptions], Player]:
    opener: Callable[[str, PlayerOptions], Player] = import_module(PLAYERS[form][0]).open_player
    return opener
