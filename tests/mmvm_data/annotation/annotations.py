"""Results of annotations as Label Studio stores them."""

from __future__ import annotations

from typing import Any


def choice(name: str, *values: str) -> dict[str, Any]:
    """A result of a checkbox."""
    return {"id": name, "from_name": name, "to_name": "question", "type": "choices", "value": {"choices": [*values]}}


def text(name: str, value: str) -> dict[str, Any]:
    """A result of a text field."""
    return choice(name) | {"type": "textarea", "value": {"text": [value]}}
