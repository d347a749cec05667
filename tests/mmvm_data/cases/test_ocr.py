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


class FakeTesseract:
    """A reader that is installed and returns known words; keeps what it was called with."""

    class Output:
        DICT = "dict"

    class TesseractNotFoundError(Exception):
        pass

    def __init__(self, words: dict[str, object], is_installed: bool = True) -> None:
        self.words, self.is_installed = words, is_installed
        self.calls: list[tuple[np.ndarray, str, str]] = []

    def get_tesseract_version(self) -> str:
        if not self.is_installed:
            raise self.TesseractNotFoundError
        return "5"

    def image_to_data(self, image: np.ndarray, config: str, output_type: str) -> dict[str, list[object]]:
        self.calls.append((image, config, output_type))
        return {"text": list(self.words), "conf": list(self.words.values())}


def test_confident_words_of_letters_and_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"Taxi-24!": "70", "bus": 69.9, "A": 99, "é": 99, "": "-1", "no.": 96.5, "7": 80, "xy": 70.0}
    monkeypatch.setitem(sys.modules, "pytesseract", FakeTesseract(words))  # type: ignore[arg-type]
    read = ocr.open_text_reader()
    assert read is not None
    assert read(sign("x")) == {"TAXI24", "NO", "XY"}


@pytest.mark.parametrize(("shape", "enlarged"), [((40, 80), (80, 160)), ((80, 40), (160, 80)), ((200, 99), (200, 99))])
def test_small_images_are_enlarged(
    shape: tuple[int, int], enlarged: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = FakeTesseract({})
    monkeypatch.setitem(sys.modules, "pytesseract", reader)  # type: ignore[arg-type]
    read = ocr.open_text_reader()
    assert read is not None
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert read(image) == frozenset()
    ((pixels, config, output_type),) = reader.calls
    assert (config, output_type) == ("--psm 11", "dict")
    expected = cv2.resize(image, enlarged[::-1], interpolation=cv2.INTER_CUBIC)[..., ::-1]
    assert (pixels == expected).all()


def test_without_the_program_there_is_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytesseract", FakeTesseract({}, is_installed=False))  # type: ignore[arg-type]
    assert ocr.open_text_reader() is None
