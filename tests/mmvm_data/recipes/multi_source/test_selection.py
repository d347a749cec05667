"""Cases that a recipe chooses from its pool: quotas hold exactly, targets as far as there are cases."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.builders import Source
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.config_values import parse_config
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.recipes.multi_source.balance_levels import check_targets, list_impossible
from mmvm_data.recipes.multi_source.plan import Plan, PlannedSource, apportion, count_pool_cases
from mmvm_data.recipes.multi_source.pool import CaseKind, Pool, PooledCase
from mmvm_data.recipes.multi_source.recipe import BalanceOptions, Recipe, ResistOptions, SourceEntry
from mmvm_data.recipes.multi_source.selection import Choice, choose_cases
from mmvm_data.recipes.multi_source.splits import VideoKey, group_videos


def recipe(**changes: Any) -> Recipe:
    sources = [
        {"name": name, "reader": "davis", "root": name, "quota": quota} for name, quota in (("a", 40), ("b", 20))
    ]
    return parse_config({"sources": sources} | changes, Recipe, "recipe.yaml")


def plan(made: Recipe) -> Plan:
    sources = [
        PlannedSource(s.name, "davis", s.root, Path(s.root), None, SamplingOptions(), 99, s.quota, made.pool_factor, 4)  # type: ignore[arg-type]
        for s in made.sources
    ]
    return Plan(made, tuple(sources), ())


def pool() -> Pool:
    """Of 180 cases two thirds are easy, three of four have the answer A, and one of ten is "none of the above"."""
    cases = []
    for k in range(180):
        stage, none = int(k >= 120), k % 10 == 9
        answer = "C" if none else "A" if k % 4 else "B"
        video = VideoKey("ab"[stage], "davis", str(k // 3))
        kind = CaseKind(("A", "B", "C"), answer, none, 2, k % 3 // 2 * 3)
        cases.append(PooledCase(stage, f"case_{k:06d}", video, kind))
    return Pool.from_cases(cases)


def choose(made: Plan, cases: Pool) -> tuple[list[PooledCase], Choice]:
    choice = choose_cases(made, cases)
    return [cases[k] for k in choice.chosen], choice


@pytest.mark.parametrize(
    ("reader", "wanted", "resist", "expected"),
    [
        ("davis", 13, False, 4),  # 10 videos have 40 cases, 39 are needed
        ("davis", 14, False, 12),
        ("davis", None, False, 12),
        ("davis", 1, True, 12),
        ("coco", 1, False, 4),
        ("coco", 10, True, 4),
    ],
)
def test_pools_take_more_videos_before_more_cases_of_each(
    reader: str, wanted: int | None, resist: bool, expected: int
) -> None:
    entry = SourceEntry(name="a", reader=reader, root="a", quota=wanted)
    made = Recipe(
        sources=(entry,), balance=BalanceOptions(none=0.1), resist=ResistOptions(pool_factor=3) if resist else None
    )
    source = Source(reader, Path(), [str(k) for k in range(10)], lambda video: pytest.fail(video))
    assert count_pool_cases(made, source, SamplingOptions(cases_per_video=4), wanted) == expected


def test_targets_are_reached_and_quotas_hold() -> None:
    made = plan(recipe(balance={"difficulty": "equal", "answer": "equal", "none": 0.2}))
    chosen, choice = choose(made, pool())
    assert choice.shortfalls == (
        "balance.difficulty equal: the pool has no case of medium; the other values share what is left",
    )
    assert Counter(case.stage for case in chosen) == {0: 40, 1: 20}
    difficulties = Counter(case.kind.look_alikes for case in chosen)
    assert abs(difficulties[0] - 30) <= 1
    assert abs(sum(case.kind.is_none for case in chosen) - 12) <= 1
    letters = Counter(case.kind.answer for case in chosen if not case.kind.is_none)
    assert abs(letters["A"] - letters["B"]) <= 3
    assert choose(made, pool())[0] == chosen


def test_match_types_have_their_shares_of_the_proposals() -> None:
    types = [("CL",), ("CL", "SP"), ("CL",), ("SP", "SZ"), ()]
    cases = [case._replace(kind=case.kind._replace(match_types=types[k % 5])) for k, case in enumerate(pool())]

    def shares(target: Any, *shortfalls: str) -> dict[str, float]:
        chosen, choice = choose(plan(recipe(balance={"match_types": target})), Pool.from_cases(cases))
        assert choice.shortfalls == shortfalls and Counter(case.stage for case in chosen) == {0: 40, 1: 20}
        found = Counter(name for case in chosen for name in case.kind.match_types)
        return {name: count / found.total() for name, count in found.items()}

    lacking = "balance.match_types equal: the pool has no case of RP, OO, OM; the other values share what is left"
    assert shares("equal", lacking) == pytest.approx({"CL": 1 / 3, "SP": 1 / 3, "SZ": 1 / 3}, abs=0.04)
    wanted = {"CL": 0.7, "SP": 0.2, "SZ": 0.1}
    assert shares(wanted) == pytest.approx(wanted, abs=0.04)


def test_what_cannot_be_reached_is_said() -> None:
    choice = choose_cases(plan(recipe(balance={"none": 0.9})), pool())
    assert len(choice.chosen) == 60
    (text,) = choice.shortfalls
    assert text.startswith("balance.none: ") and "90.0% are wanted; the pool has 18 such cases" in text


def test_a_value_that_no_case_has_is_said_whatever_its_share() -> None:
    cases = Pool.from_cases(case._replace(kind=case.kind._replace(is_none=False, answer="A")) for case in pool())
    choice = choose_cases(plan(recipe(balance={"none": 0.01})), cases)
    assert choice.shortfalls == ("balance.none: 0.0% of the cases, 1.0% are wanted; the pool has 0 such cases",)
    choice = choose_cases(plan(recipe()), cases)
    assert [text.partition(":")[0] for text in choice.shortfalls] == ["source 'a'", "source 'b'"]
    assert '0 of 120 cases have the answer "none of the above", none_share is 0.1' in choice.shortfalls[0]


def test_values_that_the_options_rule_out() -> None:
    few, many = SamplingOptions(candidates=2, none_share=0.0), SamplingOptions(min_candidates=5, none_share=0.0)
    for balance, samplings, message in (
        (
            {"candidates": {"5-8": 1.0}},
            [few],
            "candidates 5-8: candidates and min_candidates allow it for no source",
        ),
        ({"candidates": {"1-4": 1.0}}, [many], "candidates 1-4: candidates and min_candidates allow it"),
        ({"difficulty": {"hard": 1.0}}, [few], "difficulty hard: needs 3 candidates or more"),
        (
            {"match_types": {"CL": 0.5, "TM": 0.5}},
            [many],
            "match_types TM: is proposed only where the source is at hand",
        ),
        ({"none": 0.2}, [few, many], "none: no source gives such cases, since none_share is 0"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            check_targets(recipe(balance=balance), samplings)
        assert not list_impossible(recipe(balance=balance), samplings) or "none" in balance
    check_targets(recipe(balance={"candidates": {"1-4": 0.5, "5-8": 0.5, "13-37": 0.0}}), [few, many])
    texts = list_impossible(recipe(balance={"candidates": "equal", "none": 0.4}), [few, SamplingOptions()])
    assert texts == [
        "balance.none: 40.0% are wanted; with the none_share of the sources and a pool of 3 times the cases, 30.0% "
        "can be expected at most"
    ]
    texts = list_impossible(recipe(balance={"candidates": "equal"}), [few])
    assert [text.partition(":")[0] for text in texts] == [f"balance.candidates {n}" for n in ("5-8", "9-12", "13-37")]


@pytest.mark.parametrize(
    ("balance", "message"),
    [
        ({"difficulty": {"easy": 0.5}}, "balance.difficulty must have shares that sum to 1, got 0.5"),
        ({"candidates": {"2": 1.0}}, "balance.candidates must have shares of 1-4, 5-8, 9-12, 13-37, got '2'"),
        (
            {"match_types": {"1": 1.0}},
            "balance.match_types must have shares of CL, SP, TM, SZ, RP,",
        ),
        ({"source": "equal"}, "balance.source must not be used with quotas"),
        ({"none": 2}, "balance.none must be at most 1, got 2"),
    ],
)
def test_targets_that_are_none(balance: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe(balance=balance)
    assert message in str(caught.value)


def test_apportion() -> None:
    assert apportion([0.5, 0.25, 0.25], 7) == [3, 2, 2]
    assert sum(apportion([1 / 3] * 3, 100)) == 100


def test_videos_of_one_original_are_one_group() -> None:
    keys = [
        VideoKey("a", "ytvos", "003234408d"),
        VideoKey("b", "ytvis", "003234408d"),
        VideoKey("c", "mot17", "MOT17-02-FRCNN"),
        VideoKey("d", "mots", "MOTS20-02"),
        VideoKey("e", "mot20", "MOT20-02"),
        VideoKey("f", "burst", "train/LaSOT/zebra-17"),
        VideoKey("g", "lasot", "zebra-17"),
        VideoKey("h", "uav123", "truck4_1"),
        VideoKey("h", "uav123", "truck4_2"),
    ]
    groups = group_videos(keys, [])
    assert [groups[key].source for key in keys] == ["a", "a", "c", "c", "e", "f", "f", "h", "h"]
    assert groups[keys[7]] == groups[keys[8]]
    joined = group_videos(keys, [(keys[0].text, keys[4].text), (keys[4].text, keys[6].text)])
    assert len({joined[key] for key in keys}) == 3
