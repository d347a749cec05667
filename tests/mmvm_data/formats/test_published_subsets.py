"""Match records of the published subsets of choices and reasoning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmvm_data.core import masks
from mmvm_data.core.types import Case
from mmvm_data.formats import sft
from mmvm_data.formats.match_records import published_fault


@pytest.mark.parametrize("text", ["it has {two} {{marks}}", "the red one"])
def test_published_subsets_are_formatted_by_their_loader(
    cases: list[Case], root: Path, tmp_path: Path, text: str
) -> None:
    """Every record of the reasoning set has a description, and the loader's ``str.format`` gives the rationale."""
    told = [case.model_copy(update={"rationale": text if k % 2 == 0 else None}) for k, case in enumerate(cases)]
    for kind in ("choices", "reasoning"):
        sft.write(told, tmp_path, kind)
    choices, reasoning = (json.loads((tmp_path / sft.FILES[kind]).read_text()) for kind in ("choices", "reasoning"))
    told = [case for case in told if len(case.frames) == 2]
    wanted = [case.id for case in told if case.rationale and case.prompt == "mask"]
    assert wanted and [record["id"] for record in reasoning] == wanted
    assert {record["id"] for record in choices} == {case.id for case in told} - set(wanted)
    assert not any("description" in record for record in choices)
    assert all(record["vprompt_type"] in ("mask", "bbox") for record in (*choices, *reasoning))
    said = [("Because: " + record["description"]).format(color="red", choices="A", answer="A") for record in reasoning]
    assert said == [f"Because: {text}"] * len(wanted)
    read = list(sft.read(tmp_path / sft.FILES["reasoning"], root))
    assert [case.rationale for case in read] == [text] * len(wanted)


def test_cases_that_the_published_code_cannot_use_are_in_no_subset(
    cases: list[Case], root: Path, tmp_path: Path
) -> None:
    """Reasons are those of its code, see ``tests/peers``; the other files hold every case."""
    plain, boxes, three, _ = cases
    first, last = plain.frames
    empty = masks.encode(np.zeros((last.height, last.width), np.uint8))
    assert plain.query[0].mask is not None
    wider = masks.encode(np.pad(masks.decode(plain.query[0].mask), ((0, 0), (0, 1))))
    shown = plain.candidates[0]
    faulty = {
        "more than two images": three,
        "images of different sizes": plain.model_copy(
            update={
                "frames": (first.model_copy(update={"width": first.width + 1}), last),
                "query": tuple(region.model_copy(update={"mask": wider}) for region in plain.query),
            }
        ),
        "AVA or HACS in the path of the first image": plain.model_copy(
            update={"frames": (first.model_copy(update={"path": "JAVA/1.jpg"}), last)}
        ),
        "a candidate without pixels": plain.model_copy(
            update={
                "candidates": (
                    shown.model_copy(update={"region": shown.region.model_copy(update={"mask": empty})}),
                    *plain.candidates[1:],
                )
            }
        ),
    }
    for reason, case in faulty.items():
        assert published_fault(case) == reason
    assert published_fault(plain) is None and published_fault(boxes) is None
    for kind, expected in (("choices", [boxes.id]), ("reasoning", [plain.id]), ("records", None)):
        sft.write([plain, boxes, *faulty.values()], tmp_path, kind)  # type: ignore[arg-type]
        written = [record["id"] for record in json.loads((tmp_path / sft.FILES[kind]).read_text())]  # type: ignore[index]
        assert written == (expected or [plain.id, boxes.id, *(case.id for case in faulty.values())])


def test_a_folder_named_data_stays_in_a_path_of_a_published_subset(cases: list[Case], tmp_path: Path) -> None:
    """The published loader puts ./data/ in the place of the first two characters, unless that is there already."""
    frames = tuple(frame.model_copy(update={"path": f"data/{frame.path}"}) for frame in cases[0].frames)
    sft.write([cases[0].model_copy(update={"frames": frames})], tmp_path, "reasoning")
    file = tmp_path / sft.FILES["reasoning"]
    [record] = json.loads(file.read_text())
    names = record["file_names"]
    assert not any(name.startswith("./data/") for name in names)
    opened = [Path("./data/" + name[2:]) for name in names]
    assert opened == [Path("data") / frame.path for frame in frames]
    [read] = sft.read(file, tmp_path)
    assert [tmp_path / frame.path for frame in read.frames] == [tmp_path / frame.path for frame in frames]
