"""Builds more cases than are wanted, and keeps those that blind baselines answer no better than chance."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mmvm_data.builders.detect import choose_source
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.redact import redact_urls
from mmvm_data.formats.build_files import BUILD
from mmvm_data.io import remote
from mmvm_data.io.files import remove_tree
from mmvm_data.pipeline.build import OnProgress, build
from mmvm_data.pipeline.options import BuildOptions, BuildResult
from mmvm_data.pipeline.source_defaults import has_stills_before_opening
from mmvm_data.recipes.pool_measurer import PoolMeasurerFactory
from mmvm_data.recipes.resistant_sample import sample_resistant
from mmvm_data.recipes.selection_scores import Selection

MAX_POOL_FACTOR = 100


def pool_folder(out: Path) -> Path:
    """Where the pool of a benchmark lies while it is built: a hidden folder beside it."""
    return out.parent / f".{out.name}.pool"


def build_resistant(
    source: str,
    root: Path | str,
    out: Path | str,
    options: BuildOptions | None = None,
    pool_factor: int = 3,
    progress: OnProgress | None = None,
    choosing: Callable[[int], None] | None = None,
) -> tuple[BuildResult, Selection | None]:
    """Build a pool beside ``out``, choose from it as ``sample_resistant`` does, and delete it.

    A build that was killed continues with ``existing="resume"``; a pool that was finished is used again.

    Args:
        source, root, progress: see ``build``.
        out: a new folder on this machine.
        options: of the benchmark; the pool has ``pool_factor`` times their ``max_cases``, and their cases a video
            unless these are still images.
        pool_factor: how many cases are built for one that is kept.
        choosing: called with the number of cases that were read or written while cases are chosen.

    Returns:
        The result, with the cases that were kept, and the selection. Without cases, the result is the pool's, which
        stays for its rejects, and there is no selection.

    Raises:
        OptionError: an option that cannot be combined with choosing.
        UsageError: there is something at ``out``; and as ``build`` and ``sample_resistant``.
        InputError, OutputError, KeyboardInterrupt: as these.
    """
    options = options or BuildOptions()
    out = remote.path_or_url(out)
    if not isinstance(out, Path):
        raise OptionError("resist", "needs an `out` folder on this machine")
    if options.sampling.variants:
        raise OptionError("resist", "must not be used with `variants`, which belong together")
    if not 2 <= pool_factor <= MAX_POOL_FACTOR:
        raise OptionError("pool_factor", f"must be in [2, {MAX_POOL_FACTOR}], got {pool_factor}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: already exists and is not empty; choose another folder, or delete it first")
    pool = pool_folder(out)
    is_finished = (pool / BUILD).is_file() and options.existing == "refuse"
    source = choose_source(source, root)
    sampling = options.sampling
    if not has_stills_before_opening(source, root):  # of which further cases would show the same again
        sampling = replace(sampling, cases_per_video=sampling.max_cases_per_video * pool_factor)
    pool_options = replace(
        options,
        sampling=sampling,
        max_cases=None if options.max_cases is None else options.max_cases * pool_factor,
        existing="resume" if is_finished else options.existing,
        measurer_factory=PoolMeasurerFactory(),
    )
    result = build(source, root, pool, pool_options, progress)
    if not result.cases:
        return result, None
    wanted = max(1, result.cases // pool_factor)
    if options.max_cases is not None:
        wanted = min(options.max_cases, result.cases)
    label = f"{source} {redact_urls(str(root))}"
    selection = sample_resistant(
        pool, out, wanted, sampling.seed, options.workers, choosing, label, keep_rejects=True, is_checked=True
    )
    with suppress(OSError):
        remove_tree(pool)
    return replace(result, out=out, cases=wanted, none_cases=selection.none_cases, already_done=False), selection
