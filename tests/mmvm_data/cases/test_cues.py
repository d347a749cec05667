"""Cues: what is proposed where the evidence is clear, and nothing where it is not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvm_data.cases import prompts
from mmvm_data.cases.appearance import color_name
from mmvm_data.cases.cues import MIN_SCORE, Surroundings, propose_cues
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks
from mmvm_data.core.types import Candidate, Case, Frame, Region
from mmvm_data.formats import bench
from mmvm_data.io import media
from mmvm_data.pipeline.build import BuildOptions, build

HEIGHT, WIDTH = 120, 200
RED, BLUE, GREEN = (20, 20, 200), (200, 40, 20), (30, 160, 30)
Shape = tuple[int, int, int, int]


def region(name: str, shape: Shape) -> Region:
    return Region(id=name, mask=masks.from_box(shape, HEIGHT, WIDTH))


def scene(shapes: dict[str, Shape], colors: dict[str, tuple[int, int, int]]) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for name, (x, y, w, h) in shapes.items():
        image[y : y + h, x : x + w] = colors[name]
    return image


def case_of(query: Shape, shapes: dict[str, Shape], answer: str | None = "a") -> Case:
    numbers = range(1, len(shapes) + 1)
    right = None if answer is None else list(shapes).index(answer) + 1
    return Case(
        id="c",
        frames=tuple(Frame(path=f"{k}.jpg", index=k, width=WIDTH, height=HEIGHT) for k in range(2)),
        query=(region("a", query),),
        candidates=tuple(Candidate(number=n, region=region(k, s)) for n, (k, s) in zip(numbers, shapes.items())),  # noqa: B905
        answer=right,
        question="?",
        options=prompts.build_options(numbers, right),
    )


SAME = {"a": (20, 20, 30, 30), "b": (90, 20, 30, 30), "c": (150, 20, 30, 30)}
QUERY = (90, 70, 30, 30)  # below b, so that its place speaks for nobody else than b


def found(case: Case, images: list[np.ndarray], surroundings: Surroundings | None = None) -> dict[int, float]:
    return {cue.type: cue.score for cue in propose_cues(case, images, surroundings)}


def test_color() -> None:
    colors = {"a": RED, "b": BLUE, "c": GREEN}
    images = [scene({"a": QUERY}, colors), scene(SAME, colors)]
    cues = propose_cues(case_of(QUERY, SAME), images)
    assert [cue.type for cue in cues] == [1]
    assert cues[0].source == "proposed"
    assert cues[0].measures["answer"] < 1 < cues[0].measures["next"]
    assert "red" in cues[0].evidence and f"object {cues[0].measures['rival']:.0f}" in cues[0].evidence


def test_nothing_tells_twins_apart() -> None:
    colors = dict.fromkeys(SAME, RED)
    assert found(case_of(QUERY, SAME), [scene({"a": QUERY}, colors), scene(SAME, colors)]) == {}


def test_size_shape_place() -> None:
    colors = dict.fromkeys("abc", RED)
    shapes = {"a": (20, 20, 60, 20), "b": (90, 20, 30, 30), "c": (150, 60, 12, 40)}
    query = (22, 22, 60, 20)
    types = found(case_of(query, shapes), [scene({"a": query}, colors), scene(shapes, colors)])
    assert {2, 4, 5} <= set(types)


def test_neighbours_and_motion_and_contact() -> None:
    colors = dict.fromkeys("abcd", RED)
    before = {"a": (90, 40, 20, 20), "b": (20, 95, 20, 20), "c": (105, 80, 20, 20), "d": (110, 40, 20, 20)}
    after = {name: (x + 8, y + 5, w, h) for name, (x, y, w, h) in before.items()}
    around = Surroundings(
        {name: region(name, shape) for name, shape in before.items() if name != "a"},
        {"a": (4.0, 0.0)},
        {"a": (4.0, 0.5), "b": (-4.0, 0.0), "c": (0.0, 4.0)},
    )
    case = case_of(before["a"], after)
    cues = {cue.type: cue for cue in propose_cues(case, [scene(before, colors), scene(after, colors)], around)}
    assert {5, 6, 7} <= set(cues)
    assert "to the right" in cues[6].evidence
    assert cues[7].measures == {"partner": 4.0}
    assert 7 not in found(case, [scene(before, colors), scene(after, colors)])


def test_pattern_and_text() -> None:
    rng = np.random.default_rng(0)
    images = [np.full((HEIGHT, WIDTH, 3), 128, np.uint8) for _ in range(2)]
    shapes = {"a": (10, 10, 60, 60), "b": (110, 10, 60, 60)}
    query = (60, 40, 60, 60)
    patches = [cv2.resize(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8), (60, 60)) for _ in range(2)]
    images[0][40:100, 60:120] = patches[0]
    images[1][10:70, 10:70], images[1][10:70, 110:170] = patches
    case = case_of(query, shapes)

    def read(pixels: np.ndarray) -> frozenset[str]:
        return frozenset({"TAXI"} if (pixels == patches[0]).all() else {"BUS"})

    cues = {cue.type: cue for cue in propose_cues(case, images, read_text=read)}
    assert '"TAXI"' in cues[3].evidence and cues[8].measures["answer"] > 10
    assert 3 not in found(case, images)


@pytest.mark.parametrize(("shapes", "answer"), [(SAME, None), ({"a": SAME["a"]}, "a")])
def test_nothing_to_tell_apart(shapes: dict[str, Shape], answer: str | None) -> None:
    colors = {"a": RED, "b": BLUE, "c": GREEN}
    assert found(case_of(QUERY, shapes, answer), [scene({"a": QUERY}, colors), scene(shapes, colors)]) == {}


def test_images_that_do_not_fit_are_refused() -> None:
    image = scene({"a": QUERY}, {"a": RED})
    with pytest.raises(ValueError, match="1 image for 2 frames"):
        propose_cues(case_of(QUERY, SAME), [image])
    with pytest.raises(ValueError, match="mask of"):
        propose_cues(case_of(QUERY, SAME), [image[:50], image])


@settings(max_examples=40)
@given(st.data())
def test_scores_are_shares_and_numbers_do_not_matter(data: st.DataObject) -> None:
    shape = st.tuples(*(st.integers(2, top) for top in (120, 70, 60, 45)))
    shapes = dict(zip("abcd", data.draw(st.lists(shape, min_size=2, max_size=4)), strict=False))
    query = data.draw(shape)
    seed = data.draw(st.integers(0, 99))
    noise = np.random.default_rng(seed).integers(0, 255, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    images = [cv2.GaussianBlur(image, (7, 7), 0) for image in noise]
    cues = propose_cues(case_of(query, shapes), images)
    assert all(MIN_SCORE <= cue.score <= 1 for cue in cues)
    assert len({cue.type for cue in cues}) == len(cues)
    other = dict(sorted(shapes.items(), reverse=True))
    turned = propose_cues(case_of(query, other), images)
    assert [(cue.type, cue.score) for cue in cues] == [(cue.type, cue.score) for cue in turned]


def test_color_names() -> None:
    names = [((10, 0, 0), "black"), ((50, 60, 45), "red"), ((40, 20, 20), "brown"), ((90, -2, 2), "light grey")]
    assert [color_name(np.array(lab)) for lab, _ in names] == [name for _, name in names]


def test_schoolgirls(realdata: Path, tmp_path: Path) -> None:
    options = SamplingOptions(cases_per_video=12, min_area=150, min_side=6)
    build("davis", realdata / "davis2017_schoolgirls_240p", tmp_path / "b", BuildOptions(sampling=options))
    types = set()
    for case in bench.read(tmp_path / "b"):
        images = [media.read_frame_bgr(tmp_path / "b", frame) for frame in case.frames]
        cues = propose_cues(case, images)
        assert cues == propose_cues(case, images)
        types |= {cue.type for cue in cues}
        for cue in cues:
            rival = int(cue.measures["rival"])
            assert rival != case.answer and rival in {c.number for c in case.candidates}
        assert propose_cues(case.model_copy(update={"answer": None}), images) == ()
    assert {1, 2, 8} <= types
