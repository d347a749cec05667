"""What tables, bars and curves of a report show, computed; ``templates/charts.html`` turns it into HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colva.evaluation.reports.texts import between, interval, percent

BAR_WIDTH, BAR_HEIGHT = 260, 16
"""Of a bar, in CSS pixels."""
CURVE_WIDTH, CURVE_HEIGHT, CURVE_MARGIN = 340, 150, 34
"""Of a curve with its axes, in CSS pixels."""
NUM_COLORS = 6
CHANCE_COLOR = 5
"""Color of what is not a run: chance, published scores."""


@dataclass(frozen=True)
class Bar:
    """A share as a bar from 0 to 100 %.

    Attributes:
        label: the share and its interval in words.
        width: of the filled part, in CSS pixels.
        color: number of the color, 0..5.
        whisker: ends of the interval in CSS pixels; None without one.
    """

    label: str
    width: float
    color: int
    whisker: tuple[float, float] | None = None


@dataclass(frozen=True)
class Cell:
    """One cell of a table: text, a bar, or nothing.

    Attributes:
        text: shown as it is, escaped.
        is_bold: in bold type.
        badge: a word in a frame after the text.
        link: URL that the text leads to.
        bar: shown in the place of the text.
    """

    text: str = ""
    is_bold: bool = False
    badge: str = ""
    link: str = ""
    bar: Bar | None = None

    @property
    def is_number(self) -> bool:
        """The text is a number and no name, so it is aligned as one."""
        digits = self.text.replace("+", "").replace("-", "").replace(".", "").replace(",", "")
        return digits.isdigit() and not self.link and not self.is_bold


@dataclass(frozen=True)
class Table:
    """A table: texts of the head, rows of cells, and the CSS class of each row."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    row_classes: tuple[str, ...]


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        columns: chosen labels, in order.
        rows: right label, counts by column, sum of the row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...], int], ...]


@dataclass(frozen=True)
class Curve:
    """Values over the steps of a training run, in CSS pixels of the figure; both axes begin at 0.

    Attributes:
        label: the first and the last value in words.
        line: SVG path of the values in training; "" without any.
        dots: positions of the values on held-out data.
        top: the largest value.
        last_step: the largest step.
    """

    label: str
    line: str
    dots: tuple[tuple[float, float], ...]
    top: float
    last_step: int


Content = Cell | Bar | str | None
"""What may be given for a cell; None is an empty cell."""


def make_bar(group: Mapping[str, Any], color: int = 0) -> Bar | None:
    """Return a share as a bar with its interval as a whisker; None for a share of nothing.

    Args:
        group: with ``value``, ``low`` and ``high``, 0..1 or None; without an interval when it has none.
        color: number of the run.
    """
    value = group.get("value")
    if value is None:
        return None
    ends = interval(group)
    label = f"{percent(value)} %"
    if ends is None:
        return Bar(label, BAR_WIDTH * value, color % NUM_COLORS)
    whisker = (BAR_WIDTH * ends[0], BAR_WIDTH * ends[1])
    return Bar(f"{label}, 95 % {between(group)}", BAR_WIDTH * value, color % NUM_COLORS, whisker)


def make_table(heads: Sequence[str], rows: Sequence[Sequence[Content]], row_classes: Sequence[str] = ()) -> Table:
    """Return a table; texts, bars and None (an empty cell) become cells.

    Args:
        heads: of the columns.
        rows: as many cells each.
        row_classes: CSS classes of the first rows; the others have none.
    """
    classes = (*row_classes, *[""] * (len(rows) - len(row_classes)))
    return Table(tuple(heads), tuple(tuple(_cell(value) for value in row) for row in rows), classes)


def make_group_table(title: str, names: Sequence[str], runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> Table:
    """Return the shares of every group for every run, as a table of bars.

    Args:
        title: what the groups are.
        names: of the runs.
        runs: for each run, group -> share.
    """
    groups = list(dict.fromkeys(group for run in runs for group in run))
    rows: list[list[Content]] = []
    for group in groups:
        for number, (name, run) in enumerate(zip(names, runs, strict=True)):
            share = run.get(group)
            if share is None:
                continue
            label = Cell(group, is_bold=True) if number == 0 or group not in runs[0] else ""
            model = [name] if len(runs) > 1 else []
            numbers = [percent(share["value"]), between(share), str(share["n"])]
            rows.append([label, *model, make_bar(share, number), *numbers])
    heads = [title, *(["model"] if len(runs) > 1 else []), "", "right, %", "95 % interval", "cases"]
    return make_table(heads, rows)


def make_confusion(counts: Mapping[str, Mapping[str, int]]) -> Confusion:
    """Return a confusion matrix: right label in rows, chosen label in columns, what is no label last.

    Args:
        counts: right label -> chosen label -> cases.
    """
    labels = list(dict.fromkeys([*counts, *(label for row in counts.values() for label in row)]))
    columns = [c for c in labels if not c.startswith("(")] + [c for c in labels if c.startswith("(")]
    rows = [(right, tuple(row.get(c, 0) for c in columns), sum(row.values())) for right, row in counts.items()]
    return Confusion(tuple(columns), tuple(rows))


def make_curve(title: str, trained: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]]) -> Curve:
    """Return a curve over the steps: a line for training, dots for held-out data.

    Args:
        title: what the values are.
        trained, held_out: (step, value) pairs, ascending by step; one of them may be empty.
    """
    points = [*trained, *held_out]
    last_step = max(step for step, _ in points) or 1
    top = max(value for _, value in points) or 1.0

    def position(step: float, value: float) -> tuple[float, float]:
        x = CURVE_MARGIN + (CURVE_WIDTH - CURVE_MARGIN - 8) * step / last_step
        return round(x, 1), round(8 + (CURVE_HEIGHT - CURVE_MARGIN) * (1 - value / top), 1)

    line = "L".join("{:.1f} {:.1f}".format(*position(step, value)) for step, value in trained)
    label = f"{title}: {trained[0][1]:.3g} to {trained[-1][1]:.3g}" if trained else title
    if held_out:
        label += f", held out {held_out[0][1]:.3g} to {held_out[-1][1]:.3g}"
    dots = tuple(position(step, value) for step, value in held_out)
    return Curve(label, f"M{line}" if line else "", dots, top, last_step)


def _cell(value: Content) -> Cell:
    if isinstance(value, Cell):
        return value
    return Cell(value) if isinstance(value, str) else Cell(bar=value)
