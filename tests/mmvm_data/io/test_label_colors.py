from __future__ import annotations

from pathlib import Path

from PIL import Image

from mmvm_data.io.label_colors import build_label_palette


def test_palette_is_that_of_davis(realdata: Path) -> None:
    real = sorted((realdata / "davis2017_interactive" / "DAVIS" / "Annotations").rglob("*.png"))[0]
    assert Image.open(real).getpalette() == build_label_palette()
