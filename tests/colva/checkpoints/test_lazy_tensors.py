"""Damaged, incomplete and hostile folders give one clear message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from colva.checkpoints.lazy_tensors import LazyTensor, open_safetensors, open_tensor_folder, wrap_tensors
from colva.checkpoints.save import atomic_folder, write_tensors
from mmvm_data.core.errors import InputError, UsageError

TENSORS = {f"layer.{n}": torch.arange(12.0).view(3, 4) + n for n in range(5)} | {"ids": torch.arange(3)}


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_tensors(tmp_path, wrap_tensors(TENSORS), shard_bytes=100)
    return tmp_path


def test_shards_come_back(sharded: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 2
    found = open_tensor_folder(sharded)
    assert found.keys() == TENSORS.keys()
    for name, stored in found.items():
        assert stored.shape == tuple(TENSORS[name].shape) and stored.dtype == TENSORS[name].dtype
        assert torch.equal(stored.read(), TENSORS[name])


def test_one_shard_is_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []
    most = 0

    def read(n: int) -> torch.Tensor:
        nonlocal most
        alive.append(n)
        written = len(list(tmp_path.glob("model-*")))
        most = max(most, len(alive) - 2 * written)  # two tensors a shard; those before it are on disk
        return torch.full((4, 4), float(n))

    tensors = {f"t{n}": LazyTensor((4, 4), torch.float32, lambda n=n: read(n)) for n in range(8)}
    write_tensors(tmp_path, tensors, shard_bytes=128)
    assert most == 2 and len(alive) == 8


def test_views_are_written_alone(tmp_path: Path) -> None:
    large = torch.arange(10_000.0)
    write_tensors(tmp_path, wrap_tensors({"a": large[:4], "b": large[2:6], "c": large.view(100, 100).T}))
    assert (tmp_path / "model.safetensors").stat().st_size < 50_000
    assert open_tensor_folder(tmp_path)["b"].read().tolist() == [2, 3, 4, 5]
    assert torch.equal(open_tensor_folder(tmp_path)["c"].read(), large.view(100, 100).T)


@pytest.mark.parametrize("cut", [1, 40, 150])
def test_truncated(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.raises(InputError, match=rf"model\.safetensors: truncated.*{len(whole):,}.*{len(whole) - cut:,}"):
        open_tensor_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"1234", b"\xff" * 100, b"\x10" + b"\0" * 7 + b"[1, 2, 3]       "])
def test_no_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"not a safetensors file|truncated"):
        open_tensor_folder(tmp_path)


def test_missing_shard(sharded: Path) -> None:
    first = sorted(sharded.glob("model-*"))[0]
    first.unlink()
    with pytest.raises(InputError, match=rf"{first.name}: shard is missing: the index puts 2 tensors in it"):
        open_tensor_folder(sharded)


def test_index_that_lists_something_else(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    listed["weight_map"]["layer.9"] = listed["weight_map"].pop("layer.0")
    index.write_text(json.dumps(listed))
    with pytest.raises(InputError, match=r"missing layer\.9, unlisted layer\.0"):
        open_tensor_folder(sharded)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/../../b.safetensors", ""])
def test_index_that_leaves_the_folder(tmp_path: Path, name: str) -> None:
    save_file(TENSORS, tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(TENSORS, name)}))
    with pytest.raises(InputError, match="must be relative and stay inside"):
        open_tensor_folder(folder)


def test_link_out_of_the_folder(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(InputError, match="a link out of its folder"):
        open_tensor_folder(folder)


def test_links_of_a_hub_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save_file(TENSORS, blobs / "0123")
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123")
    assert open_tensor_folder(snapshot).keys() == TENSORS.keys()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected model\.safetensors .* found neither"):
        open_tensor_folder(tmp_path)


def test_bin_files(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    assert all(torch.equal(stored.read(), TENSORS[name]) for name, stored in open_tensor_folder(tmp_path).items())


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_destination_that_exists(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UsageError, match="already exists"), atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "mine").exists()


def test_reading_is_lazy(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    found = open_safetensors(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        found["ids"].read()
