"""What a recipe is to give: its opened sources, the number of cases of each, and whether they can be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmvm_data.builders import Source, open_source
from mmvm_data.cases.sampling_options import VARIANT_SIZES, SamplingOptions
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.io.read_log import record_reads
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.pipeline.source_defaults import has_stills, with_source_defaults
from mmvm_data.recipes.multi_source.balance_levels import check_targets
from mmvm_data.recipes.multi_source.recipe import Recipe, check_roots, locate
from mmvm_data.recipes.multi_source.shared_pictures import SharedPictures, find_shared_pictures


@dataclass(frozen=True)
class PlannedSource:
    """A source of a recipe.

    Attributes:
        name, reader: see ``SourceEntry``.
        written_root: the root as the recipe has it.
        root, proposals: as seen from here.
        sampling: its options; ``cases_per_video`` is that of the benchmark.
        videos: number of its videos.
        wanted: number of cases; None: all that it gives.
        pool_factor: cases that are built for one that is kept.
        pool_cases_per_video: cases of a video in the pool that the benchmark's are chosen from, at most.
    """

    name: str
    reader: str
    written_root: str
    root: Path | str
    proposals: Path | None
    sampling: SamplingOptions
    videos: int
    wanted: int | None
    pool_factor: int
    pool_cases_per_video: int

    @property
    def capacity(self) -> int:
        """The largest number of cases that the benchmark can have of this source."""
        return count_capacity(self.videos, self.sampling)

    def stage_options(self, quality: int) -> BuildOptions:
        """Options of the build that makes its cases."""
        return BuildOptions(
            sampling=replace(self.sampling, cases_per_video=self.pool_cases_per_video),
            max_cases=None if self.wanted is None else self.wanted * self.pool_factor,
            quality=quality,
            proposals=self.proposals,
        )


@dataclass(frozen=True)
class Plan:
    """A recipe whose sources were opened.

    Attributes:
        recipe: the recipe.
        sources: in its order.
        opened: the sources themselves.
        notes: what a reader of the result should know, one sentence each.
    """

    recipe: Recipe
    sources: tuple[PlannedSource, ...]
    opened: tuple[Source, ...]
    notes: tuple[str, ...] = ()

    @property
    def by_name(self) -> list[int]:
        """Numbers of the sources in the order of their names, on which alone what is drawn depends."""
        return sorted(range(len(self.sources)), key=lambda number: self.sources[number].name)

    def describe(self) -> dict[str, Any]:
        """The recipe with all options and the number of cases of each source, as build.json records it."""
        record = self.recipe.to_json()
        for source, planned in zip(record["sources"], self.sources, strict=True):
            source["wanted"] = planned.wanted
        return record


def count_pool_cases(recipe: Recipe, source: Source, sampling: SamplingOptions, wanted: int | None) -> int:
    """The number of cases of a video in the pool: more than in the benchmark only where the videos are too few.

    Still images never give more, since further cases of an image would show the same again; videos always do for
    ``resist``, whose pool is that of ``build_resistant``.
    """
    is_enough = wanted is not None and wanted * recipe.pool_factor <= count_capacity(len(source.videos), sampling)
    keeps = has_stills(source) or (recipe.resist is None and is_enough)
    return sampling.max_cases_per_video * (1 if keeps else recipe.pool_factor)


def count_capacity(videos: int, sampling: SamplingOptions) -> int:
    """The largest number of cases that videos can give."""
    return videos * sampling.max_cases_per_video * count_variants(sampling)


def count_variants(sampling: SamplingOptions) -> int:
    """The largest number of cases that one draw can give."""
    return 1 + len(VARIANT_SIZES) if sampling.variants else 1


def make_plan(recipe: Recipe, folder: Path, cache: Path | None = None) -> Plan:
    """Open the sources of a recipe, and decide how many cases each gives. Nothing is written but into ``cache``.

    Args:
        recipe: the recipe.
        folder: that its paths are relative to.
        cache: folder in which the indices of the sources are kept, or None.

    Raises:
        OptionError: two sources have one root, or an option of one is not valid.
        UsageError: a source cannot be opened, two sources have the same pictures and annotations, a quota is above what
            a source has or less than a case, no source can have a value that is to be balanced, or there are fewer
            videos or cases than splits.
        InputError: the index of a source is broken.
    """
    check_roots(recipe, folder)
    opened, logs = [], []
    for source in recipe.sources:
        proposals = None if source.proposals is None else locate(source.proposals, folder)
        try:
            with record_reads() as log:
                opened.append(open_source(source.reader, locate(source.root, folder), cache, proposals))
            logs.append(log)
        except InputError as error:
            raise InputError(
                error.file, f"{error.reason} (source {source.name!r} of the recipe)", error.field
            ) from error
        except UsageError as error:
            raise UsageError(f"source {source.name!r} of the recipe: {error}") from error
    notes = tuple(_describe_shared(recipe, shared) for shared in find_shared_pictures(opened, logs))
    samplings = [with_source_defaults(one, recipe.sampling_of(number)) for number, one in enumerate(opened)]
    check_targets(recipe, samplings)
    capacities = [count_capacity(len(one.videos), sampling) for one, sampling in zip(opened, samplings, strict=True)]
    wanted = resolve_quotas(recipe, capacities)
    planned = []
    for entry, one, sampling, capacity, count in zip(
        recipe.sources, opened, samplings, capacities, wanted, strict=True
    ):
        if count == 0:
            raise UsageError(
                f"source {entry.name!r} of the recipe: its share of the total is less than one case; leave it out, "
                "or use a larger total or share"
            )
        if count is not None and count > capacity:
            raise UsageError(
                f"source {entry.name!r} of the recipe: {count} cases are wanted, {capacity} can be had at most "
                f"(videos: {len(one.videos)}, cases_per_video: {sampling.max_cases_per_video})"
            )
        proposals = None if entry.proposals is None else Path(locate(entry.proposals, folder))
        planned.append(
            PlannedSource(
                name=entry.name,
                reader=entry.reader,
                written_root=entry.root,
                root=locate(entry.root, folder),
                proposals=proposals,
                sampling=sampling,
                videos=len(one.videos),
                wanted=count,
                pool_factor=recipe.pool_factor,
                pool_cases_per_video=count_pool_cases(recipe, one, sampling, count),
            )
        )
    if recipe.splits is not None:
        _check_enough(sum(one_plan.videos for one_plan in planned), wanted, len(recipe.splits))
    return Plan(recipe, tuple(planned), tuple(opened), notes)


def _check_enough(videos: int, wanted: Sequence[int | None], splits: int) -> None:
    """Check that each split can have a video, and a case."""
    if videos < splits:
        raise UsageError(f"splits: the sources have {pluralize(videos, 'video')}, fewer than the {splits} splits")
    counts = [count for count in wanted if count is not None]
    if len(counts) == len(wanted) and sum(counts) < splits:
        raise UsageError(f"splits: {sum(counts)} cases are wanted, fewer than the {splits} splits")


def _describe_shared(recipe: Recipe, shared: SharedPictures) -> str:
    """One sentence about two sources that show the same pictures.

    Raises:
        UsageError: they have the same annotations, too.
    """
    first, second = (recipe.sources[number] for number in (shared.first, shared.second))
    if shared.annotation is not None:
        raise UsageError(
            f"source {second.name!r} of the recipe: {second.root} has pictures and annotations of source "
            f"{first.name!r}, such as video {shared.videos[1]!r} with {shared.annotation}; one source may read them"
        )
    return (
        f"sources {first.name!r} and {second.name!r} have pictures in common, with annotations in different files: "
        f"video {shared.videos[0]!r} of the first shows those of {shared.videos[1]!r} of the second"
    )


def resolve_quotas(recipe: Recipe, capacities: Sequence[int]) -> list[int | None]:
    """The number of cases of each source; None where all are taken.

    Args:
        recipe: the recipe.
        capacities: the largest number of cases of each source.

    Raises:
        UsageError: the sources have fewer cases than ``total``.
    """
    quotas = [source.quota for source in recipe.sources]
    total = recipe.total
    if quotas[0] is not None:
        counts = [quota if isinstance(quota, int) else 0 for quota in quotas]
        if total is None or sum(counts) == total:
            return list(counts)
        shares = [quota if isinstance(quota, float) else 0.0 for quota in quotas]
        rest = apportion(shares, total - sum(counts))
        return [count + more for count, more in zip(counts, rest, strict=True)]
    targets = recipe.balance.source if recipe.balance is not None else None
    if total is None and targets is None:
        return [None] * len(quotas)
    names = [source.name for source in recipe.sources]
    shares = [1.0] * len(names) if targets == "equal" else [float(capacity) for capacity in capacities]
    if isinstance(targets, Mapping):
        shares = [targets[name] for name in names]
    if total is None:  # as many as the scarcest source allows
        limits = [capacity * sum(shares) / share for capacity, share in zip(capacities, shares, strict=True) if share]
        total = int(min(limits) + 1e-9) if limits else 0
    if total > sum(capacities):
        raise UsageError(
            f"total: {total} cases are wanted, the sources of the recipe can give {sum(capacities)} at most"
        )
    return list(apportion(shares, total))


def apportion(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to shares, which sum to ``total``: the largest remainders are rounded up."""
    whole = sum(shares)
    exact = [share / whole * total if whole else 0.0 for share in shares]
    counts = [int(value + 1e-9) for value in exact]
    order = sorted(range(len(shares)), key=lambda k: (counts[k] - exact[k], k))
    for k in order[: max(0, total - sum(counts))]:
        counts[k] += 1
    return counts
