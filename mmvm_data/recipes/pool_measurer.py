"""Measures the cases of a pool while they are built, so that choosing from it reads no image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmvm_data.audit.case_inspector import CaseInspector
from mmvm_data.pipeline.measuring import CaseMeasurer


@dataclass(frozen=True)
class PoolMeasurerFactory:
    """A ``pipeline`` ``MeasurerFactory``: measures what ``inspect_cases`` returns of a case.

    Attributes:
        with_hashes: whether frames are hashed, which a recipe with splits needs.
    """

    with_hashes: bool = False

    def __call__(self) -> CaseMeasurer:
        return CaseInspector(Path(), pixels=True, with_baselines=True, with_hashes=self.with_hashes).measure_built
