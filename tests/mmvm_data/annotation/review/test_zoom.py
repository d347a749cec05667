"""To which places the zoom of a review page goes; ``test_page`` looks at it in a browser."""

from __future__ import annotations

from mmvm_data.annotation.review.zoom import write_zoom_places, write_zoom_style
from mmvm_data.core import masks
from mmvm_data.core.types import Box, Candidate, Case, Frame, Region

FRAME = Frame(path="a.png", index=0, width=200, height=100)


def make_case(query: list[Box], candidates: list[Box], numbers: list[int | None]) -> Case:
    """A case of masks that fill boxes; ``numbers`` are those of the options."""
    return Case.model_validate(
        {
            "id": "case",
            "frames": (FRAME,) * (len(query) + 1),
            "query": tuple(boxed(box) for box in query),
            "candidates": tuple(Candidate(number=n, region=boxed(box)) for n, box in enumerate(candidates, start=1)),
            "answer": None,
            "question": "which?",
            "options": tuple({"letter": "ABCDEFG"[k], "number": number} for k, number in enumerate(numbers)),
        }
    )


def boxed(box: Box) -> Region:
    return Region(id="1", mask=masks.from_box(box, FRAME.height, FRAME.width))


def read_places(case: Case) -> dict[str, str]:
    start, _, rest = write_zoom_places(case).partition("{")
    assert start == ".mmvm" and rest.endswith("}")
    places = [line.split(":") for line in rest[:-1].split(";")]
    assert len({name for name, _ in places}) == len(places)
    return dict(places)


def test_query_and_candidate_are_enlarged_by_the_same_factor() -> None:
    places = read_places(make_case([(20, 40, 20, 10)], [(100, 0, 50, 20), (0, 0, 10, 5)], [1, 2, None]))
    assert (places["--query-x1"], places["--query-y1"], places["--by1"]) == ("15.0%", "45.0%", "var(--near)")
    assert (places["--x1"], places["--y1"]) == ("62.5%", "10.0%")
    # each half of its image's side: the query takes a tenth of both, candidate 1 a quarter of the width
    assert [float(places[f"--zoom{n}"]) for n in range(3)] == [5, 2, 5]
    assert "--zoom3" not in places  # none of them: the last image stays as it is


def test_places_follow_the_order_of_the_options() -> None:
    places = read_places(make_case([(0, 0, 20, 20)], [(0, 0, 20, 20), (100, 0, 20, 20)], [2, None, 1]))
    assert (places["--x1"], places["--x3"], "--x2" in places) == ("55.0%", "5.0%", False)


def test_each_image_has_the_place_of_its_query() -> None:
    places = read_places(make_case([(0, 0, 40, 20), (160, 80, 20, 20)], [(0, 0, 20, 20)], [1, None]))
    assert [places[f"--query-{axis}{k}"] for k in (1, 2) for axis in "xy"] == ["10.0%", "10.0%", "85.0%", "90.0%"]
    assert places["--zoom0"] == "2.5"


def test_large_objects_are_enlarged_too_and_specks_not_without_end() -> None:
    assert read_places(make_case([(0, 0, 190, 90)], [], [None]))["--zoom0"] == "1.5"
    assert read_places(make_case([(0, 0, 2, 2)], [], [None]))["--zoom0"] == "8.0"


def test_an_object_without_pixels_has_no_place() -> None:
    case = make_case([(0, 0, 20, 20)], [(0, 0, 20, 20)], [1, None])
    empty = Region(id="1", mask=masks.from_box((0, 0, 0, 0), FRAME.height, FRAME.width))
    places = read_places(case.model_copy(update={"candidates": (Candidate(number=1, region=empty),)}))
    assert "--x1" not in places and "--zoom0" in places


def test_every_option_of_the_largest_case_has_a_rule() -> None:
    style = write_zoom_style(3, ".switch", ".options")
    for n in (1, 38):
        assert style.count(f":nth-child({n}) input:checked") == style.count(f":nth-child({n}):hover") == 1
    assert not set(style) & set("<>\"'&")  # which the editor escapes
