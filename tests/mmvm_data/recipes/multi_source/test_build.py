"""``mmvm-data build RECIPE``: splits without shared pictures, equal bytes, resuming, refusals that write nothing."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from mmvm_data.cli import cli
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench, tsv
from mmvm_data.formats.bench_check import validate
from mmvm_data.formats.build_files import read_cases
from mmvm_data.formats.open_benchmark import open_benchmark
from mmvm_data.pipeline.build import build as build_source
from mmvm_data.pipeline.options import BuildOptions, BuildProgress
from mmvm_data.recipes.multi_source.build import build_recipe
from mmvm_data.recipes.multi_source.recipe import Recipe, SourceEntry, read_recipe
from mmvm_data.recipes.multi_source.workspace import workspace_folder
from tests.worlds import davis, tree

SMALL = {"min_area": 50, "min_side": 5, "cases_per_video": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets; two videos of the second have the pictures of videos of the first, recompressed."""
    folder = tmp_path_factory.mktemp("world")
    davis(folder / "a", videos=5, size=(60, 160))
    davis(folder / "b", videos=4, objects=3, size=(60, 160))
    for picture in (folder / "b/JPEGImages").rglob("*.jpg"):
        image = cv2.imread(str(picture))
        cv2.imwrite(str(picture), cv2.resize(image, (320, 120)), [cv2.IMWRITE_JPEG_QUALITY, 60])
    for mask in (folder / "b/Annotations").rglob("*.png"):
        with Image.open(mask) as image:
            image.resize((320, 120), Image.Resampling.NEAREST).save(mask)
    for name in ("JPEGImages", "Annotations"):  # other names than those of the first set
        for video in sorted((folder / f"b/{name}/480p").iterdir(), reverse=True):
            video.rename(video.with_name(video.name.replace("clip", "other")))
    return folder


def write_recipe(world: Path, path: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "sources": [
            {"name": "first", "reader": "davis", "root": str(world / "a"), "quota": 8},
            {"name": "second", "reader": "davis2017", "root": str(world / "b"), "quota": 6},
        ],
        "sampling": SMALL,
        "splits": {"train": 0.6, "test": 0.4},
        "seed": 3,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content | changes))
    return path


def build(path: Path, out: Path, options: BuildOptions | None = None, **hooks: Any) -> Any:
    return build_recipe(read_recipe(path), path.parent, out, options, **hooks)


def average_hash(path: Path) -> NDArray[np.bool_]:
    """A hash of another kind than the audit's: 12 x 12 means against their mean."""
    gray = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert gray is not None
    small = cv2.resize(gray, (12, 12), interpolation=cv2.INTER_AREA)
    return np.asarray(small > small.mean()).ravel()


def near_pictures(splits: list[Path], bits: int = 4) -> list[tuple[str, str]]:
    """Pictures of two splits that differ in few bits of their hashes."""
    hashes = [{str(p): average_hash(p) for p in sorted(split.rglob("*_ORI.*"))} for split in splits]
    found = []
    for k, own in enumerate(hashes):
        for other in hashes[k + 1 :]:
            found += [(a, b) for a, x in own.items() for b, y in other.items() if (x != y).sum() <= bits]
    return found


def test_two_sources_and_splits(world: Path, tmp_path: Path) -> None:
    path = write_recipe(world, tmp_path / "recipe.yaml")
    result = build(path, tmp_path / "one/out")
    out = tmp_path / "one/out"
    assert result.build.cases == 14 and set(result.splits) == {"train", "test"} and all(result.splits.values())
    assert not workspace_folder(out).exists() and not result.shortfalls
    ids, videos, counts = [], defaultdict(set), defaultdict(int)
    for name in ("train", "test"):
        assert not validate(out / name).problems
        assert len(list(tsv.read_rows(out / name / bench.TSV))) == result.splits[name]
        for case in bench.read(out / name):
            assert case.provenance is not None
            ids.append(case.id)
            source = case.provenance.extra["recipe_source"]
            counts[source] += 1
            videos[name].add(case.provenance.video)
            assert case.provenance.source == {"first": "davis", "second": "davis2017"}[source]
        assert len(list(open_benchmark(out / name))) == result.splits[name]
    assert sorted(ids) == [f"case_{k:06d}" for k in range(14)]
    assert dict(counts) == {"first": 8, "second": 6}
    assert not videos["train"] & videos["test"]
    assert not near_pictures([out / "train", out / "test"])
    numbers = {name: {video[-3:] for video in own} for name, own in videos.items()}
    assert not numbers["train"] & numbers["test"], "other000 has the pictures of clip000"
    record = json.loads((out / "build.json").read_text())
    assert record["counts"]["sources"]["first"]["cases"] == 8
    assert record["request"]["recipe"]["sources"][0]["sampling"]["min_area"] == 50
    with pytest.raises(InputError, match=r"holds no benchmark, .*: expected one of the benchmarks in it, test, train"):
        list(read_cases(out))
    card = (out / "README.md").read_text()
    assert "| first | 8 | 8 |" in card and "CC BY 4.0" in card and "| train |" in card
    lines = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert record["counts"]["rejects"] == len(lines)
    assert all(line["recipe_source"] in ("first", "second") for line in lines)


