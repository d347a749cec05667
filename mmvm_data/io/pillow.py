"""What Pillow raises for broken files, in a module of its own: processes that read JPEGs alone do without Pillow."""

from __future__ import annotations

import zlib
from typing import Final

from PIL import Image

from mmvm_data.io.image_header import HEADER_ERRORS

IMAGE_ERRORS: Final = (*HEADER_ERRORS, zlib.error, Image.DecompressionBombError)
"""Exceptions that Pillow raises for broken files."""
