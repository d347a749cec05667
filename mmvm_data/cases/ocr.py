"""Text on objects, read by Tesseract where ``pytesseract`` (the extra ``ocr``) and its program are installed."""

from __future__ import annotations

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases.cues import ReadText

_MIN_CONFIDENCE = 70.0  # percent, of Tesseract's own confidence
_SIDE = 160  # pixels to which the longer side of a small object is enlarged
_WORD = re.compile(r"[A-Z0-9]{2,}")  # single letters are misread too often


def open_text_reader() -> ReadText | None:
    """A reader of text for ``cues.propose_cues``, or None when Tesseract is not installed."""
    try:
        import pytesseract
    except ImportError:
        return None
    try:
        pytesseract.get_tesseract_version()
    except pytesseract.TesseractNotFoundError:
        return None

    def read_words(pixels: NDArray[np.uint8]) -> frozenset[str]:
        scale = max(1.0, _SIDE / max(pixels.shape[:2]))
        enlarged = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        rgb = cv2.cvtColor(enlarged, cv2.COLOR_BGR2RGB)
        # 11: sparse text, in any order
        table = pytesseract.image_to_data(rgb, config="--psm 11", output_type=pytesseract.Output.DICT)
        words = zip(table["text"], table["conf"], strict=True)
        confident = [
            re.sub(r"[^A-Z0-9]", "", str(word).upper())
            for word, confidence in words
            if float(confidence) >= _MIN_CONFIDENCE
        ]
        return frozenset(word for word in confident if _WORD.fullmatch(word))

    return read_words