@pytest.mark.slow
def test_equal_bytes_on_two_workers(world: Path, tmp_path: Path) -> None:
    path = write_recipe(world, tmp_path / "recipe.yaml")
    for workers in (1, 2):
        build(path, tmp_path / f"{workers}/out", BuildOptions(workers=workers))
    assert tree(tmp_path / "1/out") == tree(tmp_path / "2/out")


def test_a_stopped_build_continues(world: Path, tmp_path: Path) -> None:
    path = write_recipe(world, tmp_path / "recipe.yaml")
    whole, out = tmp_path / "whole/out", tmp_path / "out"
    build(path, whole)

    def stop_after(videos: int) -> Any:
        def stop(progress: BuildProgress) -> None:
            if progress.videos >= videos:
                raise KeyboardInterrupt

        return stop

    with pytest.raises(KeyboardInterrupt):
        build(path, out, progress=stop_after(2))
    with pytest.raises(UsageError, match="unfinished build"):
        build(path, out)
    other = write_recipe(world, tmp_path / "o.yaml", splits={"train": 0.5, "test": 0.5}, quality=90)
    with pytest.raises(UsageError, match=r"another recipe \(quality\); repeat it, or"):
        build(other, out, BuildOptions(existing="resume"))
    with pytest.raises(UsageError, match=r"another recipe \(seed\)"):
        build(write_recipe(world, tmp_path / "other.yaml", seed=4), out, BuildOptions(existing="resume"))
    with pytest.raises(KeyboardInterrupt):
        build(path, out, BuildOptions(existing="resume"), progress=stop_after(6))
    build(path, out, BuildOptions(existing="resume"))
    assert tree(out) == tree(whole)
    assert build(path, out, BuildOptions(existing="resume")).build.already_done
    with pytest.raises(UsageError, match="finished build"):
        build(path, out)


