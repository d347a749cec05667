"""Opens the vision model that ranks candidates, from whatever package offers one.

No network is imported here. A package offers its models through an entry point of the group ``GROUP`` that names an
``EmbeddingRankerFactory``; ``colva`` has one. A caller in Python passes a factory instead.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata

from mmvm_data.cases.hardness import EmbeddingRanker, EmbeddingRankerFactory
from mmvm_data.core.errors import UsageError

GROUP = "mmvm_data.embedding_rankers"
"""Group of the entry points."""


@lru_cache(maxsize=1)
def open_embedding_ranker(model: str, factory: EmbeddingRankerFactory | None = None) -> EmbeddingRanker:
    """The ranker of a model; opened once in each process.

    Args:
        model: name of the model, as the factory knows it.
        factory: opens the ranker; None uses the one that is installed.

    Raises:
        UsageError: no factory or more than one is installed, it needs a package that is missing, or it has no such
            model.
        InputError: the model's weights cannot be read.
    """
    return (factory or find_factory(model))(model)


def find_factory(model: str) -> EmbeddingRankerFactory:
    """The factory that is installed; ``model`` is for messages only.

    Raises:
        UsageError: there is none or more than one, or it needs a package that is missing.
    """
    entry_points = metadata.entry_points(group=GROUP)
    if not entry_points:
        raise UsageError(f"embeddings of {model} need a package that offers a ranker, and none is installed ({GROUP})")
    if len(entry_points) > 1:
        values = ", ".join(sorted(entry_point.value for entry_point in entry_points))
        raise UsageError(f"embeddings of {model}: several rankers are installed ({values}); pass `ranker_factory`")
    (entry_point,) = entry_points
    try:
        factory: EmbeddingRankerFactory = entry_point.load()
    except ModuleNotFoundError as error:
        raise UsageError(
            f"embeddings of {model} need {error.name}: pip install 'mmvm-data[train]', or leave `embeddings` out"
        ) from error
    return factory
