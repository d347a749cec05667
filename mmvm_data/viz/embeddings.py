"""Color features of the queries, and the map and the search by similarity that FiftyOne makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases.baselines import find_query, read_reduced_image
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case
from mmvm_data.viz.samples import LAST

MAP_KEY, SIMILARITY_KEY = "color_map", "color_similarity"
"""Names of the two results in the data set: for the panel "Embeddings", and for sorting by similarity."""
VIEW = "candidates only"
"""Saved view in which both can be used: FiftyOne computes them for ungrouped images."""
BINS = 6
"""Of each channel of CIELAB, over the whole range of lightness and the middle half of both colors."""


def color_features(case: Case) -> NDArray[np.float32] | None:
    """Return the histogram of the query's colors, float32 [BINS ** 3], in the latest image that shows it.

    The roots of the shares: the cosine of two histograms is then their Bhattacharyya coefficient.

    Args:
        case: with its ``root``.

    Returns:
        None where no image shows the query or the image cannot be read.
    """
    visible = find_query(case)
    if visible is None:
        return None
    region, position = visible
    frame = case.frames[position]
    try:
        image = read_reduced_image(case, position)
    except InputError:
        return None
    step = round(frame.height / image.shape[0])
    bitmap = masks.decode(masks.region_mask(region, frame.height, frame.width))
    bitmap = np.ascontiguousarray(bitmap[::step, ::step][: image.shape[0], : image.shape[1]])
    if not bitmap.any():
        return None
    height, width = bitmap.shape
    lab = cv2.cvtColor(image[:height, :width], cv2.COLOR_BGR2LAB)
    ranges = [0, 256, 64, 192, 64, 192]
    counts = cv2.calcHist([lab], [0, 1, 2], bitmap, [BINS] * 3, ranges).ravel()
    total = float(counts.sum())
    return None if total == 0 else np.sqrt(counts / total).astype(np.float32)


def write_color_embeddings(fo: Any, dataset: Any, cases: Iterable[Case], ids: Mapping[str, Mapping[str, str]]) -> int:
    """Compute the map and the index of similarity over the last images of all cases; former ones are replaced.

    Args:
        cases: all cases in the data set, with their ``root``.
        ids: id of the case -> slice -> id of the sample.

    Returns:
        number of cases in them; 0 when there are fewer than two, and then neither is computed.
    """
    import fiftyone.brain as fob

    features = {ids[case.id][LAST]: color_features(case) for case in cases if LAST in ids.get(case.id, {})}
    vectors = {sample: vector for sample, vector in features.items() if vector is not None}
    for key in (MAP_KEY, SIMILARITY_KEY):
        if dataset.has_brain_run(key):
            dataset.delete_brain_run(key)
    if len(vectors) < 2:
        return 0
    view = dataset.select_group_slices(LAST).select(list(vectors), ordered=True)
    matrix = np.stack(list(vectors.values()))
    fob.compute_visualization(view, embeddings=matrix, method="pca", brain_key=MAP_KEY, num_dims=2, progress=False)
    # of unit vectors, the order by distance is that by cosine
    fob.compute_similarity(view, embeddings=matrix, backend="sklearn", brain_key=SIMILARITY_KEY, metric="euclidean")
    dataset.save_view(VIEW, dataset.select_group_slices(LAST), description="one image a case", overwrite=True)
    return len(vectors)
