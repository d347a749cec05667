"""Videos and segmentations in, visual-correspondence benchmarks and training sets out.

The public names are imported when they are first used, so that ``import mmvm_data`` loads neither OpenCV nor a reader.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmvm_data.core.version import __version__

if TYPE_CHECKING:
    from mmvm_data.builders import SOURCES, Source, open_source
    from mmvm_data.cases.sampling_options import SamplingOptions
    from mmvm_data.core.errors import InputError, OutputError, Reject, UsageError
    from mmvm_data.core.options import OptionError
    from mmvm_data.core.types import Candidate, Case, Frame, Option, Region, Rle, Video
    from mmvm_data.formats.open_benchmark import Benchmark, open_benchmark, write_benchmark
    from mmvm_data.pipeline.build import BuildOptions, BuildResult, build

_MODULES = {
    "SOURCES": "mmvm_data.builders",
    "Benchmark": "mmvm_data.formats.open_benchmark",
    "BuildOptions": "mmvm_data.pipeline.build",
    "BuildResult": "mmvm_data.pipeline.build",
    "Candidate": "mmvm_data.core.types",
    "Case": "mmvm_data.core.types",
    "Frame": "mmvm_data.core.types",
    "InputError": "mmvm_data.core.errors",
    "Option": "mmvm_data.core.types",
    "OptionError": "mmvm_data.core.options",
    "OutputError": "mmvm_data.core.errors",
    "Region": "mmvm_data.core.types",
    "Reject": "mmvm_data.core.errors",
    "Rle": "mmvm_data.core.types",
    "SamplingOptions": "mmvm_data.cases.sampling_options",
    "Source": "mmvm_data.builders",
    "UsageError": "mmvm_data.core.errors",
    "Video": "mmvm_data.core.types",
    "build": "mmvm_data.pipeline.build",
    "open_benchmark": "mmvm_data.formats.open_benchmark",
    "open_source": "mmvm_data.builders",
    "write_benchmark": "mmvm_data.formats.open_benchmark",
}
"""Public name -> the module that defines it."""

__all__ = [
    "SOURCES",
    "Benchmark",
    "BuildOptions",
    "BuildResult",
    "Candidate",
    "Case",
    "Frame",
    "InputError",
    "Option",
    "OptionError",
    "OutputError",
    "Region",
    "Reject",
    "Rle",
    "SamplingOptions",
    "Source",
    "UsageError",
    "Video",
    "__version__",
    "build",
    "open_benchmark",
    "open_source",
    "write_benchmark",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
