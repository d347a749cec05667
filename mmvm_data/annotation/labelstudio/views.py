"""Views of a project: the tabs of Label Studio's data manager."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Any, Final

from mmvm_data.annotation.labelstudio.client import Client, OutcomeUnknown, Project

_WIDTHS: Final = {
    "tasks:id": 90,
    "tasks:annotators": 140,
    **{f"tasks:data.drawn{k}": 140 for k in range(1, 10)},
    "tasks:data.case_id": 130,
    "tasks:data.proposed": 150,
    "tasks:data.difficulty": 140,
    "tasks:data.disagreement": 170,
}
"""Columns -> pixels; 170 without. Those of a case with two images fit into a window of 1366 pixels."""

Filter = dict[str, Any]
"""A condition on tasks, as the data manager's API has it."""


def data_equals(name: str, value: str) -> Filter:
    """Tasks whose data have this text under a name."""
    return {"filter": f"filter:tasks:data.{name}", "operator": "equal", "type": "String", "value": value}


def not_annotated_by(user: int) -> Filter:
    """Tasks that a user, given by number, has not annotated."""
    return {"filter": "filter:tasks:annotators", "operator": "not_contains", "type": "List", "value": user}


def build_view(
    title: str,
    hidden: Collection[str],
    filters: Sequence[Filter] = (),
    conjunction: str = "and",
    order_by: str | None = None,
) -> dict[str, Any]:
    """The data of a view.

    Args:
        title: of the tab.
        hidden: columns that are not shown, such as "tasks:data.base".
        filters: which tasks are shown.
        conjunction: "and" or "or", between the filters.
        order_by: name of a number in the data of tasks; the largest comes first. None: as they were created.
    """
    columns = list(hidden)
    view: dict[str, Any] = {
        "title": title,
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {"explore": columns, "labeling": columns},
        "columnsWidth": dict(_WIDTHS),
        "filters": {"conjunction": conjunction, "items": list(filters)},
    }
    if order_by is not None:
        column = f"tasks:data.{order_by}"
        view |= {"ordering": [f"-{column}"], "columnsDisplayType": {column: "Number"}}
    return view


def widen_columns(client: Client, project: Project, title: str) -> None:
    """Give the columns of a view a width where they have none, as in tabs of earlier pushes; others stay."""
    for number, existing in client.list_views(project.id):
        if existing.get("title") == title and existing != existing | _widen(existing):
            client.update_view(number, existing | _widen(existing))


def _widen(view: dict[str, Any]) -> dict[str, Any]:
    return {"columnsWidth": {**_WIDTHS, **(view.get("columnsWidth") or {})}}


def ensure_view(client: Client, project: Project, data: dict[str, Any]) -> None:
    """Create a view, or change the one of the same title where it shows other tasks or another order.

    A view that people have arranged for themselves keeps its columns; those without a width get one.
    """
    for number, existing in client.list_views(project.id):
        if existing.get("title") == data["title"]:
            parts = ("filters", "ordering", "columnsDisplayType")
            wanted = existing | {part: data[part] for part in parts if part in data} | _widen(existing)
            if wanted != existing:
                client.update_view(number, wanted)
            return
    with contextlib.suppress(OutcomeUnknown):  # one view more or less only changes comfort
        client.create_view(project.id, data)
