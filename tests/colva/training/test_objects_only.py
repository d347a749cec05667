"""The first steps of stage 2 that ask about object tokens alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from colva.checkpoints.read import open_checkpoint
from colva.training import stage2
from colva.training.stage import Stage
from mmvm_data.core.errors import UsageError
from tests.colva.training import stage2_world as world


@pytest.mark.parametrize("options", [{"packing": False}, {"packing": True}, {"use_object_cache": False}])
def test_first_steps_ask_about_objects_alone(
    tmp_path: Path, tiny: Path, sources: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    def read_samples(name: str, steps: int) -> tuple[Stage, list[list[Any]]]:
        data = {"max_length": 700, "vary_prompts": False, "held_out_share": 0.2, "objects_only_steps": steps} | options
        config = world.make_config(
            tiny, tmp_path / name, sources[:1], data=data, trainer={"global_batch_size": 2, "max_steps": 4}
        )
        stage = world.prepare_stage(config)
        return stage, [list(row) for row in world.read_rows(stage)]

    (stage, rows), (_, whole_rows) = read_samples("a", 1), read_samples("b", 0)
    assert [[sample.name for sample in row] for row in rows] == [[sample.name for sample in row] for row in whole_rows]
    tokenizer = open_checkpoint(tiny).tokenizer
    for number, (row, whole_row) in enumerate(zip(rows, whole_rows, strict=True)):
        for sample, whole in zip(row, whole_row, strict=True):
            # the answer, and then the reason of a whole question
            answer, whole_answer = (item.labels[item.labels >= 0].tolist() for item in (sample, whole))
            assert answer == whole_answer[: len(answer)]
            if number >= 2:
                assert torch.equal(sample.input_ids, whole.input_ids)
                continue
            text = tokenizer.decode(sample.input_ids)
            assert not sample.pixel_values and len(sample) < len(whole) and "\nImage-2:" not in text
            assert text.index("<query object>") < text.index("<object-1>") < text.index("A. 1")
            names = "object_embeddings" if sample.object_embeddings is not None else "object_cells"
            found, expected = (torch.cat(list(map(torch.atleast_2d, getattr(k, names)))) for k in (sample, whole))
            torch.testing.assert_close(found, expected)
    assert stage.held_out is not None
    assert all(sample.pixel_values for sample in stage.held_out[0].value)
    batch = stage.collate(rows[:2])
    assert "pixel_values" not in batch and world.compute_loss(stage, batch) > 0


@pytest.mark.parametrize("options", [{}, {"use_object_cache": False}])
def test_the_query_of_a_share_of_them_is_one_of_the_candidates(
    tmp_path: Path, tiny: Path, sources: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    def read_samples(name: str, share: float) -> list[Any]:
        steps = {"objects_only_steps": 1, "copy_share": share}
        config = world.make_config(
            tiny,
            tmp_path / name,
            sources[:1],
            data={"max_length": 700, "vary_prompts": False, "packing": False} | steps | options,
            trainer={"global_batch_size": 6, "max_steps": 2},
        )
        return [row[0] for row in world.read_rows(world.prepare_stage(config))]

    def read_objects(sample: Any) -> torch.Tensor:
        objects = sample.object_cells if sample.object_embeddings is None else sample.object_embeddings
        return torch.cat(list(map(torch.atleast_2d, objects)))

    tokenizer = open_checkpoint(tiny).tokenizer
    copied, plain = read_samples("a", 1.0), read_samples("b", 0.0)
    letters = []
    for number, (sample, other) in enumerate(zip(copied, plain, strict=True)):
        if number >= 6:
            assert torch.equal(sample.input_ids, other.input_ids)
            continue
        query, *candidates = read_objects(sample)  # candidates by number, as the options are
        torch.testing.assert_close(torch.stack(candidates), read_objects(other)[1:])
        letters.append(tokenizer.decode(sample.labels[sample.labels >= 0])[0])
        torch.testing.assert_close(query, candidates["ABCDEFGHIJ".index(letters[-1])])
    assert len(set(letters)) > 1
    mixed = [sample.input_ids.tolist() for sample in read_samples("c", 0.5)]
    assert mixed not in ([k.input_ids.tolist() for k in copied], [k.input_ids.tolist() for k in plain])
    assert mixed == [sample.input_ids.tolist() for sample in read_samples("d", 0.5)]


def test_objects_only_steps_need_object_tokens(tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]) -> None:
    data = {"objects_only_steps": 3, "use_object_tokens": False}
    with pytest.raises(UsageError, match=r"data\.objects_only_steps: needs cases"):
        stage2.build_stage(world.make_config(tiny, tmp_path / "a", sources, data=data))
    with pytest.raises(UsageError, match=r"data\.copy_share: needs data\.objects_only_steps"):
        stage2.build_stage(world.make_config(tiny, tmp_path / "b", sources, data={"copy_share": 0.5}))
