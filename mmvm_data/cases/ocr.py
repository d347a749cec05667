"""Text on objects, read by Tesseract where ``pytesseract`` (the extra ``ocr``) and its program are installed."""

from __future__ import annotations

import re

import cv2
import numpy as np

from mmvm_data.cases.cues import ReadText

_SURE = 70.0  # percent, of Tesseract's own confidence
_SIDE = 160  # pixels to which the longer side of a small object is enlarged
_PLAIN = re.compile(r"[A-Z0-9]{2,}")  # single letters are misread too often


def reader() -> ReadText | None:
    """A reader of text for ``cues.propose``, or None when it is not installed."""
    try:
        import pytesseract
    except ImportError:
        return None
    try:
        pytesseract.get_tesseract_version()
    except pytesseract.TesseractNotFoundError:
        return None

    def read(pixels: np.ndarray) -> frozenset[str]:
        scale = max(1.0, _SIDE / max(pixels.shape[:2]))
        large = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        rgb = cv2.cvtColor(large, cv2.COLOR_BGR2RGB)
        # 11: sparse text, in no order
        found = pytesseract.image_to_data(rgb, config="--psm 11", output_type=pytesseract.Output.DICT)
        words = zip(found["text"], found["conf"], strict=True)
        sure = [re.sub(r"[^A-Z0-9]", "", str(word).upper()) for word, trust in words if float(trust) >= _SURE]
        return frozenset(word for word in sure if _PLAIN.fullmatch(word))

    return read
