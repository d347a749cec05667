"""Videos and segmentations in, visual-correspondence benchmarks and training sets out.

The public API. Names are imported on first use, so that ``import mmvm_data.core`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mmvm_data.core.version import __version__ as __version__

if TYPE_CHECKING:
    from mmvm_data.builders import SOURCES as SOURCES
    from mmvm_data.builders import open_source as open_source
    from mmvm_data.builders.source import Source as Source
    from mmvm_data.core.types import Case as Case
    from mmvm_data.core.types import Frame as Frame
    from mmvm_data.core.types import Region as Region
    from mmvm_data.core.types import Video as Video
    from mmvm_data.formats.open_benchmark import Benchmark as Benchmark
    from mmvm_data.formats.open_benchmark import open_benchmark as open_benchmark
    from mmvm_data.formats.open_benchmark import write_benchmark as write_benchmark
    from mmvm_data.pipeline.build import build as build

_EXPORTS = {
    "Benchmark": "mmvm_data.formats.open_benchmark",
    "SOURCES": "mmvm_data.builders",
    "Source": "mmvm_data.builders.source",
    "open_source": "mmvm_data.builders",
    "Case": "mmvm_data.core.types",
    "Frame": "mmvm_data.core.types",
    "Region": "mmvm_data.core.types",
    "Video": "mmvm_data.core.types",
    "open_benchmark": "mmvm_data.formats.open_benchmark",
    "write_benchmark": "mmvm_data.formats.open_benchmark",
    "build": "mmvm_data.pipeline.build",
}
"""Public name -> module that defines it."""


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
