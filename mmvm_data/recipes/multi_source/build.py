"""Builds a benchmark of several sources: a build of each source, a choice of their cases, and one folder a split.

Every source is built by ``pipeline.build`` into a folder of its own, with its own journal; the benchmark is written
from these by the writer of the set operations, and appears in one step. So a recipe that was killed continues where it
was, and the result has the same bytes whatever the number of workers and restarts.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.duplicates import iter_near_videos
from mmvm_data.cases.statistics import Stats
from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench
from mmvm_data.formats.build_files import BUILD, REJECTS, read_build
from mmvm_data.formats.set_files import SetPart, write_sets
from mmvm_data.io import remote
from mmvm_data.io.json_files import parse_json_object
from mmvm_data.pipeline import ray_executor
from mmvm_data.pipeline.build import OnProgress, build
from mmvm_data.pipeline.embedding_rankers import open_embedding_ranker
from mmvm_data.pipeline.options import BuildOptions, BuildProgress, BuildResult
from mmvm_data.pipeline.output_folder import index_folder, read_finished
from mmvm_data.pipeline.worker import library_versions
from mmvm_data.recipes.multi_source.card import format_card
from mmvm_data.recipes.multi_source.plan import Plan, PlannedSource, make_plan
from mmvm_data.recipes.multi_source.pool import Pool, read_pool
from mmvm_data.recipes.multi_source.recipe import Recipe, require_local
from mmvm_data.recipes.multi_source.selection import Choice, choose_cases
from mmvm_data.recipes.multi_source.split_groups import require_groups
from mmvm_data.recipes.multi_source.splits import assign_splits, describe_few_groups, group_videos
from mmvm_data.recipes.multi_source.video_hashes import hash_videos
from mmvm_data.recipes.multi_source.workspace import CARD, Workspace, open_workspace
from mmvm_data.recipes.pool_measurer import PoolMeasurerFactory


@dataclass(frozen=True)
class RecipeResult:
    """Result of a recipe.

    Attributes:
        build: counts of the whole.
        splits: number of cases of each split; empty without splits.
        shortfalls: what could not be reached, one sentence each.
        review: the recipe's settings of the review; None without.
        scores: of the baselines, before and after, see ``Selection.to_json``; None without ``resist``.
        notes: what a reader of the result should know, one sentence each.
    """

    build: BuildResult
    splits: dict[str, int]
    shortfalls: tuple[str, ...]
    review: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def build_recipe(
    recipe: Recipe,
    folder: Path | str,
    out: Path | str,
    options: BuildOptions | None = None,
    progress: OnProgress | None = None,
    choosing: Callable[[int], None] | None = None,
) -> RecipeResult:
    """Build a benchmark of several sources.

    Args:
        recipe: what to build; see ``read_recipe``.
        folder: that the paths of the recipe are relative to.
        out: a folder on this machine.
        options: workers, engine, and what to do with an earlier result; the recipe says everything else.
        progress: called after each video.
        choosing: called with the number of cases, or videos, that were read or written while cases are chosen.

    Raises:
        UsageError: something in the recipe cannot be had, or ``out`` holds something that is not to be replaced.
        InputError: a source, or a case of it, cannot be read.
        OutputError: the output cannot be written; what was finished is kept and can be resumed.
        KeyboardInterrupt: passed on; what was finished is kept and can be resumed.
    """
    options = options or BuildOptions()
    target = require_local(remote.path_or_url(out))
    started = time.monotonic()
    plan = _open_sources(recipe, Path(folder), index_folder(target), options)
    request = {"recipe": plan.describe(), "versions": library_versions()}
    with open_workspace(target, request, options) as workspace:
        if workspace is not None:
            _carry_out(plan, request, workspace, options, progress, choosing, started)
    record = read_build(target) or {}
    finished = replace(read_finished(target), already_done=workspace is None)
    counts = record.get("counts", {})
    splits = {name: split["cases"] for name, split in counts.get("splits", {}).items()}
    review = recipe.to_json()["review"]
    shortfalls, notes = (tuple(record.get(key, ())) for key in ("shortfalls", "notes"))
    return RecipeResult(finished, splits, shortfalls, review, record.get("selection"), notes)


def _open_sources(recipe: Recipe, folder: Path, cache: Path, options: BuildOptions) -> Plan:
    """Plan a recipe, with all that can be found out before it is built; one that is refused leaves no index behind that
    was not there.

    Raises:
        UsageError, InputError: as ``make_plan``, ``require_groups`` and ``open_embedding_ranker``.
    """
    is_new = not cache.exists()
    try:
        plan = make_plan(recipe, folder, cache)
        _check_embeddings(plan, options)
        require_groups(plan)
        return plan
    except BaseException:
        if is_new:
            shutil.rmtree(cache, ignore_errors=True)
        raise


def _check_embeddings(plan: Plan, options: BuildOptions) -> None:
    """Open the models that rank candidates, before anything is built; each is opened once in a process.

    Raises:
        UsageError, InputError: as ``open_embedding_ranker``.
    """
    for source in plan.sources:
        if source.sampling.embeddings is not None:
            try:
                open_embedding_ranker(source.sampling.embeddings, options.ranker_factory)
            except UsageError as error:
                raise UsageError(f"source {source.name!r} of the recipe: sampling.embeddings: {error}") from error


def _carry_out(
    plan: Plan,
    request: dict[str, Any],
    workspace: Workspace,
    options: BuildOptions,
    progress: OnProgress | None,
    choosing: Callable[[int], None] | None,
    started: float,
) -> None:
    with ray_executor.connect(options.workers, options.ray_address) if options.engine == "ray" else nullcontext():
        results = _build_stages(plan, workspace, options, progress)
    stages = [workspace.stage(number) for number in range(len(plan.sources))]
    pool = read_pool(plan, stages, options.workers, choosing)
    _check_groups(plan, pool, workspace.out)
    choice = choose_cases(plan, pool)
    split_of = _split_cases(plan, pool, choice, workspace.out, options.workers, choosing)
    parts_of = _make_parts(plan, stages, pool, choice, split_of)
    with_splits = plan.recipe.splits is not None

    def finish(folder: Path) -> None:
        try:
            record = _describe(plan, request, pool, choice, results, split_of)
            stats = Stats()
            for name in parts_of:
                for case in bench.read(folder / name):
                    stats.add_case(case)
            _write_rejects(folder / REJECTS, plan, stages)
            seconds = sum(result.seconds for result in results) + time.monotonic() - started
            record["times"] = {
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
            }
            counts = record["counts"]
            card = format_card(
                request["recipe"],
                stats,
                counts["sources"],
                counts.get("splits", {}),
                record["shortfalls"],
                record["selection"],
                record["notes"],
            )
            (folder / CARD).write_text(card, encoding="utf-8")
            for name in parts_of if with_splits else ():
                part = {**record, "split": name, "counts": {**counts, **counts["splits"][name]}}
                del part["counts"]["splits"], part["counts"]["sources"]
                (folder / name / BUILD).write_text(json.dumps(part, indent=1) + "\n", encoding="utf-8")
            (folder / BUILD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(error.filename or folder, error) from error

    write_sets(workspace.result, parts_of, "recipe", request["recipe"], progress=choosing, finish=finish)
    workspace.publish()


def _build_stages(
    plan: Plan, workspace: Workspace, options: BuildOptions, progress: OnProgress | None
) -> list[BuildResult]:
    """Build each source into its own folder; of those that were finished before, what has not changed is kept."""
    total, recipe = sum(source.videos for source in plan.sources), plan.recipe
    results: list[BuildResult] = []
    for number, source in enumerate(plan.sources):
        before = BuildProgress(
            sum(earlier.videos for earlier in plan.sources[:number]),
            total,
            sum(result.cases for result in results),
            sum(result.rejects for result in results),
        )

        def report(now: BuildProgress, before: BuildProgress = before) -> None:
            if progress:
                progress(
                    BuildProgress(
                        before.videos + now.videos, total, before.cases + now.cases, before.rejects + now.rejects
                    )
                )

        stage_options = replace(
            source.stage_options(plan.recipe.quality),
            workers=options.workers,
            engine=options.engine,
            ray_address=options.ray_address,
            ranker_factory=options.ranker_factory,
            measurer_factory=None if recipe.resist is None else PoolMeasurerFactory(recipe.splits is not None),
            existing="resume",
            accept_changes=options.accept_changes,
            keep_journal=True,
            index_folder=index_folder(workspace.out),
        )
        stage = workspace.stage(number)
        try:
            results.append(build(source.reader, source.root, stage, stage_options, report))
        except UsageError as error:
            if isinstance(error, (OutputError, OptionError)):
                raise
            name, text = f"source {source.name!r} of the recipe", str(error)
            # the folder of the stage says nothing to a reader
            named = text.replace(str(stage), name) if str(stage) in text else f"{name}: {text}"
            raise UsageError(named) from error
    return results


def _check_groups(plan: Plan, pool: Pool, out: Path) -> None:
    """Check, before cases are chosen, that those of the pool come from as many groups of videos as there are splits.

    Raises:
        UsageError: there are fewer, but some.
    """
    if plan.recipe.splits is not None and pool.videos:
        groups = group_videos(pool.videos, iter_near_videos(pool.frames))
        count = len(set(groups.values()))
        if count < len(plan.recipe.splits):
            raise UsageError(describe_few_groups(count, len(plan.recipe.splits), out))


def _split_cases(
    plan: Plan, pool: Pool, choice: Choice, out: Path, workers: int, progress: Callable[[int], None] | None
) -> NDArray[np.int64]:
    """The number of the split of each chosen case, int64 [chosen cases]; 0 where there are no splits."""
    if plan.recipe.splits is None:
        return np.zeros(len(choice.chosen), np.int64)
    numbers = pool.video_numbers[choice.chosen]
    counts = np.bincount(numbers, minlength=len(pool.videos)).tolist()
    cases = {video: count for video, count in zip(pool.videos, counts, strict=True) if count}
    for video, hashes in hash_videos(plan, sorted(cases), index_folder(out), workers, progress):
        pool.frames.begin_case("", video.text, 0)
        for hashed in hashes:
            pool.frames.add_frame(0, hashed)
    groups = group_videos(pool.videos, iter_near_videos(pool.frames))
    splits = assign_splits(groups, cases, plan.recipe.splits, plan.recipe.seed, out)
    names = list(plan.recipe.splits)
    split_of_video = np.array([names.index(splits[video]) if video in splits else -1 for video in pool.videos])
    return split_of_video[numbers]


def _make_parts(
    plan: Plan, stages: Sequence[Path], pool: Pool, choice: Choice, split_of: NDArray[np.int64]
) -> dict[str, list[SetPart]]:
    """What each split takes of which source; cases are numbered over all splits."""
    names = list(plan.recipe.splits or ["."])
    ids: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    order = np.lexsort((pool.stages[choice.chosen], split_of))
    for number, (split, k) in enumerate(zip(split_of[order].tolist(), choice.chosen[order].tolist(), strict=True)):
        ids[names[split], int(pool.stages[k])][pool.ids[k]] = f"case_{number:06d}"
    return {
        name: [
            SetPart(
                source=stage,
                ids=ids[name, k],
                label=f"{source.name}: {source.reader} {source.written_root}",
                build=_stage_record(stage, source),
                facts={"recipe_source": source.name},
                is_checked=True,
            )
            for k, (stage, source) in enumerate(zip(stages, plan.sources, strict=True))
            if ids[name, k] or len(names) == 1
        ]
        for name in names
    }


def _stage_record(stage: Path, source: PlannedSource) -> dict[str, Any]:
    """The build.json of a stage without what differs between equal builds: times, and where the source lies."""
    record = {key: value for key, value in (read_build(stage) or {}).items() if key != "times"}
    record["request"] = {
        **record["request"],
        "root": source.written_root,
        "proposals": None if source.proposals is None else "as in the recipe",
    }
    return record


def _describe(
    plan: Plan,
    request: dict[str, Any],
    pool: Pool,
    choice: Choice,
    results: Sequence[BuildResult],
    split_of: NDArray[np.int64],
) -> dict[str, Any]:
    """build.json, without the times."""
    is_none = pool.values(lambda kind: kind.is_none)[choice.chosen]
    videos, stages = pool.video_numbers[choice.chosen], pool.stages[choice.chosen]
    sources = {}
    for number, (source, result) in enumerate(zip(plan.sources, results, strict=True)):
        is_own = stages == number
        sources[source.name] = {
            "wanted": source.wanted,
            "pool_cases": result.cases,
            "cases": int(is_own.sum()),
            "videos": len(np.unique(videos[is_own])),
            "rejects": result.rejects,
        }
    counts: dict[str, Any] = {
        "videos": sum(source.videos for source in plan.sources),
        "videos_read": sum(result.videos for result in results),
        "cases": len(choice.chosen),
        "none_cases": int(is_none.sum()),
        "rejects": sum(result.rejects for result in results),
        "bad_inputs": sum(result.bad_inputs for result in results),
        "sources": sources,
    }
    if plan.recipe.splits is not None:
        counts["splits"] = {}
        for number, name in enumerate(plan.recipe.splits):
            is_own = split_of == number
            counts["splits"][name] = {
                "cases": int(is_own.sum()),
                "none_cases": int(is_none[is_own].sum()),
                "videos": len(np.unique(videos[is_own])),
            }
    return {
        "request": request,
        "versions": request["versions"],
        "review": request["recipe"]["review"],
        "counts": counts,
        "shortfalls": list(choice.shortfalls),
        "notes": list(plan.notes),
        "selection": choice.scores,
    }


def _write_rejects(path: Path, plan: Plan, stages: Sequence[Path]) -> None:
    """The rejects of all sources, each with the name of its source in the recipe."""
    with open(path, "wb") as out:
        for stage, source in zip(stages, plan.sources, strict=True):
            with open(stage / REJECTS, "rb") as lines:
                for number, line in enumerate(lines, start=1):
                    record = parse_json_object(line, stage / REJECTS, f"line {number}")
                    out.write(json.dumps({**record, "recipe_source": source.name}).encode() + b"\n")
