"""Where the parts of each image or video lie in a JSON file of COCO's form, whose lists refer to each other by ids.

``categories[] {id, name}``; owners (``images`` in COCO, ``videos`` in TAO) with an ``id``; parts (``annotations``, in
TAO also ``images``) that name their owner. The file is read once, as ``annotation_index`` describes, and the result has
the same type: the spans of an owner's parts are contiguous and in the file's order.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data.builders.common.annotation_index import AnnotationIndex, open_index, parse_id
from mmvm_data.builders.common.json_spans import iter_items
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import is_utf8


def open_coco_index(file: Path, cache: Path | None, owners: str, link: str, parts: tuple[str, ...]) -> AnnotationIndex:
    """The index of a file, kept in ``cache`` as ``annotation_index.open_index`` does.

    Args:
        file, cache: see there.
        owners: key of the list of owners.
        link: key by which a part names its owner.
        parts: keys of the lists of parts.

    Raises:
        InputError: not JSON, cut short, or a list is missing.
    """
    build: Callable[[Path], AnnotationIndex] = partial(_build_index, owners=owners, link=link, parts=parts)
    return open_index(file, cache, f"linked {owners} {link} {' '.join(parts)}", build)


def _build_index(file: Path, owners: str, link: str, parts: tuple[str, ...]) -> AnnotationIndex:
    known: dict[str, tuple[int, int]] = {}
    bad: dict[str, tuple[str, str]] = {}
    categories: dict[str, str] = {}
    rejects: list[tuple[str, str, str]] = []
    texts: dict[str, int] = {}
    rows = array("q")  # owner's number, offset, length
    seen = set()
    wanted = {owners, "categories", *parts}
    for key, place, offset, length, value in iter_items(file):
        if key not in wanted:
            continue
        if place is None:
            seen.add(key)
            if not isinstance(value, list):
                raise InputError(file, f"a list is expected, found {type(value).__name__}", field=key)
            continue
        entry: dict[str, Any] = value if isinstance(value, dict) else {}
        if key in parts:
            owner = parse_id(entry.get(link))
            if owner is None:
                rejects.append(("", f"an object with {link} is expected", f"{key}[{place}]"))
            else:
                rows.extend((texts.setdefault(owner, len(texts)), offset, length))
        if key == owners:
            name = parse_id(entry.get("id"))
            if name is None:
                rejects.append(("", "an object with an id is expected", f"{key}[{place}]"))
            elif name in known:
                bad.setdefault(name, (f"two entries of {owners} have this id", f"{key}[{place}].id"))
            else:
                known[name] = (offset, length)
        elif key == "categories":
            name, title = parse_id(entry.get("id")), entry.get("name")
            if name is None or not isinstance(title, str) or not title or not is_utf8(title):
                rejects.append(("", "an object with id and name is expected", f"{key}[{place}]"))
            else:
                categories.setdefault(name, title)
    for key in wanted - seen:
        raise InputError(file, f"the key {key!r} is missing")
    rejects += [(name, *why) for name, why in bad.items()]
    rejects += [
        (name, f"{name} is not in the list of {owners}, but parts name it", link) for name in texts if name not in known
    ]
    usable = {name: k for k, name in enumerate(n for n in known if n not in bad)}
    table = np.frombuffer(rows, np.int64).reshape(-1, 3)
    owner_of = np.array([usable.get(text, -1) for text in texts], np.int64)
    owned = owner_of[table[:, 0]] if len(table) else np.zeros(0, np.int64)
    order = np.argsort(owned, kind="stable")
    order = order[owned[order] >= 0]
    return AnnotationIndex(
        videos=tuple(usable),
        video_spans=np.array([known[name] for name in usable], np.int64).reshape(-1, 2),
        first=np.searchsorted(owned[order], np.arange(len(usable) + 1)).astype(np.int64),
        annotation_spans=table[order, 1:].copy(),
        categories=categories,
        rejects=tuple(sorted(rejects)),
    )
