"""Published scores, shown beside measured ones and marked as published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SOURCE: Final = "Are They the Same? (ICCV 2025, arXiv 2501.04670)"
CASES: Final = 1510
"""Cases of the MMVM benchmark; the published scores are over all of them."""

OVERALL: Final[Mapping[str, float]] = {
    "InternVL2-2B": 9.87,
    "Qwen2-VL-2B": 15.69,
    "InternVL2-8B": 16.89,
    "InternVL2-4B": 17.62,
    "LLaVA-OV-7B": 20.92,
    "InternVL2-76B": 25.83,
    "Qwen2-VL-7B": 27.48,
    "InternVL2.5-78B": 36.42,
    "Qwen2-VL-72B": 38.08,
    "Claude-3.5-Sonnet": 40.20,
    "Gemini-1.5-Pro": 40.73,
    "GPT-4o": 42.65,
    "CoLVA-Qwen2VL-2B": 47.48,
    "CoLVA-InternVL2-4B": 49.87,
    "CoLVA-Qwen2VL-7B": 51.06,
}
"""Overall accuracy in percent, by model."""

ABLATION: Final[Mapping[str, float]] = {
    "InternVL2-4B": 17.62,
    "+ data": 32.38,
    "+ data, object contrastive loss": 34.05,
    "+ data, vision expert": 32.25,
    "+ data, both": 40.45,
    "+ data, both, instruction augmentation": 45.83,
}
"""Overall accuracy in percent of the 4B model as its parts are added."""
