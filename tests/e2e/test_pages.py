"""The commands and the Python code of the documentation run, on small generated data."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from colva.cli import main as colva
from mmvm_data import cli
from mmvm_data.formats import bench
from mmvm_data.synth import SynthOptions, generate
from tests.checkpoints import published_folders
from tests.mmvm_data.builders.test_tracks import write_tracks
from tests.sets.tracker_sets import lasot
from tests.worlds import davis

ROOT = Path(__file__).resolve().parents[2]
IN_ORDER = ("train",)  # its commands depend on each other: test_train_page.py runs them in order
MENTIONS = ("install",)  # names commands in a table, without their arguments
OF_COMMANDS = sorted((ROOT / "docs/commands").glob("*-*.md"))
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.stem not in IN_ORDER),
    *OF_COMMANDS,
]
OF_MODELS = [ROOT / "docs/convert.md", ROOT / "docs/commands/colva-convert.md", ROOT / "docs/commands/colva-merge.md"]
SERVED = ("review", "browse", "ingest")
FROM_PACKAGES = "init-small"  # needs weights that may not be installed; test_init_small.py runs it
MODELS = ("openai:", "hf:")  # of colva eval: what these do is tested with servers and models of their own
ELSEWHERE = {"--endpoint", "--model", "--push", "--ray-address"}
SMALL = {"--videos": "2", "--workers": "1", "--n": "2"}


def read_commands(page: Path, program: str) -> list[list[str]]:
    """Return the arguments of each command of a page, in order, those between single back quotes last."""
    if page.stem in MENTIONS:
        return []
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.S | re.M))
    lines = re.findall(rf"^{program} .*", blocks, re.M) + re.findall(rf"`({program} [^`]*)`", text)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def runnable_commands(page: Path) -> list[list[str]]:
    """Return the arguments of each complete command of a page: inputs first, small numbers where they cost time."""
    argument_lists = read_commands(page, "mmvm-data")
    for words in argument_lists:
        for option, value in SMALL.items():
            if option in words:
                words[words.index(option) + 1] = value
    first = {"synth": 0, "build": 1}
    return sorted(
        (w for w in argument_lists if len(w) > 1 or w == ["sources"]), key=lambda words: first.get(words[0], 2)
    )


WITH_COMMANDS = [page for page in PAGES if read_commands(page, "mmvm-data") or read_commands(page, "colva")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with the sources that the pages name, and a benchmark."""
    davis(tmp_path / "DAVIS", videos=2)
    generate(tmp_path / "YouTube-VOS", SynthOptions(videos=2, frames=6, width=320, height=180))
    lasot(tmp_path / "LaSOT")
    for name in ("person-0", "person-1"):
        (tmp_path / "masks" / name).mkdir(parents=True)
    write_tracks(tmp_path / "clips")
    recipe, targets = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "docs/recipes.md").read_text(encoding="utf-8"), re.S | re.M
    )
    (tmp_path / "recipe.yaml").write_text(recipe + targets)
    (tmp_path / "sam2.1-hiera-small").mkdir()
    (tmp_path / "answers.jsonl").touch()  # of models, which no command here makes
    (tmp_path / "audit.json").touch()  # of `audit --json`
    monkeypatch.chdir(tmp_path)
    build_benchmark("YouTube-VOS", "ytvos")
    for name in ("davis", "mot17"):  # benchmarks to merge
        shutil.copytree("bench", name)
    return tmp_path


def build_benchmark(root: str, source: str) -> None:
    run_command(["build", "--source", source, "--root", root, "--out", "bench"])


def run_command(words: list[str]) -> None:
    result = CliRunner().invoke(cli.cli, words)
    accepted = (0, 3) if words[0] == "build" else (0,)  # 3: no case came out of the tiny inputs
    assert result.exit_code in accepted, (words, result.output, result.exception)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_commands_of_the_pages_run(page: Path, place: Path) -> None:
    argument_lists = runnable_commands(page)
    if any(words[0] == "build" for words in argument_lists):
        shutil.rmtree("bench")
    for words in argument_lists:
        if words[0] in SERVED or ELSEWHERE & set(words) or any("://" in word for word in words):
            check_usage(words)  # what they do is tested with servers of their own
        else:
            run_command(words)


OF_COLVA = [page for page in PAGES if read_commands(page, "colva") and page not in OF_MODELS]


