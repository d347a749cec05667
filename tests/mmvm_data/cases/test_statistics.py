"""Counts over cases and rejects that are known."""

from __future__ import annotations

from mmvm_data.cases.statistics import HISTOGRAMS, Stats, floor_power_of_two, normalize_reason
from mmvm_data.core.errors import Reject
from mmvm_data.core.types import Review
from tests.builds import make_case, make_reject


def test_record_of_a_few_cases() -> None:
    # sources davis, ytvos, mot17 by turns; 0 has no answer, 4 was rejected by a person, 5 has three images
    stats = Stats()
    assert (stats.none_share, stats.to_json()["sources"]) == (0.0, {})
    for i in range(6):
        stats.add_case(make_case(i))
    stats.add_case(make_case(3, provenance=None, extra={"source": "ytvos", "video": "clip 1"}, options=()))
    stats.add_case(make_case(3, provenance=None, match_types=(3, 1, 3), review=Review(state="fixed")))
    stats.add_reject(Reject(**make_reject(0)))
    stats.add_reject(Reject(**make_reject(1, "frame 5 has 0 objects, 2 are needed")))
    stats.add_reject(Reject("new", "v", 0, "'a' and \"b\" are 1.5 apart"))
    stats.problems = 2
    stats.build = {"a": 1}
    report = stats.to_json()
    assert list(report) == [
        *("cases", "videos", "rejected", "none", "none_share", "rejects", "problems", "sources"),
        *HISTOGRAMS,
        "build",
    ]
    assert {key: value for key, value in report.items() if not isinstance(value, dict)} == {
        "cases": 7,
        "videos": 5,
        "rejected": 1,
        "none": 1,
        "none_share": 0.142857,
        "rejects": 3,
        "problems": 2,
    }
    assert list(report["sources"].items()) == [
        ("(unknown)", {"cases": 1, "videos": 0, "none": 0, "candidates": 5, "rejects": 0}),
        ("davis", {"cases": 2, "videos": 2, "none": 1, "candidates": 7, "rejects": 2}),
        ("mot17", {"cases": 2, "videos": 2, "none": 0, "candidates": 11, "rejects": 0}),
        ("new", {"cases": 0, "videos": 0, "none": 0, "candidates": 0, "rejects": 1}),
        ("ytvos", {"cases": 2, "videos": 1, "none": 0, "candidates": 8, "rejects": 0}),
    ]
    numbers = (0, 1, 2, 3, 5, 3, 3)
    cases = [make_case(i) for i in numbers]
    regions = [(i, region) for i, case in zip(numbers, cases, strict=True) for region in case.query]
    areas = [r.box[2] * r.box[3] if r.box else (4 + int(r.id)) * (6 + i % 13) for i, r in regions]
    bins = [max(2**k for k in range(12) if 2**k <= area) for area in areas]
    assert report["query_areas"] == {str(value): bins.count(value) for value in sorted(set(bins))}
    assert sum(report["candidate_areas"].values()) == 2 + 3 + 4 + 5 + 7 + 5 + 5
    assert report["candidates"] == {"2": 1, "3": 1, "4": 1, "5": 3, "7": 1}
    assert report["gaps"] == {"1": 1, "8": 1, "15": 1, "22": 1, "36": 1}
    assert report["look_alikes"] == {"0": 1, "1": 2, "2": 1, "3": 1}
    assert report["images"] == {"2": 6, "3": 1}
    assert report["prompts"] == {"box": 2, "mask": 5}
    assert report["reviews"] == {"accepted": 1, "fixed": 3, "proposed": 3, "rejected": 1}
    assert report["reasons"] == {"'…' and '…' are N apart": 1, "frame N has N objects, N are needed": 2}
    letters = [case.letter for case in cases]
    letters[5] = "(unknown)"
    assert report["letters"] == {letter: letters.count(letter) for letter in sorted(set(letters))}
    types = [t for case in cases[:-1] for t in case.match_types or (0,)] + [1, 3]
    assert report["match_types"] == {str(t): types.count(t) for t in sorted(set(types))}
    assert report["build"] == {"a": 1}


def test_a_video_counts_once_for_each_source() -> None:
    stats = Stats()
    for i in (0, 33, 11):  # davis: clip 0 twice; mot17: clip 0
        stats.add_case(make_case(i))
    assert (stats.videos, stats.sources["davis"].videos, stats.sources["mot17"].videos) == (2, 1, 1)


def test_bins_and_reasons() -> None:
    assert [floor_power_of_two(v) for v in (-1, 0, 1, 2, 3, 4, 7, 8, 1023, 1024)] == [0, 0, 1, 2, 2, 4, 4, 8, 512, 1024]
    assert normalize_reason("3 of 12.5 'x 1' in \"y 2\"") == "N of N '…' in '…'"
    assert normalize_reason("no numbers") == "no numbers"
