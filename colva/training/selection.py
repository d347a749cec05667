"""The best evaluation of a run, and when to stop because no better one came.

Everything follows from `log.jsonl`, so a resumed run decides as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from colva.config import TrainConfig
from colva.training.checkpoint import TrainingError
from colva.training.logs import LOG, read_lines

BEST_DIR: Final = "best"
"""Folder of the weights of the best evaluation, below the run's folder."""


class BestEvaluation:
    """Follows the evaluations of a run by the metric of `trainer.select_by`.

    Args:
        config: of the run.
        start_step: the step that the run resumes after; None for a new run.

    Attributes:
        step: of the best evaluation so far; None before the first.
        num_worse: evaluations since then.
    """

    def __init__(self, config: TrainConfig, start_step: int | None) -> None:
        self._name = config.trainer.select_by
        self._patience = config.trainer.early_stopping_patience
        self._best = 0.0
        self.step: int | None = None
        self.num_worse = 0
        if self._name is None or start_step is None:
            return
        for line in read_lines(config.output_dir / LOG):
            if f"eval_{self._name}" in line and line.get("step", 0) <= start_step:
                self.update(line["step"], line)

    def update(self, step: int, metrics: Mapping[str, Any]) -> bool:
        """Take an evaluation into account; returns whether it is the best so far.

        Raises:
            TrainingError: it lacks the metric.
        """
        if self._name is None:
            return False
        if f"eval_{self._name}" not in metrics:
            raise TrainingError(f"trainer.select_by: the evaluation has no {self._name}; is a case held out?")
        value = float(metrics[f"eval_{self._name}"]) * (-1.0 if self._name == "loss" else 1.0)
        if self.step is None or value > self._best:
            self.step, self._best, self.num_worse = step, value, 0
            return True
        self.num_worse += 1
        return False

    @property
    def is_exhausted(self) -> bool:
        """Whether the run should stop: as many evaluations as allowed brought nothing better."""
        return self._patience is not None and self.num_worse >= self._patience
