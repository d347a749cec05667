"""Players by name: ``random``, ``openai:gpt-4o``, ``hf:FOLDER`` and so on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from colva.evaluation.player import Player, PlayerOptions
from mmvm_data.errors import UsageError

PLAYERS: Mapping[str, tuple[str, str]] = {
    "random": ("colva.evaluation.trivial", "a label drawn at random"),
    "first": ("colva.evaluation.trivial", "always the first option"),
    "largest": ("colva.evaluation.trivial", "the candidate with the most pixels"),
    "openai:NAME": ("colva.evaluation.endpoint_model", "a model behind an OpenAI-compatible endpoint"),
    "hf:PATH": ("colva.evaluation.hf_model", "an image-text-to-text model that transformers loads natively"),
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
    for form, (module, _) in PLAYERS.items():
        head, colon, _rest = form.partition(":")
        if (spec.startswith(head + colon) and len(spec) > len(head + colon)) if colon else spec == head:
            opener: Callable[[str, PlayerOptions], Player] = import_module(module).open_player
            return opener(spec.removeprefix(head + colon) if colon else spec, options)
    raise UsageError(f"--model {spec!r}: expected one of {', '.join(PLAYERS)}")
