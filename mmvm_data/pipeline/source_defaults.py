"""Sampling options whose default depends on the source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmvm_data.builders import Source, open_source
from mmvm_data.builders.catalogue import FRAME_RATES, SOMETIMES_STILL, STILL_IMAGES
from mmvm_data.cases.sampling_options import SamplingOptions


def with_source_defaults(source: Source, sampling: SamplingOptions) -> SamplingOptions:
    """The options with the source's defaults in place of None, where it has any; these decide the bytes of a build.

    Args:
        source: an opened source.
        sampling: as they were given.
    """
    return sampling.with_still_defaults() if has_stills(source) else sampling


def has_stills(source: Source) -> bool:
    """Whether the videos of an opened source are views of still images."""
    return source.name in STILL_IMAGES or source.load_image is not None


def has_stills_before_opening(source: str, root: Path | str) -> bool:
    """The same of a source that is not open yet; it is opened only where its name does not say what it holds.

    Args:
        source: a key of ``mmvm_data.builders.SOURCES``.
        root: its folder, file or URL.

    Raises:
        UsageError, InputError: as ``open_source``, where it is opened.
    """
    return has_stills(open_source(source, root)) if source in SOMETIMES_STILL else source in STILL_IMAGES


def with_defaults_before_opening(source: str, root: Path | str, sampling: SamplingOptions) -> SamplingOptions:
    """``with_source_defaults`` of a source that is not open yet; see ``has_stills_before_opening``."""
    return sampling.with_still_defaults() if has_stills_before_opening(source, root) else sampling


def with_frame_rate(source: str, sampling: SamplingOptions) -> SamplingOptions:
    """The options with the source's frame rate, where one is needed and the source is known to have one."""
    if not sampling.min_seconds or sampling.frame_rate is not None:
        return sampling
    return replace(sampling, frame_rate=FRAME_RATES.get(source))
