"""SAM 2 (Ravi et al., arXiv 2408.00714) with the classes of transformers: objects that are marked in the first frame of
a shot are followed through the others.

Frames are preprocessed here, because transformers' video processors need torchvision: RGB, resized to the square that
the model expects (bilinear, antialiased), divided by 255, normalized by the mean and standard deviation of ImageNet;
coordinates are scaled to that square. A mask is where the model's score is above 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Box, Rle

if TYPE_CHECKING:
    import torch

_MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
_STD: Final = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True)
class Prompt:
    """How an object is marked in the first frame: a mask, or a box and clicks.

    Attributes:
        mask: of the frame's size.
        box: x, y, width, height in pixels.
        clicks, others: x and y in pixels, on the object and beside it.
    """

    mask: Rle | None = None
    box: Box | None = None
    clicks: tuple[tuple[float, float], ...] = ()
    others: tuple[tuple[float, float], ...] = ()


class TrackedMask(Rle):
    """A mask of an object that was followed.

    Attributes:
        score: how sure it is, 0..1.
    """

    score: float


class Sam2:
    """A SAM 2 model for videos.

    Args:
        folder: a checkpoint as ``save_pretrained`` writes it, or as it is published for transformers (config.json of a
            ``sam2_video`` model and safetensors). Nothing is downloaded, and no code of the folder is executed.
        device: of torch; None for a GPU when there is one.

    Raises:
        UsageError: torch or transformers is not installed.
        OptionError: torch cannot use ``device``.
        InputError: the folder holds no such model.
    """

    def __init__(self, folder: Path, device: str | None = None) -> None:
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoConfig, Sam2VideoModel
        except ImportError as error:
            raise UsageError("SAM 2 needs torch and transformers: pip install 'mmvm-data[train]'") from error
        if not (folder / "config.json").is_file():
            raise InputError(folder / "config.json", "file is missing; a SAM 2 checkpoint of transformers is expected")
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if config.model_type != "sam2_video":
                raise InputError(
                    folder / "config.json", f"expected sam2_video, found {config.model_type!r}", "model_type"
                )
            model, loaded = Sam2VideoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, trust_remote_code=False
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(folder, f"checkpoint cannot be loaded: {' '.join(str(error).split())[:200]}") from error
        if loaded["missing_keys"] or loaded["mismatched_keys"]:
            lacking = sorted(loaded["missing_keys"] or [str(k[0]) for k in loaded["mismatched_keys"]])
            raise InputError(folder, f"checkpoint lacks {pluralize(len(lacking), 'weight')}, such as {lacking[0]}")
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model: Any = model.to(self._device).eval()
        except (RuntimeError, AssertionError) as error:  # torch says AssertionError where it was built without CUDA
            raise OptionError("device", f"must be a device that torch can use, got {device!r}") from error
        self._size: int = model.config.prompt_encoder_config.image_size

    def propagate(self, frames: Iterable[NDArray[np.uint8]], prompts: Mapping[str, Prompt]) -> list[dict[str, Rle]]:
        """Follow objects from the first frame to the last.

        Args:
            frames: uint8 [h, w, 3], blue first, all of one size.
            prompts: label of an object -> its mark in the first frame; one or more.

        Returns:
            for each frame, label -> mask of the frame's size; objects without a pixel there are left out.
        """
        import torch
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        pixels, height, width = [], 0, 0
        for frame in frames:
            height, width = frame.shape[:2]
            pixels.append(self._preprocess_frame(frame))
        session = Sam2VideoInferenceSession(
            video=torch.stack(pixels),  # annotated as FloatTensor
            video_height=height,
            video_width=width,
            inference_device=self._device,
            dtype=torch.float32,  # its default is a string, which torch does not accept
        )
        labels = list(prompts)
        for number, label in enumerate(labels):
            index = session.obj_id_to_idx(number)
            prompt = prompts[label]
            if prompt.mask is not None:
                session.add_mask_inputs(index, 0, self._preprocess_mask(prompt.mask))
            else:
                session.add_point_inputs(index, 0, self._scale_points(prompt, height, width))
        session.obj_with_new_inputs = list(range(len(labels)))
        tracks: list[dict[str, Rle]] = []
        with torch.inference_mode():
            for position in range(len(pixels)):
                scores = self._model(inference_session=session, frame_idx=position).pred_masks
                upscaled = torch.nn.functional.interpolate(scores.float(), (height, width), mode="bilinear")
                bitmaps = (upscaled[:, 0] > 0).cpu().numpy()
                rles = {label: masks.encode(bitmap) for label, bitmap in zip(labels, bitmaps, strict=True)}
                tracks.append({label: rle for label, rle in rles.items() if masks.area(rle)})
        return tracks

    def _preprocess_frame(self, bgr: NDArray[np.uint8]) -> torch.Tensor:
        import torch

        rgb = torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1])).permute(2, 0, 1)[None].float()
        square = torch.nn.functional.interpolate(
            rgb, (self._size, self._size), mode="bilinear", antialias=True, align_corners=False
        )[0]
        mean, std = (torch.from_numpy(value)[:, None, None] for value in (_MEAN, _STD))
        return (square / 255 - mean) / std

    def _preprocess_mask(self, rle: Rle) -> torch.Tensor:
        import torch

        small = cv2.resize(masks.decode(rle).astype(np.float32), (self._size, self._size), interpolation=cv2.INTER_AREA)
        return torch.from_numpy((small >= 0.5).astype(np.float32))[None, None]

    def _scale_points(self, prompt: Prompt, height: int, width: int) -> dict[str, torch.Tensor]:
        """Clicks have label 1, those beside the object 0, the corners of a box 2 and 3 (as in the published code)."""
        import torch

        points = [(x, y, 1) for x, y in prompt.clicks] + [(x, y, 0) for x, y in prompt.others]
        if prompt.box is not None:
            x, y, w, h = prompt.box
            points = [(x, y, 2), (x + w, y + h, 3), *points]
        scale = torch.tensor([self._size / width, self._size / height])
        coords = torch.tensor([point[:2] for point in points], dtype=torch.float32) * scale
        labels = torch.tensor([point[2] for point in points], dtype=torch.int32)
        return {"point_coords": coords[None, None], "point_labels": labels[None, None]}