def test_overwrite_keeps_the_former_result_until_the_new_one_stands(world: Path, tmp_path: Path) -> None:
    path, out = write_recipe(world, tmp_path / "recipe.yaml"), tmp_path / "out"
    build(path, out)
    former = tree(out)
    changed = write_recipe(world, tmp_path / "other.yaml", seed=5)

    def stop(progress: BuildProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(changed, out, BuildOptions(existing="overwrite"), progress=stop)
    assert tree(out) == former
    build(changed, out, BuildOptions(existing="resume"))
    build(changed, tmp_path / "fresh/out")
    assert tree(out) == tree(tmp_path / "fresh/out") != former
    (out / "train/report.html").write_text("a page of what is there")
    build(path, out, BuildOptions(existing="overwrite"))
    assert tree(out) == former
    for folder in (out, out / "train"):
        for existing in ("refuse", "resume", "overwrite"):
            with pytest.raises(UsageError, match="holds the result of a recipe; choose another `out`"):
                build_source("davis", world / "a", folder, BuildOptions(existing=existing))  # type: ignore[arg-type]
    assert tree(out) == former
    (out / "train/annotation").mkdir()
    with pytest.raises(UsageError, match="train/annotation"):
        build(path, out, BuildOptions(existing="overwrite"))


def test_changed_sources_are_noticed(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "w")
    path = write_recipe(tmp_path / "w", tmp_path / "recipe.yaml")

    def stop(progress: BuildProgress) -> None:
        if progress.videos == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(path, tmp_path / "out", progress=stop)
    for picture in (tmp_path / "w/a/JPEGImages").rglob("*.jpg"):
        picture.touch()
    with pytest.raises(UsageError, match="has changed since"):
        build(path, tmp_path / "out", BuildOptions(existing="resume"))
    build(path, tmp_path / "out", BuildOptions(existing="resume", accept_changes=True))
    build(path, tmp_path / "fresh/out")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh/out")
    shutil.rmtree(tmp_path / "w/b")
    with pytest.raises(UsageError, match=r"source 'second' of the recipe: .*/b: cannot be read"):
        build(path, tmp_path / "third/out")
    assert not (tmp_path / "third").exists()


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "reader": "davis", "root": "a", "quota": 2} | changes


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "quota above the source": (
        {"sources": [entry(quota=99)]},
        r"99 cases are wanted, 15 can be had at most \(videos: 5",
    ),
    "shares of quotas": ({"sources": [entry(quota=0.5)], "total": 4}, "must sum to 1, got 0.5"),
    "shares of splits": ({"splits": {"train": 0.5, "test": 0.4}}, "splits must have shares that sum to 1, got 0.9"),
    "one root twice": ({"sources": [entry(), entry(name="b")]}, r"sources.1.root: is that of source 'a' too"),
    "one name twice": ({"sources": [entry(), entry(root="b")]}, "sources.1.name must differ"),
    "missing root": ({"sources": [entry(root="none")]}, "source 'a' of the recipe: .*none: cannot be read"),
    "many splits": ({"splits": {str(k): 0.125 for k in range(8)}}, "have 5 videos, fewer than the 8 splits"),
    "unknown reader": (
        {"sources": [entry(reader="daviss")]},
        "yaml: sources.0.reader must be .*mean 'davis'",
    ),
    "unknown key": ({"sources": [entry(quotta=1)]}, "sources.0.quotta is an unknown option; did you mean 'quota'"),
    "unknown sampling": ({"sampling": {"min_aera": 1}}, "sampling.min_aera: is an unknown option; did you mean"),
    "value of sampling": (
        {"sources": [entry(sampling={"none_share": 3})]},
        r"sources.0.sampling.none_share: must be in \[0, 1\], got 3",
    ),
    "seed of a source": ({"sources": [entry(sampling={"seed": 3})]}, "sampling.seed: is the recipe's `seed`"),
    "total and counts": ({"total": 5}, "total must be the sum of the quotas, 2, got 5"),
    "total above all": (
        {"sources": [entry(quota=None)], "total": 99},
        "99 cases are wanted, .* 15 at most",
    ),
    "one quota missing": ({"sources": [entry(), entry(name="b", root="b", quota=None)]}, "sources.1.quota is missing"),
    "name of a split": ({"splits": {"../x": 1.0}}, "names for folders"),
    "no source": ({"sources": []}, "sources must have at least 1 item"),
    "quota of a text": ({"sources": [entry(quota="50%")]}, "sources.0.quota must be a number of cases, .*, got '50%'"),
    "quota below 1": ({"sources": [entry(quota=-3)]}, "sources.0.quota must be a number of cases, .*, got -3"),
    "target of a word": ({"balance": {"none": 0, "difficulty": "equals"}}, "balance.difficulty must be 'equal', or"),
    "shares of a target": (
        {"balance": {"difficulty": {"easy": 0.5}}},
        "balance.difficulty must have shares that sum to 1, got 0.5",
    ),
    "sources as a mapping": ({"sources": {"a": entry()}}, "sources must be a list, got"),
    "value of sampling for all": (
        {"sampling": {"none_share": 3}},
        r"yaml: sampling.none_share: must be in \[0, 1\], got",
    ),
    "share below a case": (
        {"sources": [entry(quota=0.95), entry(name="b", root="b", quota=0.05)], "total": 5},
        "source 'b' of the recipe: its share of the total is less than one case",
    ),
    "share of none": (
        {
            "sources": [entry(quota=None), entry(name="b", root="b", quota=None)],
            "balance": {"source": {"a": 1.0, "b": 0.0}},
        },
        "source 'b' of the recipe: its share of the total is less than one case",
    ),
    "fewer cases than splits": (
        {"splits": {"x": 0.4, "y": 0.3, "z": 0.3}},
        "splits: 2 cases are wanted, fewer than the 3 splits",
    ),
    "empty root": ({"sources": [entry(root="")]}, "sources.0.root must not be empty$"),
    "long name": ({"sources": [entry(name="x" * 101)]}, "sources.0.name must have at most 100 characters, got 101"),
    "reader auto": (
        {"sources": [entry(reader="auto")]},
        "sources.0.reader must be .*`mmvm-data sources --root a` says",
    ),
    "split named as a file": (
        {"splits": {"Build.json": 1.0}},
        "splits must not have a folder 'Build.json' beside 'build",
    ),
    "splits of one name": (
        {"splits": {"Test": 0.5, "test": 0.5}},
        "splits must not have a folder 'test' beside 'Test'",
    ),
    "overlap": ({"review": {"overlap": 3, "annotators": ["ann"]}}, "review.overlap must be at most 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_recipes_are_one_line_and_write_nothing(name: str, world: Path, tmp_path: Path) -> None:
    changes, message = BAD[name]
    content = {"sources": [entry()], "sampling": SMALL} | changes
    path = world / f"bad-{name.replace(' ', '-')}.yaml"
    path.write_text(yaml.safe_dump(content))
    try:
        with pytest.raises((InputError, UsageError), match=message) as caught:
            build(path, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())
    finally:
        path.unlink()


def test_a_model_that_cannot_be_opened_is_refused_before_any_source_is_built(world: Path, tmp_path: Path) -> None:
    sources = [
        entry(root=str(world / "a")),
        entry(name="b", root=str(world / "b"), sampling={"embeddings": "nope", "candidates": 4}),
    ]
    path = write_recipe(world, tmp_path / "recipe.yaml", sources=sources, splits=None)

    def refuse(model: str) -> Any:
        raise UsageError(f"{model}: no such model")

    options = BuildOptions(ranker_factory=refuse)
    with pytest.raises(UsageError, match=r"^source 'b' of the recipe: sampling\.embeddings: nope: no such model$"):
        build(path, tmp_path / "out", options, progress=lambda now: pytest.fail("a video was built"))
    assert not workspace_folder(tmp_path / "out").exists()


def test_recipes_made_in_python_are_refused_too(world: Path, tmp_path: Path) -> None:
    roots = {"x": "a", "y": str(world / "b/../a")}
    made = [SourceEntry(name=name, reader="davis", root=root) for name, root in roots.items()]
    with pytest.raises(OptionError, match=r"^sources.1.root is that of source 'x' too: .*/b/../a$"):
        build_recipe(Recipe(sources=tuple(made)), world, tmp_path / "out")
    for reader in ("daviss", "auto"):
        with pytest.raises(OptionError, match=rf"^sources.0.reader must be one of .*, got '{reader}'; "):
            Recipe(sources=(SourceEntry(name="a", reader=reader, root="a"),))
    with pytest.raises(OptionError, match=r"^quota must be a number of cases, such as 500, or .*, got '50%'$"):
        SourceEntry(name="a", reader="davis", root="a", quota="50%")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"^sources.0.sampling.min_aera is an unknown option"):
        build_recipe(
            Recipe(sources=(SourceEntry(name="a", reader="davis", root="a", sampling={"min_aera": 1}),)),
            world,
            tmp_path / "out",
        )
    assert not list(tmp_path.iterdir())


