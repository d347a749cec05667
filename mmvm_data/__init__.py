"""Videos and segmentations in, visual-correspondence benchmarks and training sets out."""

__version__ = "0.1.0"
