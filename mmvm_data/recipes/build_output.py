"""What a build prints at its end, and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmvm_data.formats.build_files import REJECTS
from mmvm_data.io.console import err, escape, out, path_markup, pluralize, print_next_steps, progress_bar
from mmvm_data.pipeline.options import BuildProgress, BuildResult
from mmvm_data.pipeline.reject_summary import suggest_options

NO_CASES_EXIT_CODE = 3
"""Exit code of a build from which no case came out."""

_MAX_REASON = 300  # characters of a reason that are printed


@contextmanager
def show_progress(destination: object) -> Iterator[tuple[Callable[[BuildProgress], None], Callable[[int], None]]]:
    """Show the progress of a build; when it is interrupted, say how to continue.

    Args:
        destination: of the build.

    Returns:
        What to call after each video, and what with the number of cases that were looked at to choose some.
    """
    with progress_bar("videos") as bar:
        building = bar.add_task("building", total=None, note="")
        choosing = bar.add_task("choosing", total=None, note="", visible=False)

        def update(progress: BuildProgress) -> None:
            note = f"{progress.cases} cases, {progress.rejects} rejects"
            bar.update(building, completed=progress.videos, total=progress.total_videos, note=note)

        try:
            yield update, lambda number: bar.update(choosing, completed=number, visible=True)
        except KeyboardInterrupt:
            bar.stop()
            err.print(
                "stopped; what was finished is kept. Continue with the same command and --resume "
                f"({escape(str(destination))})"
            )
            raise


def exit_by_result(result: BuildResult, is_strict: bool) -> None:
    """Exit with 3 where no case came out, and with 1 where inputs were rejected that may not be."""
    if not result.cases:
        sys.exit(NO_CASES_EXIT_CODE)
    if is_strict and result.bad_inputs:
        err.print(f"--strict: {result.bad_inputs} inputs were rejected, see {escape(f'{result.out}/{REJECTS}')}")
        sys.exit(1)


def print_build_summary(result: BuildResult, none_share: float) -> None:
    """Print the counts of a build, where it is, and the commands to type next.

    Args:
        result: result of the build.
        none_share: the requested share of "none of the above", 0..1.
    """
    folder = path_markup(result.out)
    if result.already_done:
        out.print(f"{folder} was finished before: {result.cases} cases, nothing to do")
    else:
        rate = result.cases / result.seconds if result.seconds else 0
        out.print(
            f"[bold]{pluralize(result.cases, 'case')}[/] from {pluralize(result.videos, 'video')} "
            f"in {result.seconds:.1f} s ({rate:.1f} a second): {folder}"
        )
    if result.none_cases:
        out.print(f'the right answer is "none of the above" in {result.none_cases} of them')
    if result.cases >= 20 and result.none_cases < none_share * result.cases / 2:
        out.print(f'too few objects disappear for the requested share of "none of the above", {none_share:g}')
    if result.rejects:
        rejects = result.out / REJECTS if isinstance(result.out, Path) else f"{result.out}/{REJECTS}"
        out.print(f"{pluralize(result.rejects, 'reject')}, with reasons: {path_markup(rejects)}")
        for reason, count in result.common_reasons:
            out.print(f"  {count} x {escape(reason[:_MAX_REASON])}")
    if result.cases and isinstance(result.out, Path):
        print_next_steps(
            (["validate", str(result.out)], "check every file, mask and letter"),
            (["report", str(result.out)], "look at it"),
        )
    elif not result.cases:
        names = suggest_options(result.common_reasons)
        hint = f"; another value of {', '.join(names)} may help" if names else ""
        out.print(f"[yellow]no case came out[/]: the rejects say why{hint}")
