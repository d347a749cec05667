"""Runs a player of a checkout of MMVMEvalKit on a benchmark, without weights: ``CHECKOUT FAMILY BENCH OUT``.

The player's own ``generate_inner`` runs unchanged; the model behind it is replaced by one that keeps its inputs. OUT
gets pickles, one dict a row.
"""

from __future__ import annotations

import csv
import importlib.util
import pickle
import sys
import types
from pathlib import Path
from typing import Any


class Stub(types.ModuleType):
    """A module in which every name is a class that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


# torchvision's transforms on PIL images, for an environment without it


def _compose(steps: list[Any]) -> Any:
    def apply(image: Any) -> Any:
        for step in steps:
            image = step(image)
        return image

    return apply


def _resize(size: tuple[int, int], interpolation: int) -> Any:
    return lambda image: image.resize(size[::-1], interpolation)


def _to_tensor(image: Any) -> Any:
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def _normalize(mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    import torch

    return lambda pixels: (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def stand_in_for_torchvision() -> None:
    """Import transformers' processors, and put stand-ins for torchvision's transforms where it is missing."""
    from transformers import CLIPImageProcessor  # noqa: F401  before a stand-in is in the way

    if importlib.util.find_spec("torchvision") is None:
        functional = types.ModuleType("torchvision.transforms.functional")
        functional.InterpolationMode = types.SimpleNamespace(BICUBIC=3)  # type: ignore[attr-defined]
        transforms = types.ModuleType("torchvision.transforms")
        for name, value in (("Compose", _compose), ("Lambda", lambda step: step), ("Resize", _resize)):
            setattr(transforms, name, value)
        transforms.ToTensor = lambda: _to_tensor  # type: ignore[attr-defined]
        transforms.Normalize = _normalize  # type: ignore[attr-defined]
        sys.modules |= {"torchvision": types.ModuleType("torchvision"), "torchvision.transforms": transforms}
        sys.modules["torchvision.transforms.functional"] = functional


def _import(checkout: Path) -> None:
    stand_in_for_torchvision()
    sys.path.insert(0, str(checkout))
    stubs = ("mmengine", "mmengine.model", "mmengine.logging", "mmengine.dist", "mmengine.config", "xtuner")
    for name in (*stubs, "xtuner.model", "xtuner.model.utils", "vlmeval.dataset"):
        sys.modules[name] = Stub(name)
    for name in ("vlmeval", "vlmeval.vlm", "vlmeval.vlm.colva"):  # without the packages' own imports of every model
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package


class _ImageProcessor:
    """RADIO's: pixels in [0, 1]."""

    def __call__(self, images: Any, return_tensors: str) -> Any:
        import numpy as np
        import torch

        pixels = torch.from_numpy(np.array(images)).permute(2, 0, 1)[None].float() / 255
        return types.SimpleNamespace(pixel_values=pixels)


class _QwenProcessor:
    """Qwen2-VL's chat template, and an image processor that keeps the images."""

    def apply_chat_template(self, turns: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        text = ""
        for turn in turns:
            parts = ("<image>" if part["type"] == "image" else part["text"] for part in turn["content"])
            text += f"<|im_start|>{turn['role']}\n{''.join(parts)}<|im_end|>\n"
        return text + "<|im_start|>assistant\n"

    def __call__(self, text: list[str], images: list[Any], **_: Any) -> Any:
        import numpy as np

        return types.SimpleNamespace(text=text[0], images=[np.array(image) for image in images])


def main(checkout: Path, family: str, bench: Path, out: Path) -> None:
    """Run all rows."""
    import ast
    import os

    _import(checkout)
    module = importlib.import_module(f"vlmeval.vlm.colva.{family}_matcher")
    csv.field_size_limit(2**31 - 1)
    with open(bench / "mllm_match_eval_full.tsv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    os.chdir(bench)
    replies: list[dict[str, Any]] = []

    def keep_internvl(tokenizer: Any, **inputs: Any) -> str:
        template = module.get_conv_template("phi3-chat")
        template.append_message(template.roles[0], inputs["question"])
        template.append_message(template.roles[1], None)
        replies.append({**inputs, "text": template.get_prompt(), "stop": template.sep})
        return ""

    def keep_qwen(inputs: Any, **more: Any) -> str:
        replies.append({"text": inputs.text, "images": inputs.images, **more})
        return ""

    kind = module.WrapInternVL if family == "internvl" else module.WrapQwen2VL
    player = kind.__new__(kind)
    player.ot_image_processor, player.device = _ImageProcessor(), "cpu"
    if family == "internvl":
        player.max_num, player.tokenizer = 6, None
        player.kwargs = {"do_sample": False, "max_new_tokens": 1024, "top_p": None, "num_beams": 1}
        player.llm_forward_my_imple = keep_internvl
    else:
        player.processor, player.llm_forward_my_imple = _QwenProcessor(), keep_qwen
    with open(out, "wb") as file:
        for row in rows:
            message = [{"type": "image", "value": path} for path in ast.literal_eval(row["image_path"])]
            player.generate([*message, {"type": "text", "value": row["question"]}], dataset="MMatch")
            pickle.dump(replies.pop(), file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).resolve(), Path(sys.argv[4]).absolute())
