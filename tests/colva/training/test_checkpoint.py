from __future__ import annotations

from pathlib import Path

import pytest

from colva.training import checkpoint
from mmvm_data.core.errors import InputError, OutputError
from tests.colva.training import world as worlds


def write_checkpoint(run: Path, step: int) -> Path:
    (checkpoint.create_staging_dir(run, step) / "weights").write_bytes(b"x" * 100)
    return checkpoint.publish(run, step)


def test_only_published_checkpoints_are_found(tmp_path: Path) -> None:
    assert checkpoint.find_latest(tmp_path) is None
    first = write_checkpoint(tmp_path, 2)
    (checkpoint.create_staging_dir(tmp_path, 4) / "weights").write_bytes(b"x" * 100)
    assert checkpoint.find_latest(tmp_path) == first
    assert checkpoint.step_of(first) == 2
    second = checkpoint.publish(tmp_path, 4)
    assert checkpoint.find_latest(tmp_path) == second


@pytest.mark.parametrize("damage", ["cut", "gone", "no list", "no json"])
def test_a_damaged_checkpoint_is_ignored(tmp_path: Path, damage: str) -> None:
    first, second = write_checkpoint(tmp_path, 9), write_checkpoint(tmp_path, 10)
    if damage == "cut":
        (second / "weights").write_bytes(b"x" * 99)
    elif damage == "gone":
        (second / "weights").unlink()
    elif damage == "no list":
        (second / checkpoint.FILES).unlink()
    else:
        (second / checkpoint.FILES).write_text('{"weights"')
    assert checkpoint.find_latest(tmp_path) == first


def test_leftovers_of_a_killed_run_and_old_checkpoints_are_removed(tmp_path: Path) -> None:
    checkpoint.create_staging_dir(tmp_path, 1)
    for step in (2, 4, 10):
        write_checkpoint(tmp_path, step)
    checkpoint.remove_old(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-4"]


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2)
    (checkpoint.create_staging_dir(tmp_path, 2) / "other").write_bytes(b"y")
    assert sorted(p.name for p in checkpoint.publish(tmp_path, 2).iterdir()) == [checkpoint.FILES, "other"]


def test_the_final_folder_is_replaced_atomically(tmp_path: Path) -> None:
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


def test_a_run_resumes_only_with_the_same_configuration(tmp_path: Path) -> None:
    config = worlds.make_config(tmp_path, tmp_path / "run")
    checkpoint.write_run_info(tmp_path, config)
    checkpoint.check_same_config(tmp_path, config)
    checkpoint.check_same_config(
        tmp_path, worlds.make_config(tmp_path, tmp_path / "moved", trainer__num_workers=4, trainer__logging_steps=7)
    )
    for name, value in (
        ("seed", 4),
        ("trainer__global_batch_size", 8),
        ("optimizer__learning_rate", 1e-3),
        ("data__held_out_share", 0.5),
    ):
        with pytest.raises(InputError) as caught:
            checkpoint.check_same_config(tmp_path, worlds.make_config(tmp_path, tmp_path / "run", **{name: value}))
        assert name.replace("__", ".") in str(caught.value)


def test_a_run_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    config = worlds.make_config(tmp_path, tmp_path / "run")
    checkpoint.write_run_info(tmp_path, config)
    (tmp_path / checkpoint.STRATEGY).write_text('{"strategy": "native engine"}')
    with pytest.raises(InputError, match=r"another version of colva.*start a new run in another folder") as caught:
        checkpoint.check_same_config(tmp_path, config)
    assert "\n" not in str(caught.value)
