"""Shares and totals in words, the same on the terminal and in reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmvm_data.core.plurals import pluralize


def percent(value: float | None, signed: bool = False) -> str:
    """Return a share of 0..1 as "42.7", a difference of -1..1 as "+3.1"; a dash for None."""
    return "\u2013" if value is None else f"{100 * value:{'+' if signed else ''}.1f}"


def interval(group: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the interval to show: the bootstrap's, or Wilson's where that has no width (nothing or everything right);
    None without one."""
    low, high = group.get("low"), group.get("high")
    if low is None or high is None:
        return None
    if low == high and group.get("wilson_low") is not None:
        return float(group["wilson_low"]), float(group["wilson_high"])
    return low, high


def between(group: Mapping[str, Any], signed: bool = False) -> str:
    """Return the interval of a share or difference as "40.1 to 45.2"; a dash without one."""
    ends = interval(group)
    return "\u2013" if ends is None else f"{percent(ends[0], signed)} to {percent(ends[1], signed)}"


def summary_sentence(summary: Mapping[str, Any]) -> str:
    """Return the result in one sentence with the number of cases, and what happened to the others.

    Args:
        summary: what ``scores.json`` holds.
    """
    overall, cases, bench = summary["overall"], summary["cases"], summary.get("benchmark", {})
    text = (
        f"{percent(overall['value'])} % right ({between(overall)}), "
        f"{overall['hits']} of {pluralize(overall['n'], 'case')}; chance {percent(summary['chance'])} %"
    )
    parts = [
        (cases["unread"], "without an option that could be read"),
        (cases["refused"], "refused"),
        (cases["no_reply"], "without a reply"),
    ]
    if wrong := ", ".join(f"{number} {what}" for number, what in parts if number):
        text += f"; counted as wrong: {wrong}"
    if cases["truncated"]:
        text += f"; {cases['truncated']} cut at the limit of tokens"
    if bench.get("left_out"):
        of_all = pluralize(bench["cases"] + bench["left_out"], "case")
        text += f"; {bench['left_out']} of {of_all} of the benchmark left out"
    if not bench.get("complete", True):
        text += "; only the first cases of the benchmark"
    return text
