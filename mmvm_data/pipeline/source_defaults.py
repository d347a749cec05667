"""Sampling options whose default depends on the source."""

from __future__ import annotations

from dataclasses import replace

from mmvm_data.builders.catalogue import FRAME_RATES, STILL_IMAGES
from mmvm_data.cases.sampling_options import SamplingOptions


def with_source_defaults(source: str, sampling: SamplingOptions) -> SamplingOptions:
    """The options with the source's defaults in place of None, where it has any; these decide the bytes of a build.

    Args:
        source: a key of ``mmvm_data.builders.SOURCES``.
        sampling: as they were given.
    """
    return sampling.with_still_defaults() if source in STILL_IMAGES else sampling


def with_frame_rate(source: str, sampling: SamplingOptions) -> SamplingOptions:
    """The options with the source's frame rate, where one is needed and the source is known to have one."""
    if not sampling.min_seconds or sampling.frame_rate is not None:
        return sampling
    return replace(sampling, frame_rate=FRAME_RATES.get(source))
