"""Loads a subset of match records with the published training data set: ``CHECKOUT KIND FILE OUT``, below ``./data``.

The class ``InternVLDataset`` runs unchanged but for three parts: images of the language model have 28 pixels, its
tokenizer is replaced by one that keeps the text, and colors of candidates are not made distinct. OUT gets pickles: the
paths that the loader kept, then for each record what a training step would get.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
import types
from pathlib import Path
from typing import Any

from run_published_matcher import Stub, stand_in_for_torchvision


def _import(checkout: Path) -> Any:
    stand_in_for_torchvision()
    for name in ("mmengine", "mmengine.config", "xtuner", "xtuner.registry", "xtuner.dataset", "imageio", "shapely"):
        sys.modules[name] = Stub(name)
    for name in ("xtuner.dataset.huggingface", "xtuner.utils", "shapely.ops", "shapely.geometry", "distinctipy"):
        sys.modules[name] = Stub(name)
    for name in ("scipy", "scipy.stats"):
        if importlib.util.find_spec("scipy") is None:
            sys.modules[name] = Stub(name)
    sys.modules["xtuner.utils"].DEFAULT_IMAGE_TOKEN = "<image>"  # type: ignore[attr-defined]
    colors = types.SimpleNamespace(get_colors=lambda count: [(k / count, 0.5, 0.5) for k in range(count)])
    sys.modules["distinctipy"].distinctipy = colors  # type: ignore[attr-defined]
    for name in ("projects", "projects.colva"):
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    package = types.ModuleType("projects.colva.dataset")  # without the packages' own imports of every data set
    package.__path__ = [str(checkout / "projects/colva/dataset")]
    sys.modules[package.__name__] = package
    return importlib.import_module("projects.colva.dataset.InternVLDataset")


def _keep_text(template: Any, sources: list[Any], *_: Any, object_tokens_str: str, **__: Any) -> dict[str, Any]:
    return {"input_ids": [(sources[0], object_tokens_str)], "labels": [None], "attention_mask": [None]}


def main(checkout: Path, kind: str, file: Path, out: Path) -> None:
    """Load all records."""
    import torch
    from datasets import Dataset  # before a stand-in for torchvision is in the way

    module = _import(checkout)
    maps = importlib.import_module("projects.colva.dataset.map_fns.match_map_fn")
    load = importlib.import_module("projects.colva.dataset.process_functions.annotation_json_file_load")
    records, rows = load.MatchDataset_load_fn(str(file), 1)
    published = module.InternVLDataset.__new__(module.InternVLDataset)
    published.json_data, published.text_data = records, Dataset.from_list(rows)
    is_reasoning = kind == "reasoning"
    published.dataset_map_fn = maps.match_reasoning_map_fn if is_reasoning else maps.match_choice_only_map_fn
    published.lazy_load, published.image_folder, published.tcs_loader = True, "", None
    published.pseudo_two_images_mode = published.pad_image_to_square = published.group_by_length = False
    published.dynamic_image_size = published.use_thumbnail = True
    published.min_dynamic_patch, published.max_dynamic_patch, published.image_size = 1, 12, 28
    published.transform = lambda image: torch.zeros(3, 1, 1)
    published.vfm_name = "DINOv2"
    published.ot_image_processor = lambda **_: types.SimpleNamespace(pixel_values=torch.zeros(1, 3, 1, 1))
    published.template, published.tokenizer, published.patch_token = "", None, 1
    published.get_preprocess_function = lambda: _keep_text
    decode, masks = published.decode_mask, []

    def decode_mask(*arguments: Any, **more: Any) -> Any:
        masks.append(decode(*arguments, **more))
        return masks[-1]

    published.decode_mask = decode_mask
    with open(out, "wb") as handle:
        pickle.dump([record["file_names"] for record in records], handle)
        for number, record in enumerate(records):
            masks.clear()
            item = published.prepare_data(number)
            conversation, objects = item["input_ids"]
            kept = {"id": record["id"], "conversation": conversation, "objects": objects, "masks": list(masks)}
            pickle.dump(kept | {"regions": item["region_ids"], "covered": item["ot_visual_prompts"]}, handle)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
