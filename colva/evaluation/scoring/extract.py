"""Extract the option that a model means from free text, by rule.

Two modes. ``vlmevalkit`` is the rule behind the published table, with its weaknesses; ``strict`` reads only explicit
statements. See ``vlmevalkit_rule`` and ``strict_rule``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from colva.evaluation.scoring import strict_rule, vlmevalkit_rule
from colva.evaluation.scoring.vlmevalkit_rule import NONE, REFUSED

MODES = ("vlmevalkit", "strict")

__all__ = ["MODES", "NONE", "REFUSED", "extract_number", "extract_option"]


def extract_option(text: str, choices: Mapping[str, str], mode: str = "vlmevalkit") -> str | None:
    """Return the letter of the option that a text names.

    Args:
        text: the model's reply.
        choices: letter -> text of the option, such as ``{"A": "1", "B": "None of the above choices are correct"}``.
        mode: one of ``MODES``.

    Returns:
        a letter of ``choices``, ``Z`` for a refusal, or None when the rule finds no option or more than one.

    Raises:
        ValueError: the mode is unknown.
    """
    _check_mode(mode)
    if mode == "strict":
        return strict_rule.extract_option(text, choices)
    return vlmevalkit_rule.extract_option(text, choices)


def extract_number(text: str, numbers: Collection[int] = (), mode: str = "vlmevalkit") -> str | None:
    """Return the number that a text names, for questions whose answer is a number (the newer protocol, whose own
    scorer is a judge and no rule).

    Args:
        text: the model's reply.
        numbers: of the candidates; empty when they are not known, and then any number is accepted.
        mode: one of ``MODES``.

    Returns:
        the number in digits, ``none``, ``Z``, or None.

    Raises:
        ValueError: the mode is unknown.
    """
    _check_mode(mode)
    if mode == "strict":
        return strict_rule.extract_number(text, numbers)
    return vlmevalkit_rule.extract_number(text, numbers)


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} must be one of {', '.join(MODES)}")