@pytest.mark.parametrize("page", OF_COLVA, ids=lambda page: page.stem)
def test_colva_commands_of_the_pages_run(page: Path, place: Path) -> None:
    for words in runnable_commands(page):
        if words[0] == "build" and not Path(words[words.index("--out") + 1]).exists():
            run_command(words)
    if any(words[0] == "convert" for words in read_commands(page, "colva")):
        published_folders(place)
    for words in (words for words in read_commands(page, "colva") if len(words) > 1):
        if any(word.startswith(MODELS) for word in words) or "MODEL" in words or words[0] in ("train", FROM_PACKAGES):
            if "--image" not in words:  # files of the reader's own
                check_usage(words, colva)
        else:
            result = CliRunner().invoke(colva, words)
            assert result.exit_code == 0, (words, result.output, result.exception)


def test_command_pages_are_up_to_date() -> None:
    """Written by docs/reference.py: every command, with an example and every option, each with its meaning."""
    done = subprocess.run([sys.executable, ROOT / "docs/reference.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for program, group in (("mmvm-data", cli.cli), ("colva", colva)):
        for name, command in group.load_commands().items():
            page = ROOT / f"docs/commands/{program}-{name}.md"
            text = page.read_text(encoding="utf-8")
            assert read_commands(page, program)
            on_page = set(re.findall(r"--[a-z][a-z0-9-]*", text))
            for option in visible_options(command):
                assert option.help, (page.stem, option.opts)
                assert on_page.issuperset(name for name in option.opts if name.startswith("--"))


def check_usage(words: list[str], program: click.Group = cli.cli) -> None:
    """Check that the command exists and has these options; nothing is run."""
    context = program.make_context("mmvm-data", list(words))
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", OF_MODELS, ids=lambda page: page.stem)
def test_commands_about_models_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On toys under the names that the page has; then its Python."""
    monkeypatch.chdir(tmp_path)
    published_folders(tmp_path)
    argument_lists = [words for words in read_commands(page, "colva") if len(words) > 1]
    assert argument_lists
    for words in argument_lists:
        if words[0] == FROM_PACKAGES:
            check_usage(words, colva)
            continue
        result = CliRunner().invoke(colva, words)
        assert result.exit_code == 0, (words, result.output, result.exception)
    for piece in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        exec(compile(piece, str(page), "exec"), {})


def test_python_of_the_chat_page_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert CliRunner().invoke(colva, ["init-tiny", "toy"]).exit_code == 0
    (piece,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/chat.md").read_text(encoding="utf-8"), re.S | re.M)
    exec(compile(piece, "chat.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == len(list(bench.read(place / "bench")))


def test_python_of_the_pages_runs(place: Path) -> None:
    run_command(["export", "bench", "--to", "sft", "--out", "train"])
    run_command(["export", "bench", "--to", "hub", "--out", "hub"])
    run_command(["export", "bench", "--to", "webdataset", "--out", "stream"])
    text = "".join((ROOT / f"docs/{page}.md").read_text() for page in ("researcher", "sharing"))
    pieces = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    assert pieces
    for piece in pieces:
        done = subprocess.run(
            [sys.executable, "-c", f"{piece}\nprint(len(list(records)))"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.splitlines()[-1]) == len(list(bench.read(Path("bench"))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_options_in_the_pages_exist(page: Path) -> None:
    known = {"--help", *option_names(cli.cli), *option_names(colva)}
    # commands of other programs, on a line of their own or in backquotes
    ours = re.sub(r"^(pip|lighteval) .*|`(lighteval )?accelerate [^`]*`", "", page.read_text("utf-8"), flags=re.M)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", ours)) <= known


def subcommands(command: click.Command) -> list[click.Command]:
    """The commands of a group; none of another command."""
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command)
    return [sub for name in command.list_commands(context) if (sub := command.get_command(context, name))]


def visible_options(command: click.Command) -> list[click.Option]:
    """Return the options of a command and its sub-commands, without --help and hidden ones."""
    own = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    return [*own, *(o for sub in subcommands(command) for o in visible_options(sub))]


def option_names(command: click.Command) -> list[str]:
    """Return the flags of a command and its sub-commands."""
    return [
        *(o for p in command.params for o in p.opts),
        *(o for sub in subcommands(command) for o in option_names(sub)),
    ]
