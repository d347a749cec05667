"""``--dry-run`` of a recipe: what cannot be had, and what the first videos of the sources do not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cli import cli
from mmvm_data.recipes.multi_source.dry_run import SourceEstimate, list_unreachable
from mmvm_data.recipes.multi_source.plan import Plan, PlannedSource
from mmvm_data.recipes.multi_source.recipe import Recipe, SourceEntry
from tests.worlds import davis


def test_what_may_not_be_met(tmp_path: Path) -> None:
    davis(tmp_path / "four", videos=2, size=(60, 160))
    davis(tmp_path / "two", videos=2, objects=2, frames=8, size=(60, 160))  # nothing leaves
    recipe = {
        "sources": [{"name": name, "reader": "davis", "root": name} for name in ("four", "two")],
        "sampling": {"min_area": 50, "min_side": 5, "cases_per_video": 3, "none_share": 0.5, "candidates": 8},
        "balance": {"candidates": "equal", "difficulty": {"easy": 0.5, "hard": 0.5}},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    found = json.loads(CliRunner().invoke(cli, ["build", str(path), "--dry-run", "--json"]).output)
    ruled_out = "candidates and min_candidates allow it for no source"
    assert found["cannot_be_met"] == [f"balance.candidates 9-12: {ruled_out}", f"balance.candidates 13-37: {ruled_out}"]
    none, *levels = found["may_not_be_met"]
    assert none.startswith("source 'two': ") and none.endswith('"none of the above", and no object disappears')
    assert [text.partition(":")[0] for text in levels] == ["balance.candidates 5-8", "balance.difficulty hard"]
    text = " ".join(CliRunner().invoke(cli, ["build", str(path), "--dry-run"]).output.split())
    assert "cannot be met: balance.candidates 9-12" in text and "may not be met: balance.candidates 5-8" in text


@pytest.mark.parametrize(("factor", "is_small"), [(2, True), (1, False)])
def test_a_pool_that_is_too_small(factor: int, is_small: bool) -> None:
    sampling = SamplingOptions(cases_per_video=1)
    made = Recipe(sources=(SourceEntry(name="s", reader="coco", root="s", quota=56),))
    source = PlannedSource("s", "coco", "s", Path("s"), None, sampling, 104, 56, factor, 1)
    certain, possible = list_unreachable(Plan(made, (source,), ()), [SourceEstimate(75)])
    assert not certain and bool(possible) is is_small
    if is_small:
        expected = "source 's': about 75 cases are expected to choose 56 from; pool_factor asks for 112"
        assert possible == [expected]
