"""Videos and segmentations in, visual-correspondence benchmarks and training sets out."""

from mmvm_data.core.version import __version__ as __version__
