"""Shares and totals in words, the same on the terminal and in reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(value: float | None, signed: bool = False) -> str:
    """A share of 0..1 as "42.7", a difference of -1..1 as "+3.1"; a dash for none."""
    return "\u2013" if value is None else f"{100 * value:{'+' if signed else ''}.1f}"


def interval(group: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval to show: the bootstrap's, or Wilson's where that has no width (nothing or everything right)."""
    low, high = group.get("low"), group.get("high")
    if low is None or high is None:
        return None
    if low == high and group.get("wilson_low") is not None:
        return group["wilson_low"], group["wilson_high"]
    return low, high


def between(group: Mapping[str, Any], signed: bool = False) -> str:
    """The interval of a share or difference: "40.1 to 45.2"."""
    found = interval(group)
    return "\u2013" if found is None else f"{percent(found[0], signed)} to {percent(found[1], signed)}"


def totals(summary: Mapping[str, Any]) -> str:
    """The result in one sentence that says of how many cases it is, and what became of the others."""
    overall, cases, bench = summary["overall"], summary["cases"], summary.get("benchmark", {})
    said = (
        f"{percent(overall['value'])} % right ({between(overall)}), {overall['hits']} of {overall['n']} cases; "
        f"chance {percent(summary['chance'])} %"
    )
    parts = [
        (cases["unread"], "without an option that could be read"),
        (cases["refused"], "refused"),
        (cases["no_reply"], "without a reply"),
    ]
    if wrong := ", ".join(f"{number} {what}" for number, what in parts if number):
        said += f"; counted as wrong: {wrong}"
    if bench.get("left_out"):
        said += f"; {bench['left_out']} of {bench['cases'] + bench['left_out']} cases of the benchmark left out"
    if not bench.get("complete", True):
        said += "; only the first cases of the benchmark"
    return said
