"""The index of a JSON file in COCO's form, whose lists refer to each other by ids (see ``annotation_index``).

``categories[] {id, name}``; owners (``images`` in COCO, ``videos`` in TAO) with an ``id``; parts (``annotations``, in
TAO also ``images``) that name their owner.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data.builders.common.annotation_index import (
    AnnotationIndex,
    group_parts,
    open_index,
    parse_category,
    parse_id,
)
from mmvm_data.builders.common.json_spans import iter_items
from mmvm_data.core.errors import InputError


def open_coco_index(
    file: Path, cache: Path | None, owners_key: str, link_key: str, part_keys: tuple[str, ...]
) -> AnnotationIndex:
    """Return the index of a file, cached as ``annotation_index.open_index`` does.

    Args:
        file: the annotation file.
        cache: folder for the index, or None.
        owners_key: key of the list of owners.
        link_key: key by which a part names its owner.
        part_keys: keys of the lists of parts.

    Raises:
        InputError: not JSON, cut off, or a list is missing.
    """
    build: Callable[[Path], AnnotationIndex] = partial(
        build_coco_index, owners_key=owners_key, link_key=link_key, part_keys=part_keys
    )
    return open_index(file, cache, f"linked {owners_key} {link_key} {' '.join(part_keys)}", build)


def build_coco_index(file: Path, owners_key: str, link_key: str, part_keys: tuple[str, ...]) -> AnnotationIndex:
    """Parse a file once and return its index; arguments and errors as of ``open_coco_index``."""
    owners: dict[str, tuple[int, int]] = {}
    faults: dict[str, tuple[str, str]] = {}
    categories: dict[str, str] = {}
    rejects: list[tuple[str, str, str]] = []
    names: dict[str, int] = {}
    rows = array("q")  # number of the owner's name, offset, length
    keys = set()
    required = {owners_key, "categories", *part_keys}
    for key, position, offset, length, value in iter_items(file):
        if key not in required:
            continue
        if position is None:
            keys.add(key)
            if not isinstance(value, list):
                raise InputError(file, f"a list is expected, found {type(value).__name__}", field=key)
            continue
        entry: dict[str, Any] = value if isinstance(value, dict) else {}
        field = f"{key}[{position}]"
        if key in part_keys:
            owner = parse_id(entry.get(link_key))
            if owner is None:
                rejects.append(("", f"an object with {link_key} is expected", field))
            else:
                rows.extend((names.setdefault(owner, len(names)), offset, length))
        if key == owners_key:
            owner = parse_id(entry.get("id"))
            if owner is None:
                rejects.append(("", "an object with an id is expected", field))
            elif owner in owners:
                faults.setdefault(owner, (f"two entries of {owners_key} have this id", f"{field}.id"))
            else:
                owners[owner] = (offset, length)
        elif key == "categories":
            category = parse_category(value)
            if category is None:
                rejects.append(("", "an object with id and name is expected", field))
            else:
                categories.setdefault(*category)
    for key in required - keys:
        raise InputError(file, f"the key {key!r} is missing")
    rejects += [(owner, *fault) for owner, fault in faults.items()]
    rejects += [
        (name, f"{name} is not in the list of {owners_key}, but parts name it", link_key)
        for name in names
        if name not in owners
    ]
    table = np.frombuffer(rows, np.int64).reshape(-1, 3)
    usable = {owner: span for owner, span in owners.items() if owner not in faults}
    ids, spans, row_starts, order = group_parts(usable, list(names), table[:, 0])
    return AnnotationIndex(ids, spans, row_starts, table[order, 1:].copy(), categories, tuple(sorted(rejects)))
