from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colva.data import object_cache
from colva.data.object_cache import ObjectCache, fingerprint_weights, image_digest, object_key
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError

keys_of = st.lists(st.binary(min_size=16, max_size=16), max_size=30)


@given(keys_of, keys_of)
def test_what_was_added_is_read(
    tmp_path_factory: pytest.TempPathFactory, first: list[bytes], second: list[bytes]
) -> None:
    store = ObjectCache(tmp_path_factory.mktemp("cache"), 3)
    known: dict[bytes, torch.Tensor] = {}
    for number, keys in enumerate((first, second)):
        rows = torch.arange(len(keys) * 3.0).view(-1, 3) + 1000 * number
        store.append(keys, rows)
        for key, row in zip(keys, rows, strict=True):
            known.setdefault(key, row)
    assert len(store) == len(known)
    again = ObjectCache(store.folder, 3)
    wanted = list(reversed(known))
    if wanted:
        assert torch.equal(again.read(wanted), torch.stack([known[key] for key in wanted]))
    absent = b"\0" * 15 + b"\7"
    if absent not in known:
        assert again.missing([*wanted, absent]) == [len(wanted)]
        with pytest.raises(KeyError, match=f"object {len(wanted)} of {len(wanted) + 1}"):
            again.read([*wanted, absent])


def test_a_key_depends_on_picture_mask_and_size() -> None:
    square = np.zeros((8, 6), np.uint8)
    square[2:4, 2:4] = 1
    one, other = masks.encode(square), masks.encode(1 - square)
    picture, second = image_digest(b"a"), image_digest(b"b")
    keys = {object_key(picture, one), object_key(picture, other), object_key(second, one)}
    turned = one.model_copy(update={"size": (6, 8)})
    assert len(keys | {object_key(picture, turned)}) == 4
    assert object_key(picture, one) == object_key(image_digest(b"a"), masks.encode(square))


def test_a_fingerprint_depends_on_every_weight_and_setting() -> None:
    weights = {"a": torch.zeros(2, 2), "b": torch.ones(3)}
    names = {
        fingerprint_weights(weights, {"side": 1024}),
        fingerprint_weights(weights, {"side": 512}),
        fingerprint_weights(weights | {"b": torch.tensor([1.0, 1.0, 1.0 + 1e-6])}, {"side": 1024}),
        fingerprint_weights(weights | {"a": torch.zeros(4)}, {"side": 1024}),
        fingerprint_weights(weights | {"a": torch.zeros(2, 2, dtype=torch.bfloat16)}, {"side": 1024}),
    }
    assert len(names) == 5
    assert fingerprint_weights(dict(reversed(weights.items())), {"side": 1024}) in names


def test_a_part_that_was_cut_off_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectCache(tmp_path, 2)
    store.append([b"a" * 16], torch.ones(1, 2))
    real, calls = np.save, []

    def full(handle: object, array: np.ndarray, **given: object) -> None:
        calls.append(array)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle, array, **given)

    monkeypatch.setattr(object_cache.np, "save", full)
    with pytest.raises(OSError, match="No space"):
        store.append([b"b" * 16], torch.ones(1, 2))
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*"))
    again = ObjectCache(tmp_path, 2)
    assert again.missing([b"a" * 16, b"b" * 16]) == [1]
    again.append([b"b" * 16], torch.full((1, 2), 3.0))
    assert again.read([b"b" * 16]).tolist() == [[3.0, 3.0]]


def test_another_process_sees_what_was_added_after_refresh(tmp_path: Path) -> None:
    writer, reader = ObjectCache(tmp_path / "new", 2), ObjectCache(tmp_path / "new", 2)
    writer.append([b"a" * 16], torch.ones(1, 2))
    assert reader.missing([b"a" * 16]) == [0]
    reader.refresh()
    assert reader.missing([b"a" * 16]) == []


def test_damage_and_other_widths_are_named(tmp_path: Path) -> None:
    store = ObjectCache(tmp_path, 2)
    store.append([b"a" * 16], torch.ones(1, 2))
    with pytest.raises(InputError, match=r"float32 \[1, 2\]: expected float32 \[1, 3\]"):
        ObjectCache(tmp_path, 3)
    (tmp_path / "part-000000.rows.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match="damaged"):
        ObjectCache(tmp_path, 2)
    with pytest.raises(ValueError, match="not finite"):
        store.append([b"c" * 16], torch.full((1, 2), float("nan")))
    with pytest.raises(ValueError, match=r"embeddings \[1, 2\] for 2 keys of width 2"):
        store.append([b"c" * 16, b"d" * 16], torch.ones(1, 2))
