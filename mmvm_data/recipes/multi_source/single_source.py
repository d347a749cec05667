"""A command line of one source as a recipe: what it would give, and the file that says the same."""

from __future__ import annotations

import os
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from mmvm_data.builders import open_source
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.core.redact import redact_urls
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import read_text_file
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.pipeline.source_defaults import with_source_defaults
from mmvm_data.recipes.multi_source.plan import Plan, PlannedSource, count_pool_cases
from mmvm_data.recipes.multi_source.recipe import PLAIN_WORDS, Recipe, ResistOptions, SourceEntry

_NOT_SAMPLING = ("seed", "frame_rate")


def plan_source(
    source: str, root: Path | str, options: BuildOptions, pool_factor: int | None = None, cache: Path | None = None
) -> Plan:
    """Open a source, and say how many cases a build of it is to give. Nothing is written.

    Args:
        source, root: see ``pipeline.build``.
        options: of the build.
        pool_factor: of ``build_resistant``; None: of a build without ``resist``.
        cache: existing folder with the index of the source, or None.

    Raises:
        UsageError: the source cannot be opened.
        InputError: its index is broken.
    """
    opened = open_source(source, root, cache, options.proposals)
    sampling = with_source_defaults(opened, options.sampling)
    entry = SourceEntry(name=source, reader=source, root=str(root))
    recipe = Recipe(sources=(entry,), resist=None if pool_factor is None else ResistOptions(pool_factor=pool_factor))
    planned = PlannedSource(
        name=source,
        reader=source,
        written_root=str(root),
        root=root,
        proposals=options.proposals,
        sampling=sampling,
        videos=len(opened.videos),
        wanted=options.max_cases,
        pool_factor=pool_factor or 1,
        pool_cases_per_video=count_pool_cases(recipe, opened, sampling, options.max_cases),
    )
    return Plan(recipe, (planned,), (opened,))


def save_recipe(path: Path, plan: Plan, options: BuildOptions, is_replaced: bool = False) -> None:
    """Write the recipe whose benchmark has the cases of a build of one source.

    Args:
        path: of the file. The paths in it are relative to its folder where those of the build are relative.
        plan: of ``plan_source``.
        options: of the build.
        is_replaced: whether another file that is there is replaced.

    Raises:
        UsageError: another file is there, or the URL of the source has a password.
        OutputError: the file cannot be written.
    """
    text = yaml.safe_dump(_describe(plan, options, path.parent), sort_keys=False, allow_unicode=True)
    if path.exists() and not is_replaced and read_text_file(path) != text:
        raise UsageError(f"{path}: exists, and holds something else; `save_recipe` writes a new file")
    try:
        with atomic_write(path) as handle:
            handle.write(text)
    except OSError as error:
        raise OutputError(path, error) from error


def _describe(plan: Plan, options: BuildOptions, folder: Path) -> dict[str, Any]:
    """The recipe as values of YAML, without what has its default."""
    (source,) = plan.sources
    if redact_urls(str(source.root)) != str(source.root):
        raise UsageError("`save_recipe` must not be used with a URL that has a password, which the file would show")
    entry: dict[str, Any] = {"name": source.name, "reader": source.reader, "root": _written(source.root, folder)}
    if source.wanted is not None and source.wanted <= source.capacity:  # a larger limit limits nothing
        entry["quota"] = source.wanted
    if source.sampling.frame_rate is not None:
        entry["frame_rate"] = source.sampling.frame_rate
    if source.proposals is not None:
        entry["proposals"] = _written(source.proposals, folder)
    recipe: dict[str, Any] = {"seed": source.sampling.seed, "sources": [entry]}
    sampling = _describe_sampling(source.sampling)
    if sampling:
        recipe["sampling"] = sampling
    if options.quality != BuildOptions().quality:
        recipe["quality"] = options.quality
    if plan.recipe.resist is not None:
        recipe["resist"] = {"pool_factor": plan.recipe.resist.pool_factor}
    return recipe


def _describe_sampling(sampling: SamplingOptions) -> dict[str, Any]:
    values = {}
    for field in fields(sampling):
        value = getattr(sampling, field.name)
        if field.name not in _NOT_SAMPLING and field.default is not MISSING and value != field.default:
            values[field.name] = PLAIN_WORDS.get(field.name) if value is None else value
    return values


def _written(path: Path | str, folder: Path) -> str:
    """A path as the recipe has it: a relative one as seen from the recipe's folder."""
    if isinstance(path, str) or path.is_absolute():
        return str(path)
    return os.path.relpath(path, folder)