def test_fewer_groups_than_splits(world: Path, tmp_path: Path) -> None:
    twins = tmp_path / "twins"
    for kind in ("JPEGImages", "Annotations"):
        for k in range(3):
            shutil.copytree(world / f"a/{kind}/480p/clip000", twins / f"{kind}/480p/v{k}")
    sources = [{"name": "t", "reader": "davis", "root": "twins"}]
    path = write_recipe(world, tmp_path / "recipe.yaml", sources=sources)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="stay together: 1 group, fewer than the 2 splits"):
        build(path, tmp_path / "out", progress=lambda now: pytest.fail("a video was built"))
    dry = CliRunner().invoke(cli, ["build", str(path), "--dry-run"])
    assert isinstance(dry.exception, UsageError) and "1 group, fewer than the 2 splits" in str(dry.exception)
    assert tree(tmp_path) == before


def test_splits_may_change_where_too_few_groups_have_cases(world: Path, tmp_path: Path) -> None:
    davis(tmp_path / "mixed", videos=2, size=(60, 160))
    for mask in (tmp_path / "mixed/Annotations/480p/clip001").iterdir():
        mask.write_bytes((world / "a/Annotations/480p/clip001" / mask.name).read_bytes())
        labels = np.asarray(Image.open(mask)).copy()
        labels[labels > 1] = 0  # one object makes no case
        Image.fromarray(labels).save(mask)
    sources = [{"name": "t", "reader": "davis", "root": "mixed"}]
    path, out = write_recipe(world, tmp_path / "recipe.yaml", sources=sources), tmp_path / "out"
    with pytest.raises(UsageError, match=r"which leaves cases for 1 of the 2 splits; .*`existing='resume'` continues"):
        build(path, out)
    assert not out.exists()
    write_recipe(world, path, sources=sources, splits={"all": 1.0})
    built: list[int] = []
    build(path, out, BuildOptions(existing="resume"), progress=lambda now: built.append(now.videos))
    build(path, tmp_path / "fresh/out")
    assert not built and tree(out) == tree(tmp_path / "fresh/out")


