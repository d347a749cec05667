"""The command ``mmvm-data build``: parses and calls, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mmvm_data.builders import SOURCES
from mmvm_data.builders.detect import choose_source
from mmvm_data.builders.source import AUTO
from mmvm_data.cases.sampling_options import CASES_PER_VIDEO, STILL_MIN_CONTRAST, STILL_MIN_SHARE, SamplingOptions
from mmvm_data.io.console import err, escape
from mmvm_data.io.param_types import EXISTING_FOLDER, count_processes
from mmvm_data.io.remote import path_or_url
from mmvm_data.pipeline.build import build
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.recipes.build_output import OutputOptions, exit_by_result, finish_output, show_progress
from mmvm_data.recipes.multi_source.commands import find_index, print_plan, require_out, run_recipe
from mmvm_data.recipes.multi_source.single_source import plan_source, save_recipe
from mmvm_data.recipes.resistant_build import build_resistant

_DEFAULTS = SamplingOptions()


@click.command(
    "build",
    short_help="Make a benchmark from sources.",
    epilog=(
        "\b\nExamples:\n  mmvm-data build --source davis --root DAVIS --out bench --workers 2\n"
        "  mmvm-data build recipe.yaml --out mixed"
    ),
)
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@click.option(
    "--source",
    help="Name of the source, see `mmvm-data sources`; auto: the one whose layout the root has.  "
    "[required without RECIPE]",
)
@click.option(
    "--root",
    type=path_or_url,
    help="The source's folder (or file), or a URL such as s3://…  [required without RECIPE]",
)
@click.option("--out", "destination", type=path_or_url, help="Folder for the result, or a URL.  [required]")
@click.option("--seed", default=_DEFAULTS.seed, show_default=True, help="Seed of the sample.")
@click.option("--max-cases", type=int, help="Stop after this number of cases.  [default: all]")
@click.option(
    "--cases-per-video",
    type=int,
    help=f"Cases a video, at most.  [default: {CASES_PER_VIDEO}; 1 for still images]",
)
@click.option(
    "--candidates",
    type=click.Choice(["4", "8", "12", "all"]),
    default="all",
    show_default=True,
    help="Number of candidates to keep, the hardest ones.",
)
@click.option(
    "--embeddings",
    metavar="EXPERT",
    help="Rank candidates by features of a vision model too: mobilenetv2, or a folder or file of weights; with "
    "--candidates or --variants. Needs the extra train.",
)
@click.option(
    "--min-candidates",
    default=_DEFAULTS.min_candidates,
    show_default=True,
    help="Candidates a case, at least; 1 for sets with one object a video.",
)
@click.option(
    "--none-share",
    default=_DEFAULTS.none_share,
    show_default=True,
    help='Share of cases with the answer "none of the above", where something disappears.',
)
@click.option(
    "--gone",
    type=click.Choice(["absent", "left"]),
    default=_DEFAULTS.gone,
    show_default=True,
    help='For "none of the above": absent from the second image, or last seen at the edge of the image.',
)
@click.option(
    "--reappear-share",
    default=_DEFAULTS.reappear_share,
    show_default=True,
    help="Share of cases whose query was absent in between, where something reappears.",
)
@click.option(
    "--moved-share",
    default=_DEFAULTS.moved_share,
    show_default=True,
    help="Share of cases in which another candidate is nearer to the query's place than the query itself.",
)
@click.option("--variants", is_flag=True, help="Each case with 4, 8, 12 and all candidates; they share an id.")
@click.option(
    "--min-gap", default=_DEFAULTS.min_gap, show_default=True, help="Smallest distance of the images, in frames."
)
@click.option("--max-gap", default=_DEFAULTS.max_gap, show_default=True, help="Largest distance, in frames; 0: any.")
@click.option(
    "--min-seconds", default=_DEFAULTS.min_seconds, show_default=True, help="Shortest time between the images; 0: any."
)
@click.option("--frame-rate", type=float, help="Frames a second, where the source does not say it.")
@click.option("--min-area", default=_DEFAULTS.min_area, show_default=True, help="Smallest area of an object, pixels.")
@click.option("--min-side", default=_DEFAULTS.min_side, show_default=True, help="Shortest side of its box, pixels.")
@click.option(
    "--max-occlusion",
    default=_DEFAULTS.max_occlusion,
    show_default=True,
    help="Largest occluded share.",
)
@click.option(
    "--min-sharpness",
    default=_DEFAULTS.min_sharpness,
    show_default=True,
    help="Variance of the Laplacian around the query; 0: any.",
)
@click.option(
    "--min-share",
    type=float,
    help=f"Share of the image that the query covers.  [default: 0; {STILL_MIN_SHARE} for still images]",
)
@click.option(
    "--min-contrast",
    type=float,
    help=f"Color difference across the query's outline.  [default: 0; {STILL_MIN_CONTRAST:g} for still images]",
)
@click.option(
    "--look-alikes",
    type=click.Choice(["prefer", "require", "any"]),
    default=_DEFAULTS.look_alikes,
    show_default=True,
    help="Queries that have another object of their category among the candidates.",
)
@click.option(
    "--resist",
    is_flag=True,
    help="Build more cases than are wanted, and keep those that blind baselines answer no better than chance.",
)
@click.option("--pool-factor", default=3, show_default=True, help="With --resist: cases that are built for one kept.")
@click.option(
    "--proposals",
    type=EXISTING_FOLDER,
    help="Masks <video>/<frame>.png: candidates for sets that follow one object a video.",
)
@click.option("--quality", default=95, show_default=True, help="JPEG quality of drawn images.")
@click.option("--workers", default=1, show_default=True, help="Number of processes; 0: one for each core.")
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Where workers run."
)
@click.option("--ray-address", help="Ray cluster, such as auto or host:6379.  [default: start one on this machine]")
@click.option("--resume", "existing", flag_value="resume", help="Continue an unfinished build.")
@click.option("--accept-changes", is_flag=True, help="With --resume: build the videos again whose files have changed.")
@click.option(
    "--overwrite",
    "existing",
    flag_value="overwrite",
    help="Build again, and then delete the earlier build in --out.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 when some inputs were rejected.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary and the card as JSON.")
@click.option("--quiet", is_flag=True, help="Print errors only; with --json, that too.")
@click.option("--dry-run", is_flag=True, help="Print what would come; write nothing.")
@click.option(
    "--save-recipe", type=click.Path(path_type=Path), metavar="FILE", help="Also write a recipe with the same cases."
)
@click.pass_context
def build_command(context: click.Context, /, recipe: Path | None, **values: Any) -> None:
    """Make a benchmark: case folders, the tsv, cases.jsonl, rejects.jsonl, build.json.

    RECIPE is a file that names several sources, their quotas, and splits; it says everything that decides the cases.

    Exit code: 0 when cases were built, 1 when inputs were rejected and --strict was given, 2 for wrong usage or an
    unreadable source, 3 when no case came out.
    """
    if recipe is not None:
        run_recipe(context, recipe, values)
        return
    for name in ("source", "root"):
        if values[name] is None:
            raise click.UsageError(f"Missing option '--{name}'; or name a recipe.", context)
    options = _build_options(values)
    if values["source"] == AUTO:
        values["source"] = choose_source(AUTO, values["root"])
        if not values["quiet"]:
            err.print(f"source: [bold]{values['source']}[/]  {escape(SOURCES[values['source']].title)}")
    pool_factor = values["pool_factor"] if values["resist"] else None
    request = (values["source"], values["root"], values["destination"], options)
    if values["dry_run"]:
        if values["save_recipe"]:
            raise click.UsageError("--save-recipe must not be used with --dry-run, which writes nothing.", context)
        plan = plan_source(values["source"], values["root"], options, pool_factor, find_index(values))
        print_plan(plan, values["as_json"])
        return
    require_out(context, values)
    if values["save_recipe"]:
        plan = plan_source(values["source"], values["root"], options, pool_factor, find_index(values))
        save_recipe(values["save_recipe"], plan, options, is_replaced=options.existing == "overwrite")
    output = OutputOptions(as_json=values["as_json"], is_quiet=values["quiet"])
    with show_progress(values["destination"], output.is_quiet) as (update, choosing):
        if pool_factor is not None:
            result, selection = build_resistant(*request, pool_factor, update, choosing)
        else:
            result, selection = build(*request, update), None
    finish_output(result, output, options.sampling.none_share, selection=selection)
    exit_by_result(result, values["strict"])


def _build_options(values: dict[str, Any]) -> BuildOptions:
    sampling = SamplingOptions(
        seed=values["seed"],
        cases_per_video=values["cases_per_video"],
        min_gap=values["min_gap"],
        max_gap=values["max_gap"] or None,
        min_seconds=values["min_seconds"],
        frame_rate=values["frame_rate"],
        min_area=values["min_area"],
        min_side=values["min_side"],
        max_occlusion=values["max_occlusion"],
        min_sharpness=values["min_sharpness"],
        min_share=values["min_share"],
        min_contrast=values["min_contrast"],
        none_share=values["none_share"],
        gone=values["gone"],
        reappear_share=values["reappear_share"],
        moved_share=values["moved_share"],
        variants=values["variants"],
        candidates=None if values["candidates"] == "all" else int(values["candidates"]),
        min_candidates=values["min_candidates"],
        look_alikes=values["look_alikes"],
        embeddings=values["embeddings"],
    )
    return BuildOptions(
        sampling=sampling,
        max_cases=values["max_cases"],
        workers=count_processes(values["workers"]),
        existing=values["existing"] or "refuse",
        accept_changes=values["accept_changes"],
        quality=values["quality"],
        proposals=values["proposals"],
        engine=values["engine"],
        ray_address=values["ray_address"],
    )
