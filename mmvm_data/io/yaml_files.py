"""YAML of configurations: plain values of bounded depth and size, with the numbers of YAML 1.2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from mmvm_data.core.errors import InputError
from mmvm_data.io.json_files import MAX_DEPTH, read_text_file

_MAX_VALUES: Final = 100_000
"""Values of a document, with those that an alias repeats."""

# PyYAML's safe loader with the numbers of YAML 1.2: its own reads `2e-4` as a string
_Loader: Any = type("_Loader", (yaml.SafeLoader,), {})
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_yaml_file(path: Path) -> Any:
    """Return the value of a YAML file.

    Raises:
        InputError: the file is missing, is no regular file, or ``parse_yaml`` refuses its content.
    """
    return parse_yaml(read_text_file(path), path)


def parse_yaml(text: str, file: str | Path) -> Any:
    """Return the value of a YAML document.

    Args:
        text: the document. Tags are refused; aliases count as often as they are used.
        file: where it comes from, for the message.

    Raises:
        InputError: it is not YAML, a key is no text or occurs twice, it has more than MAX_DEPTH levels, or too many
            values.
    """
    try:
        _check_events(text, file)
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that Python cannot have
        raise InputError(file, f"not YAML: {' '.join(str(error).split())}") from error


def _check_events(text: str, file: str | Path) -> None:
    """Refuse keys that occur twice, of which the loader would drop one, and what would make it recurse, or its result
    grow, without bound."""
    anchors: dict[str, tuple[int, int]] = {}
    # of each open collection: its anchor, values so far, levels below it, and whether it is a mapping
    stack: list[tuple[str | None, int, int, bool]] = [(None, 0, 0, False)]
    children = [0]
    keys: list[set[str]] = [set()]  # of each open mapping
    for event in yaml.parse(text, _Loader):
        size, height = 1, 0
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag is not None:
            raise InputError(file, f"tags are not supported, found {event.tag:.40}", _line(event))
        is_key = stack[-1][3] and children[-1] % 2 == 0
        if is_key and isinstance(event, yaml.ScalarEvent):
            if event.value in keys[-1]:
                raise InputError(file, f"the key {event.value!r:.80} occurs twice in one mapping", _line(event))
            keys[-1].add(event.value)
        if isinstance(event, yaml.CollectionStartEvent):
            if is_key:
                raise InputError(file, "expected a name, found a list or a mapping as a key", _line(event))
            children[-1] += 1
            stack.append((event.anchor, 1, 0, isinstance(event, yaml.MappingStartEvent)))
            children.append(0)
            keys.append(set())
            if len(stack) > MAX_DEPTH + 1:
                raise InputError(file, f"more than {MAX_DEPTH} levels", _line(event))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size, below, _ = stack.pop()
            children.pop()
            keys.pop()
            height = below + 1
        elif isinstance(event, yaml.ScalarEvent):
            anchor = event.anchor
            children[-1] += 1
        elif isinstance(event, yaml.AliasEvent):
            anchor = None
            children[-1] += 1
            if event.anchor not in anchors:
                raise InputError(file, f"alias of a value that is unknown or contains it: {event.anchor}", _line(event))
            size, height = anchors[event.anchor]
        else:
            continue
        if anchor is not None:
            anchors[anchor] = size, height
        outer, total, below, is_mapping = stack[-1]
        stack[-1] = outer, total + size, max(below, height), is_mapping
        if len(stack) - 1 + height > MAX_DEPTH:
            raise InputError(file, f"more than {MAX_DEPTH} levels", _line(event))
        if stack[-1][1] > _MAX_VALUES:
            raise InputError(file, f"more than {_MAX_VALUES:,} values", _line(event))


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"
