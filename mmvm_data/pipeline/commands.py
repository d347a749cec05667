"""The command ``mmvm-data build``: parses and calls, nothing else."""

from __future__ import annotations

from pathlib import Path

from mmvm_data.io.console import out, path_markup, pluralize, print_next_steps
from mmvm_data.pipeline.build import REJECTS, BuildResult


def print_build_summary(result: BuildResult, none_share: float) -> None:
    """Print what a build did, where it is, and what to type next.

    Args:
        result: of ``pipeline.build``.
        none_share: the share of "none of the above" that was asked for, 0..1.
    """
    place = path_markup(result.out)
    if result.already_done:
        out.print(f"{place} was finished before: {result.cases} cases, nothing to do")
    else:
        rate = result.cases / result.seconds if result.seconds else 0
        out.print(
            f"[bold]{pluralize(result.cases, 'case')}[/] from {pluralize(result.videos, 'video')} "
            f"in {result.seconds:.1f} s ({rate:.1f} a second): {place}"
        )
    if result.none_cases:
        out.print(f'the right answer is "none of the above" in {result.none_cases} of them')
    if result.cases >= 20 and result.none_cases < none_share * result.cases / 2:
        out.print(f'too few objects disappear here for the share of "none of the above" that was asked: {none_share:g}')
    if result.rejects:
        rejects = result.out / REJECTS if isinstance(result.out, Path) else f"{result.out}/{REJECTS}"
        out.print(f"{pluralize(result.rejects, 'reject')}, with reasons: {path_markup(rejects)}")
    if result.cases and isinstance(result.out, Path):
        print_next_steps(
            (["validate", str(result.out)], "check every file, mask and letter"),
            (["report", str(result.out)], "look at it"),
        )
    elif not result.cases:
        out.print(
            "[yellow]no case came out[/]: the rejects say why; "
            "--min-area, --min-candidates, --max-gap may be too strict"
        )
