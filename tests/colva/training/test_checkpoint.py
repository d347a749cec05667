from __future__ import annotations

from pathlib import Path

import pytest

from colva.training import checkpoint
from mmvm_data.core.errors import InputError, OutputError
from tests.colva.training import world as worlds


def put(run: Path, step: int) -> Path:
    (checkpoint.begin(run, step) / "weights").write_bytes(b"x" * 100)
    return checkpoint.finish(run, step)


def test_only_finished_checkpoints_are_taken(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    first = put(tmp_path, 2)
    (checkpoint.begin(tmp_path, 4) / "weights").write_bytes(b"x" * 100)
    assert checkpoint.latest(tmp_path) == first
    assert checkpoint.step_of(first) == 2
    second = checkpoint.finish(tmp_path, 4)
    assert checkpoint.latest(tmp_path) == second


@pytest.mark.parametrize("spoil", ["cut", "gone", "no list", "no json"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, spoil: str) -> None:
    first, second = put(tmp_path, 9), put(tmp_path, 10)
    if spoil == "cut":
        (second / "weights").write_bytes(b"x" * 99)
    elif spoil == "gone":
        (second / "weights").unlink()
    elif spoil == "no list":
        (second / checkpoint.FILES).unlink()
    else:
        (second / checkpoint.FILES).write_text('{"weights"')
    assert checkpoint.latest(tmp_path) == first


def test_what_a_killed_run_left_is_cleared_and_old_ones_go(tmp_path: Path) -> None:
    checkpoint.begin(tmp_path, 1)
    for step in (2, 4, 10):
        put(tmp_path, step)
    checkpoint.rotate(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-4"]


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    put(tmp_path, 2)
    (checkpoint.begin(tmp_path, 2) / "other").write_bytes(b"y")
    assert sorted(p.name for p in checkpoint.finish(tmp_path, 2).iterdir()) == [checkpoint.FILES, "other"]


def test_the_final_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    final = tmp_path / "final"
    checkpoint.write_final(final, lambda folder: (folder / "a").write_text("1") and None)

    def broken(folder: Path) -> None:
        (folder / "b").write_text("2")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space"):
        checkpoint.write_final(final, broken)
    assert [path.name for path in tmp_path.iterdir()] == ["final"]
    assert [path.name for path in final.iterdir()] == ["a"]
    checkpoint.write_final(final, lambda folder: (folder / "c").write_text("3") and None)
    assert [path.name for path in final.iterdir()] == ["c"]


def test_a_run_goes_on_only_as_it_was_begun(tmp_path: Path) -> None:
    begun = worlds.config(tmp_path, tmp_path / "run")
    checkpoint.write_config(tmp_path, begun)
    checkpoint.same_run(tmp_path, begun)
    checkpoint.same_run(tmp_path, worlds.config(tmp_path, tmp_path / "moved", run__workers=4, run__log_every=7))
    for name, value in (("seed", 4), ("run__batch", 8), ("optimiser__lr", 1e-3), ("data__held_out", 0.5)):
        with pytest.raises(InputError) as caught:
            checkpoint.same_run(tmp_path, worlds.config(tmp_path, tmp_path / "run", **{name: value}))
        assert name.replace("__", ".") in str(caught.value)
