"""Messages name the flags of the running command where a library error names Python arguments."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from mmvm_data import cli
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.io import console
from mmvm_data.io.flags import message_with_flags
from tests.worlds import davis


def stderr_of(group: click.Command, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        console.run_command(group, "mmvm-data", list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err.strip()


@click.group()
def program() -> None:
    """A program with a nested group."""


@program.group()
def inner() -> None:
    """A group of commands."""


@inner.command()
@click.argument("directory")
@click.option("--none-share", type=float)
@click.option("--out", "-o", "destination")
@click.option("--engine", type=click.Choice(["local", "ray"]))
@click.option("--variants", is_flag=True)
@click.option("--shuffle/--no-shuffle", default=True)
@click.option("--resume", "existing", flag_value="resume")
@click.option("--overwrite", "existing", flag_value="overwrite")
@click.pass_context
def work(context: click.Context, **values: object) -> None:
    """Raise the error that the test has prepared."""
    raise context.obj


def message(error: UsageError) -> str:
    with pytest.raises(UsageError) as caught:
        program.main(["inner", "work", "folder"], standalone_mode=False, obj=error)
    return message_with_flags(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OptionError("none_share", "must be in [0, 1], got 3"), "--none-share must be in [0, 1], got 3"),
        (OptionError("sampling.none_share", "must be in [0, 1], got 3"), "--none-share must be in [0, 1], got 3"),
        (OptionError("destination", "must be a path, got 3"), "--out must be a path, got 3"),
        (OptionError("out", "must be a path, got 3"), "--out must be a path, got 3"),
        (OptionError("variants", "does not go with `none_share`"), "--variants does not go with --none-share"),
        (OptionError("shuffle", "must be True or False, got 3"), "--shuffle must be True or False, got 3"),
        (OptionError("directory", "must be a path, got 3"), "DIRECTORY must be a path, got 3"),
        (OptionError("seed", "must be an integer, got 'a'"), "seed must be an integer, got 'a'"),
        (OptionError("", "none_share must be below other_share"), "--none-share must be below other_share"),
        (OptionError("", "variants and none_share"), "--variants and --none-share"),
        (UsageError("give `variants` or `none_share=0.5`"), "give --variants or --none-share 0.5"),
        (UsageError("`engine='ray'` needs Ray"), "--engine ray needs Ray"),
        (UsageError("`existing='overwrite'` starts again"), "--overwrite starts again"),
        (UsageError("`existing` is set"), "--resume/--overwrite is set"),
        (UsageError("`shuffle=False` keeps the order"), "--no-shuffle keeps the order"),
        (UsageError("`variants=True` makes more"), "--variants makes more"),
        (UsageError("`seed=3` is unknown; `mmvm-data build`"), "`seed=3` is unknown; `mmvm-data build`"),
        (UsageError("none_share in plain text"), "none_share in plain text"),
    ],
)
def test_arguments_become_flags_of_the_running_command(error: UsageError, expected: str) -> None:
    assert message(error) == expected


def test_text_is_unchanged_without_a_command() -> None:
    assert message_with_flags(OptionError("none_share", "must be in [0, 1]")) == "none_share must be in [0, 1]"
    assert message_with_flags(UsageError("give `variants`")) == "give `variants`"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--none-share", "3"], "error: --none-share must be in [0, 1], got 3"),
        (["--quality", "0"], "error: --quality must be in [1, 100], got 0"),
        (["--max-gap", "3", "--min-gap", "4"], "error: --max-gap must be at least --min-gap (4), got 3"),
        (
            ["--variants", "--candidates", "4"],
            "error: --variants keeps 4, 8, 12 and all candidates; it cannot be combined with --candidates",
        ),
        (["--embeddings", "mobilenetv2"], "some are left out; it needs --candidates or --variants"),
    ],
)
def test_build_names_its_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    world = davis(tmp_path / "world", videos=1)
    command = ["build", "--source", "davis", "--root", str(world), "--out", str(tmp_path / "out"), *arguments]
    text = stderr_of(cli.cli, *command, capsys=capsys)
    assert expected in text and len(text.splitlines()) == 1
    assert not (tmp_path / "out").exists()
