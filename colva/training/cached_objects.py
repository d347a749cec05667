"""The object cache of a stage-2 run: filled before training, read by the data workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from colva.checkpoints.checkpoint import Checkpoint
from colva.data.cache_builder import CanvasSpec, embed_first_objects, fill_object_cache, is_cache_filled
from colva.data.main_process import main_process_first
from colva.data.object_cache import ObjectCache, fingerprint_weights
from colva.data.record_reader import RecordReader
from colva.data.sft import EmbeddingLookup
from colva.model.adapter import Adapter
from colva.model.experts import build_expert
from colva.model.experts.base import Expert, to_unit_range
from colva.model.pooling import pool_objects
from mmvm_data.core.plurals import pluralize

ADAPTER_PREFIX, EXPERT_PREFIX = "adapter.", "expert."


class CachedObjects:
    """The object cache of a run; each process opens it at the first lookup.

    Args:
        base: the model, with an expert.
        adapter: its weights.
        cache_dir: folder of the run's caches.
        readers: the sources of the mixture.
        precision: of expert and adapter, `bf16` or `float32`.
        num_workers: processes that read images while the cache is filled.

    Attributes:
        lookup: embeddings by object key.
        fingerprint: of everything that determines an embedding besides image and mask.
    """

    def __init__(
        self,
        base: Checkpoint,
        adapter: Mapping[str, Tensor],
        cache_dir: Path,
        readers: Sequence[RecordReader],
        precision: str,
        num_workers: int,
    ) -> None:
        config = base.config
        self._adapter = dict(adapter)
        self._readers = tuple(readers)
        self._use_bf16 = precision == "bf16"
        self._num_workers = num_workers
        self._expert_fields = dict(config.expert or {})
        self._expert_tensors = {
            name.removeprefix(EXPERT_PREFIX): stored
            for name, stored in base.tensors.items()
            if name.startswith(EXPERT_PREFIX)
        }
        self._width = int(config.backbone_config.get_text_config().hidden_size)
        with torch.device("meta"):
            stride = self._build_expert().stride
        published = config.prompt_style != "colva"
        self._spec = CanvasSpec(config.expert_side, stride, config.mask_threshold, config.fill_empty, published)
        settings = {
            "expert": self._expert_fields,
            "side": config.expert_side,
            "threshold": config.mask_threshold,
            "precision": precision,
            "fill_empty": config.fill_empty,
        } | ({"canvas": config.prompt_style} if published else {})
        weights = _LazyTensors(self._expert_tensors, self._adapter)
        self.fingerprint = fingerprint_weights(weights, settings)
        self._folder = cache_dir / "objects" / self.fingerprint
        self.lookup: EmbeddingLookup = CacheLookup(self._folder, self._width)

    def fill(self) -> None:
        """Embed the objects that are not cached; the main process does, the others wait."""
        main_process_first(lambda: is_cache_filled(ObjectCache(self._folder, self._width), self._readers), self._fill)

    def embed_first(self, num_records: int) -> Tensor:
        """Embeddings `[n, d]` of the objects of the first records of each source, without the cache."""
        return embed_first_objects(self._readers, self._spec, self._load_embedder(_select_device()), num_records)

    def _fill(self) -> None:
        embed = self._load_embedder(_select_device())

        def on_progress(done: int, count: int) -> None:
            print(f"objects embedded of {done} of {pluralize(count, 'record')}", flush=True)

        cache = ObjectCache(self._folder, self._width)
        stats = fill_object_cache(cache, self._readers, self._spec, embed, self._num_workers, on_progress=on_progress)
        print(
            f"object cache: {pluralize(stats.objects, 'object')} of {pluralize(stats.images, 'image')}, "
            f"{stats.images_per_second:.1f} images/s, {stats.waiting_share:.0%} of the time spent waiting for images",
            flush=True,
        )

    def _build_expert(self) -> Expert:
        fields = dict(self._expert_fields)
        return build_expert(fields.pop("kind"), fields)

    def _load_embedder(self, device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Expert, adapter and pooling with their weights on a device."""
        expert = self._build_expert()
        expert.load_state_dict({name: stored.read() for name, stored in self._expert_tensors.items()})
        adapter = Adapter(expert.hidden_size, self._width)
        adapter.load_state_dict(self._adapter)
        dtype = torch.bfloat16 if self._use_bf16 else torch.float32
        expert.eval().to(device, dtype)
        adapter.eval().to(device, dtype)

        def embed(pixels: Tensor, token_masks: Tensor, images: Tensor) -> Tensor:
            with torch.no_grad():
                with torch.autocast(device.type, torch.bfloat16, enabled=self._use_bf16):
                    tokens = adapter(expert(to_unit_range(pixels.to(device))).tokens)
                return pool_objects(tokens, token_masks.to(device), images.to(device))[0]

        return embed


def _select_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class CacheLookup:
    """Reads embeddings by object key (an `EmbeddingLookup`); opens the cache at the first call."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.width = width
        self._cache: ObjectCache | None = None

    def __call__(self, keys: Sequence[bytes]) -> Tensor:
        """Embeddings `[n, d]`; KeyError when a key is not cached."""
        if self._cache is None:
            self._cache = ObjectCache(self.folder, self.width)
        return self._cache.read(keys)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "width": self.width, "_cache": None}


class _LazyTensors(Mapping[str, Tensor]):
    """The expert's stored tensors, read one at a time, and the adapter's."""

    def __init__(self, expert: Mapping[str, Any], adapter: Mapping[str, Tensor]) -> None:
        self._expert = {EXPERT_PREFIX + name: stored for name, stored in expert.items()}
        self._adapter = {ADAPTER_PREFIX + name: tensor for name, tensor in adapter.items()}

    def __getitem__(self, name: str) -> Tensor:
        if name in self._adapter:
            return self._adapter[name]
        tensor: Tensor = self._expert[name].read()
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter([*self._expert, *self._adapter])

    def __len__(self) -> int:
        return len(self._expert) + len(self._adapter)
