"""`mmvm-data sample --resist` on real files: what players score on all cases and on those that are chosen, by source.

Writes a recipe over real sets (COCO stills, DAVIS 2017, MOT17, COCO panoptic), builds it, and chooses a third of its
cases. Scores and intervals are the audit's: every baseline, gradient boosting among them, on all sources and on each
one. Of a source with fewer than ten videos the intervals say little, and the record says so; a still counts as a video.
Prints one JSON object.

    python benchmarks/resist_real.py REALDATA --out benchmarks/results/resist_real.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from common import emit, machine
from numpy.typing import NDArray

from mmvm_data.audit.baseline_scores import interval_width, score_baselines
from mmvm_data.audit.case_inspector import inspect_cases
from mmvm_data.audit.case_table import CaseTable
from mmvm_data.audit.gradient_boosting import MIN_VIDEOS, describe_shortage, score_gradient_boosting
from mmvm_data.audit.results import AuditOptions
from mmvm_data.formats import bench
from mmvm_data.recipes.multi_source.build import build_recipe
from mmvm_data.recipes.multi_source.recipe import read_recipe
from mmvm_data.recipes.resistant_sample import sample_resistant

POOL_FACTOR, STILL_CASES, VIDEO_CASES = 3, 9, 60
SOURCES = {
    "coco": ("coco", "coco", STILL_CASES),
    "davis_schoolgirls": ("davis2017", "davis2017_schoolgirls_240p", VIDEO_CASES),
    "davis_tennis": ("davis2017", "davis2017_interactive", VIDEO_CASES),
    "mot17": ("mot17", "mot17_mini", VIDEO_CASES),
    "panoptic": ("coco_panoptic", "coco_panoptic/sample_data", STILL_CASES),
}
"""Name in the recipe -> reader, folder and cases a video."""
ALL = "all sources"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="folder that holds the sets")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES), help="those that are used")
    parser.add_argument("--stills", type=int, default=STILL_CASES, help="cases of each still in the pool")
    parser.add_argument("--folder", type=Path, help="where the files are written; the system's temporary folder")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-", dir=a.folder) as scratch:
        emit(measure(Path(scratch), a.root.resolve(), a.sources, a.stills), a.out)


def measure(scratch: Path, root: Path, names: Sequence[str], stills: int) -> dict[str, Any]:
    """Scores by source, before and after."""
    facts = machine()
    entries = []
    for name in names:
        reader, folder, cases = SOURCES[name]
        cases = stills if cases == STILL_CASES else cases
        sampling = {"cases_per_video": cases, "min_gap": 1}
        entries.append({"name": name, "reader": reader, "root": str(root / folder), "sampling": sampling})
    recipe = scratch / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"seed": 0, "sources": entries}, sort_keys=False), encoding="utf-8")
    build_recipe(read_recipe(recipe), scratch, scratch / "pool")
    pool = _read_pool(scratch / "pool")
    count = len(pool.table) // POOL_FACTOR
    choices = [_choose(scratch, pool, names, count)]
    reachable = choices[0]["reachable_fixed"]
    if reachable is not None and 0 < reachable < count:
        choices.append(_choose(scratch, pool, names, reachable))
    return {
        "machine": facts,
        "commands": ["mmvm-data build RECIPE --out POOL", "mmvm-data sample POOL --n CASES --resist --out CHOSEN"],
        "recipe": recipe.read_text(encoding="utf-8").replace(f"{root}/", "REALDATA/").splitlines(),
        "pool": _score_sources(pool, names, np.ones(len(pool.table), bool)),
        "choices": choices,
    }


class _Pool(NamedTuple):
    """What the baselines answer, and the sources of the cases in the recipe, str [cases]."""

    table: CaseTable
    sources: NDArray[np.str_]


def _choose(scratch: Path, pool: _Pool, names: Sequence[str], count: int) -> dict[str, Any]:
    selection = sample_resistant(scratch / "pool", scratch / f"chosen{count}", count)
    found = selection.to_json()
    return {key: found[key] for key in ("cases", "reachable", "reachable_fixed", "warnings")} | {
        "sources": _score_sources(pool, names, selection.chosen)
    }


def _score_sources(pool: _Pool, names: Sequence[str], chosen: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    """Scores by source: "score, low, high, chance" of each baseline, without an interval where videos are too few."""
    sources: dict[str, dict[str, Any]] = {}
    for name in (ALL, *names):
        own = pool.table.take(chosen & ((pool.sources == name) | (name == ALL)))
        videos = len(np.unique(own.videos))
        is_judged = videos >= MIN_VIDEOS
        fields = ("score", "low", "high", "chance") if is_judged else ("score", "chance")
        sources[name] = {
            "videos": videos,
            "cases": len(own),
            "judged": is_judged or describe_shortage(videos),
            "fields": ", ".join(fields),
            "baselines": {
                score["baseline"]: ", ".join(f"{score[field]:.4f}" for field in fields) for score in _score(own)
            },
        }
    return sources


def _read_pool(folder: Path) -> _Pool:
    problems: list[bench.Problem] = []
    names = [case.provenance.extra["recipe_source"] for case in bench.read(folder) if case.provenance]
    inspected = inspect_cases(folder, AuditOptions(), problems, True, None, with_hashes=False)
    return _Pool(CaseTable.from_inspected(inspected), np.array(names))


def _score(table: CaseTable) -> list[dict[str, Any]]:
    """The scores of all baselines; without those that need more videos, and "random", whose score is chance."""
    if not len(table):
        return []
    scores = score_baselines(table)
    learned = score_gradient_boosting(table, interval_width())
    found = [score.to_json() for score in (*scores, *([learned.score] if learned.score else []))]
    return [score for score in found if score["baseline"] != "random"]


if __name__ == "__main__":
    main()
