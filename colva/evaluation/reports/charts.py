"""Pieces of a report as HTML: bars with intervals, tables, confusions. All text is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from colva.evaluation.reports.texts import between, interval, percent

WIDTH, HEIGHT = 260, 16
"""Of a bar, in CSS pixels."""


def bar(group: Mapping[str, Any], color: int = 0) -> str:
    """A share as a bar from 0 to 100 % with its interval as a whisker.

    Args:
        group: with ``value``, ``low`` and ``high``, 0..1 or None; without an interval when it has none.
        color: number of the run, 0..5.
    """
    value = group.get("value")
    if value is None:
        return ""
    label = f"{percent(value)} %"
    parts = [
        f'<rect class="track" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<rect class="run{color % 6}" width="{WIDTH * value:.1f}" height="{HEIGHT}"/>',
    ]
    if found := interval(group):
        label += f", 95 % {between(group)}"
        middle, a, b = HEIGHT / 2, WIDTH * found[0], WIDTH * found[1]
        parts.append(
            f'<path class="whisker" d="M{a:.1f} {middle}H{b:.1f}M{a:.1f} {middle - 4}v8M{b:.1f} {middle - 4}v8"/>'
        )
    return (
        f'<svg class="share" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] = ()) -> str:
    """A table; cells are HTML already, heads are text. ``classes`` are those of the rows."""
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in heads)
    body = []
    for number, row in enumerate(rows):
        kind = f' class="{classes[number]}"' if number < len(classes) and classes[number] else ""
        cells = "".join(f'<td class="number">{c}</td>' if _is_number(c) else f"<td>{c}</td>" for c in row)
        body.append(f"<tr{kind}>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def groups(title: str, names: Sequence[str], runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> str:
    """Shares of every group for every run, as a table of bars.

    Args:
        title: what the groups are.
        names: of the runs.
        runs: for each run, group -> share.
    """
    order = list(dict.fromkeys(group for run in runs for group in run))
    rows = []
    for group in order:
        for number, (name, run) in enumerate(zip(names, runs, strict=True)):
            found = run.get(group)
            if found is None:
                continue
            label = f"<b>{escape(group)}</b>" if number == 0 or group not in runs[0] else ""
            who = [escape(name)] if len(runs) > 1 else []
            figures = [percent(found["value"]), escape(between(found)), str(found["n"])]
            rows.append([label, *who, bar(found, number), *figures])
    heads = [title, *(["model"] if len(runs) > 1 else []), "", "right, %", "95 % interval", "cases"]
    return table(heads, rows)


def confusion(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Right label in rows, chosen label in columns, shaded by the share of the row."""
    columns = list(dict.fromkeys([*counts, *(cell for row in counts.values() for cell in row)]))
    named = [c for c in columns if not c.startswith("(")] + [c for c in columns if c.startswith("(")]
    head = "".join(f"<th scope='col'>{escape(c)}</th>" for c in named)
    body = []
    for right, row in counts.items():
        total = sum(row.values())
        cells = []
        for column in named:
            count = row.get(column, 0)
            kind = "hit" if column == right else "miss"
            shade = f' style="--share:{count / total:.3f}"' if count else ""
            cells.append(f'<td class="number {kind}"{shade}>{count or ""}</td>')
        body.append(f"<tr><th scope='row'>{escape(right)}</th>{''.join(cells)}<td class='number'>{total}</td></tr>")
    return (
        '<div class="scroll"><table class="confusion"><thead><tr><th>right \\ chosen</th>'
        f"{head}<th>cases</th></tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def listing(title: str, lines: Sequence[str]) -> str:
    """A list that opens on a click; nothing when there is nothing in it."""
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<details><summary>{escape(title)}: {len(lines)}</summary><ul class='mono'>{items}</ul></details>"


def _is_number(cell: str) -> bool:
    return bool(cell) and cell.replace("+", "").replace("-", "").replace(".", "").replace(",", "").isdigit()
