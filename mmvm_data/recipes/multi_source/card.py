"""The card of a recipe's benchmark: README.md with counts, licences, and what could not be reached."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mmvm_data.cases.statistics import Stats
from mmvm_data.core.version import __version__
from mmvm_data.formats.hub_card import escape_cell, histogram_lines, license_lines, size_line


def format_card(
    recipe: Mapping[str, Any],
    stats: Stats,
    sources: Mapping[str, Mapping[str, int]],
    splits: Mapping[str, Mapping[str, int]],
    shortfalls: Sequence[str],
    scores: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return the text of README.md.

    Args:
        recipe: as build.json records it.
        stats: of all cases.
        sources: by the recipe's name: ``wanted``, ``cases``, ``videos``, ``rejects``.
        splits: name -> ``cases``, ``videos``; empty without splits.
        shortfalls: what could not be reached, one sentence each.
        scores: of the baselines, see ``Selection.to_json``; None where cases were not chosen by them.
        notes: what else a reader should know, one sentence each.
    """
    lines = [
        "# Visual correspondence",
        "",
        size_line(stats),
        "",
        "## Parts of the recipe",
        "",
        "| source of the recipe | wanted | cases | videos | rejects |",
        "|---|---|---|---|---|",
    ]
    for name, counts in sources.items():
        wanted = "all" if counts["wanted"] is None else counts["wanted"]
        lines.append(
            f"| {escape_cell(name)} | {wanted} | {counts['cases']} | {counts['videos']} | {counts['rejects']} |"
        )
    lines.append("")
    if splits:
        lines += ["| split | cases | videos |", "|---|---|---|"]
        lines += [f"| {escape_cell(name)} | {c['cases']} | {c['videos']} |" for name, c in splits.items()]
        lines += ["", "Videos that share pictures, or an original, are in one split.", ""]
    lines += [line for text in notes for line in (f"Note: {escape_cell(text)}.", "")]
    if shortfalls:
        lines += ["Not reached:", "", *(f"- {escape_cell(text)}" for text in shortfalls), ""]
    if scores is not None:
        lines += _score_lines(scores)
    lines += [*license_lines(stats), *histogram_lines(stats)]
    lines += ["## How it was made", "", f"With mmvm-data {__version__}, from this recipe:", ""]
    lines += ["```json", json.dumps(recipe, indent=1).replace("```", "``\\u0060"), "```"]
    return "\n".join(lines) + "\n"


def _score_lines(scores: Mapping[str, Any]) -> list[str]:
    """What baselines score on the pool and on the chosen cases, over all sources."""
    lines = [
        f"Cases were chosen from {scores['pool_cases']} such that blind baselines answer them no better than chance:",
        "",
        "| baseline | before | after | chance |",
        "|---|---|---|---|",
    ]
    for comparison in scores["baselines"]:
        if comparison["source"] is None:
            before, after = comparison["pool"], comparison["chosen"]
            interval = f"{after['low']:.1%} to {after['high']:.1%}"
            lines.append(
                f"| {before['baseline']} | {before['score']:.1%} | {after['score']:.1%} ({interval}) | "
                f"{after['chance']:.1%} |"
            )
    return [*lines, ""]