def test_the_command(world: Path, tmp_path: Path) -> None:
    path = write_recipe(world, tmp_path / "recipe.yaml")
    before = sorted(tmp_path.iterdir())
    run = CliRunner().invoke
    dry = run(cli, ["build", str(path), "--dry-run"])
    assert dry.exit_code == 0 and "about 14 cases expected" in dry.output, dry.output
    assert sorted(tmp_path.iterdir()) == before
    both = run(cli, ["build", str(path), "--out", str(tmp_path / "out"), "--seed", "4"])
    assert isinstance(both.exception, UsageError) and "--seed must not be used with a recipe" in str(both.exception)
    assert run(cli, ["build", "--source", "davis", "--out", "x"]).exit_code == 2
    done = run(cli, ["build", str(path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0 and "14 cases" in done.output and "train: " in done.output, done.output


def test_a_source_that_gives_less_is_counted_in_the_card(world: Path, tmp_path: Path) -> None:
    sources = [entry(root=str(world / "a"), quota=45)]
    path = write_recipe(
        world, tmp_path / "r.json", sources=sources, splits=None, sampling=SMALL | {"min_gap": 5, "cases_per_video": 9}
    )
    path.write_text(json.dumps(yaml.safe_load(path.read_text())))
    result = build(path, tmp_path / "out")
    assert 0 < result.build.cases < 45
    assert result.shortfalls == (f"source 'a' gives {result.build.cases} cases of 45 wanted",)
    assert result.shortfalls[0] in (tmp_path / "out/README.md").read_text()
    assert not validate(tmp_path / "out").problems
    options = replace(BuildOptions(), existing="overwrite")
    assert build(path, tmp_path / "out", options).build.cases == result.build.cases


def test_targets_and_resist(world: Path, tmp_path: Path) -> None:
    changes = {"resist": {"pool_factor": 2}, "balance": {"answer": "equal"}, "splits": None}
    result = build(write_recipe(world, tmp_path / "recipe.yaml", **changes), tmp_path / "out")
    record = json.loads((tmp_path / "out/build.json").read_text())
    counts = record["counts"]["sources"]
    assert result.build.cases == 14 and counts["first"]["cases"] == 8 and counts["second"]["cases"] == 6
    assert counts["first"]["pool_cases"] == 16
    assert record["selection"]["pool_cases"] == 28 and record["selection"]["baselines"]
    assert record["shortfalls"] == list(result.shortfalls)
    assert not validate(tmp_path / "out").problems


@pytest.mark.parametrize("chooses", [{"balance": {"answer": "equal", "none": 0.2}}, {"resist": {"pool_factor": 2}}])
def test_the_order_of_the_sources_decides_nothing_but_ids(chooses: Any, world: Path, tmp_path: Path) -> None:
    sources = [entry(name=name, root=str(world / name), quota=quota) for name, quota in (("a", 5), ("b", 4))]
    found = []
    for number, ordered in enumerate((sources, sources[::-1])):
        path = write_recipe(world, tmp_path / f"{number}.yaml", sources=ordered, **chooses)
        build(path, tmp_path / f"{number}/out")
        cases = [(name, case) for name in ("train", "test") for case in bench.read(tmp_path / f"{number}/out" / name)]
        found.append({(name, str(case.provenance), tuple(map(str, case.candidates))) for name, case in cases})
    assert found[0] == found[1] and len(found[0]) == 9


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_proposed_match_types_are_balanced(world: Path, tmp_path: Path, workers: int) -> None:
    changes = {"balance": {"match_types": "equal", "pool_factor": 2}, "splits": None}
    path = write_recipe(world, tmp_path / "recipe.yaml", **changes)
    seen: list[int] = []
    build(path, tmp_path / "out", BuildOptions(workers=workers), choosing=seen.append)
    record = json.loads((tmp_path / "out/build.json").read_text())
    assert record["counts"]["cases"] == 14 and record["counts"]["sources"]["first"]["pool_cases"] == 16
    assert seen[0] == 16 and 28 in seen
    for case in bench.read(tmp_path / "out"):
        assert not case.match_types  # proposals are for people to decide
