"""Text on objects, when the reader is installed."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from mmvm_data.cases import ocr


def sign(text: str) -> np.ndarray:
    image = np.full((60, 220, 3), 230, np.uint8)
    cv2.putText(image, text, (10, 44), cv2.FONT_HERSHEY_SIMPLEX, 1.4, (20, 20, 20), 3, cv2.LINE_AA)
    return image


def test_without_the_package_there_is_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytesseract", None)
    assert ocr.open_text_reader() is None


def test_words_are_read() -> None:
    read = ocr.open_text_reader()
    if read is None:
        pytest.skip("needs pytesseract and tesseract")
    assert read(sign("POLICE")) == {"POLICE"}
    assert read(np.full((60, 220, 3), 230, np.uint8)) == frozenset()
