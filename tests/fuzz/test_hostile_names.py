"""Names in data that a terminal would obey, that look like markup, or that turn the direction of text round."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.progress import Task

from mmvm_data import cli
from mmvm_data.core.errors import escape_unprintable
from mmvm_data.io import console
from mmvm_data.io.console import TextConsole, escape, escape_lines
from tests.colva.evaluation.worlds import folder_of
from tests.fuzz.trial import CONTROL, run_words

NAMES = (
    "\x1b[31mred",
    "\x1b]8;;http://x\x07link",
    "a\x9b2Jb",
    "a\rerror: b",
    "a\nerror: b",
    "\u202eabc\u2066",
    "[bold]x[/]",
    "[/]",
    "[link=http://x]y[/link]",
    "\\[red]",
    "x[",
    ":warning:",
)
COMMANDS = (
    "validate {b}",
    "stats {b}",
    "audit {b} --workers 1",
    "report {b}",
    "diff {other} {b}",
    "filter {b} --where True --out {out}",
    "split {b} --by source --out {out}",
    "export {b} --to sft --out {out}",
    "export {b} --to vlmevalkit --out {out}",
    "cues {b}",
    "rationale {b}",
    "rationale {b} --dry-run --endpoint http://127.0.0.1:9/v1 --model m",
    "browse open {b} --no-app --database-uri x",
)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("names") / "b", 3)


def rename(value: Any, name: str, rng: random.Random) -> Any:
    """A JSON value in which some texts are the name."""
    if isinstance(value, dict):
        return {key: rename(entry, name, rng) for key, entry in value.items()}
    if isinstance(value, list):
        return [rename(entry, name, rng) for entry in value]
    return name if isinstance(value, str) and rng.random() < 0.1 else value


def write_names(folder: Path, name: str, rng: random.Random) -> None:
    """Put a name where data has names: sources, videos, categories, reasons, options, and random other places."""
    lines = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    for number, record in enumerate(lines):
        record["provenance"] |= {"source": name, "video": name}
        record["review"]["by"] = name
        record["candidates"][0]["region"]["category"] = name
        lines[number] = rename(record, name, rng) if number >= len(lines) - 2 else record
    (folder / "cases.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))
    reject = {"source": name, "video": name, "ordinal": -1, "reason": name, "file": name, "field": name}
    (folder / "rejects.jsonl").write_text(json.dumps(reject) + "\n")
    (folder / "build.json").write_text(json.dumps({"request": {name: name}, "counts": {name: 1}}))
    (folder / "match_bench/case_000000" / name.replace("/", "_")).write_text("")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_commands_print_names_as_they_are(benchmark: Path, tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    for number, command in enumerate(COMMANDS):
        folder = tmp_path / str(number)
        shutil.copytree(benchmark, folder / "b")
        write_names(folder / "b", name, rng)
        places = {"b": folder / "b", "other": benchmark, "out": folder / "out"}
        words = [word.format(**places) for word in command.split()]
        _, problem, *_ = run_words("mmvm-data", words)
        assert not problem, f"{command}: {problem}"
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_shown_as_it_is(benchmark: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(benchmark, tmp_path / "b")
    write_names(tmp_path / "b", name, random.Random(0))
    output = CliRunner().invoke(cli.cli, ["stats", str(tmp_path / "b")], env={"COLUMNS": "200"}).output
    # reasons of rejects are counted together whatever numbers they hold
    assert any(escape_unprintable(shown) in output for shown in (name, re.sub(r"\d+", "N", name)))
    assert not CONTROL.search(output)


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[tuple[TextConsole, Path]]:
    with open(tmp_path / "printed", "w", encoding="utf-8") as file:
        yield TextConsole(file=file), tmp_path / "printed"


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_console_escapes_what_a_caller_forgot(name: str, printed: tuple[TextConsole, Path]) -> None:
    terminal, path = printed
    terminal.print(escape(name))
    terminal.print(f"[bold]{escape(name)}[/]")
    terminal.print(name, markup=False)
    terminal.file.flush()
    text = path.read_text(encoding="utf-8")
    assert not CONTROL.search(text)
    assert text == f"{escape_unprintable(name)}\n" * 2 + f"{escape_lines(name)}\n"


def test_a_note_of_a_progress_bar_is_no_markup() -> None:
    task = Task(0, "x", None, 0, _get_time=lambda: 0.0, fields={"note": "\x1b[31m[bold]a"})  # type: ignore[arg-type]
    assert console._Note().render(task).plain == "\\x1b[31m[bold]a"


def test_a_usage_error_repeats_an_argument_without_its_control_characters() -> None:
    code, problem, stderr, *_ = run_words("mmvm-data", ["stats", "\x1b[31m\u202e"])
    assert (code, problem) == (2, "")
    assert "\\x1b[31m\\u202e" in stderr
