"""The mmengine hook that logs, evaluates and saves a run as the native engine does."""

from __future__ import annotations

# ruff: isort: off
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import colva.training.xtuner_imports  # noqa: F401  before anything of xtuner

import torch
from mmengine.dist import barrier
from mmengine.hooks import Hook

from colva.training import checkpoint
from colva.training.metrics import actions_after
from colva.training.selection import BEST_DIR, BestEvaluation
from colva.training.stage import Batch, StepResult
from colva.training.xtuner_parts import unwrap_model
from colva.training.xtuner_run import XtunerRun, get_run, strategy_of, uses_deepspeed
from colva.training.zero import gather_trained_weights, step_without_grad
# ruff: isort: on

_OPTIMIZER_FILE, _RNG_FILE, _DEEPSPEED_TAG = "optimizer.pt", "rng_{}.pt", "deepspeed"


class StageHook(Hook):
    """Decides when to log, evaluate and save, and does it; see `get_run` for the arguments."""

    priority = "VERY_LOW"

    def __init__(self, config: str, changes: Sequence[str] = (), resume: bool = False) -> None:
        self._arguments = (config, changes, resume)
        self._learning_rate = 0.0
        self._best: BestEvaluation | None = None

    @property
    def _run(self) -> XtunerRun:
        return get_run(*self._arguments)

    @property
    def best(self) -> BestEvaluation:
        """The best evaluation of the run."""
        if self._best is None:
            self._best = BestEvaluation(self._run.config, self._run.start_step)
        return self._best

    def before_train(self, runner: Any) -> None:
        """Restore the checkpoint, or evaluate the untrained model of a new run."""
        if uses_deepspeed(runner):
            step_without_grad(runner.model.model)
        if self._run.resume_from is None:
            if self._run.start_values:
                self._write(0, dict(self._run.start_values))
            self._evaluate(runner, 0)
        else:
            checkpoint.check_same_strategy(self._run.resume_from, strategy_of(runner))
            self._restore(runner, self._run.resume_from)
            runner.train_loop.stop_training = self.best.is_exhausted

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note the learning rate of the step, which the schedule changes before it is logged."""
        self._learning_rate = float(runner.optim_wrapper.param_groups[0]["lr"])

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """At the end of each optimizer step: count it, then log, evaluate and save as configured."""
        run = self._run
        step, remainder = divmod(batch_idx + 1, run.sharding.accumulation_steps)
        if remainder:
            return
        run.metrics.on_step_end(step - 1)
        unwrap_model(runner.model).steps_done = step
        actions = actions_after(run.config, step, run.num_steps)
        if actions.log:
            record = run.metrics.summarize_window(step) | {"lr": self._learning_rate} | _grad_norm(runner)
            self._write(step, record)
        if actions.evaluate:
            self._evaluate(runner, step)
        if self.best.is_exhausted:
            runner.train_loop.stop_training = True
        if actions.save or self.best.is_exhausted:
            start = time.perf_counter()
            checkpoint.save_checkpoint(
                run.config.output_dir,
                step,
                run.config.trainer.save_total_limit,
                run.sharding.rank == 0,
                barrier,
                lambda folder: self._write_checkpoint(runner, folder),
            )
            run.metrics.exclude_time_since(start)

    def after_train(self, runner: Any) -> None:
        """Write the trained weights."""
        run = self._run
        weights = gather_trained_weights(run.stage.model, uses_deepspeed(runner))
        if run.sharding.rank == 0:
            best = None if self.best.step is None else run.config.output_dir / BEST_DIR
            checkpoint.write_result(run.config.output_dir, best, lambda folder: run.stage.save_weights(folder, weights))
        barrier()

    def _write(self, step: int, values: dict[str, Any]) -> None:
        metrics = self._run.metrics
        metrics.write(metrics.step_and_epoch(step) | values, self._run.num_steps)

    def _evaluate(self, runner: Any, step: int) -> None:
        start, model = time.perf_counter(), unwrap_model(runner.model)
        model.eval()

        def forward(batch: Batch) -> StepResult:
            with torch.no_grad():
                return model.step(model.data_preprocessor(batch))

        values = self._run.metrics.evaluate(forward, torch.cuda.is_available())
        if values:
            self._write(step, values)
            if self.best.update(step, values):
                weights = gather_trained_weights(self._run.stage.model, uses_deepspeed(runner))
                if self._run.sharding.rank == 0:
                    best = self._run.config.output_dir / BEST_DIR
                    checkpoint.write_final(best, lambda folder: self._run.stage.save_weights(folder, weights))
                barrier()
            self._run.metrics.exclude_time_since(start)

    def _write_checkpoint(self, runner: Any, folder: Path) -> None:
        run = self._run
        is_main = run.sharding.rank == 0
        weights = gather_trained_weights(run.stage.model, uses_deepspeed(runner))
        if is_main:
            run.stage.save_weights(folder, weights)
            checkpoint.write_run_info(folder, run.config, strategy_of(runner))
        if uses_deepspeed(runner):
            runner.model.save_checkpoint(folder, tag=_DEEPSPEED_TAG, save_latest=False, exclude_frozen_parameters=True)
        elif is_main:
            torch.save(runner.optim_wrapper.optimizer.state_dict(), folder / _OPTIMIZER_FILE)
        rng_state = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            rng_state["cuda"] = torch.cuda.get_rng_state()
        torch.save(rng_state, folder / _RNG_FILE.format(run.sharding.rank))

    def _restore(self, runner: Any, folder: Path) -> None:
        run = self._run
        if uses_deepspeed(runner):
            runner.model.load_checkpoint(folder, tag=_DEEPSPEED_TAG, load_module_strict=False)
        else:
            checkpoint.load_weights(folder, run.stage.model, run.stage.load_weights)
            state = torch.load(folder / _OPTIMIZER_FILE, map_location="cpu", weights_only=True)
            runner.optim_wrapper.optimizer.load_state_dict(state)
        rng_state = torch.load(folder / _RNG_FILE.format(run.sharding.rank), weights_only=True)
        torch.set_rng_state(rng_state["cpu"])
        if "cuda" in rng_state and torch.cuda.is_available():
            torch.cuda.set_rng_state(rng_state["cuda"])


def _grad_norm(runner: Any) -> dict[str, float]:
    """The norm of the gradient before clipping, if it was computed."""
    if uses_deepspeed(runner):
        return {"grad_norm": float(runner.model.get_global_grad_norm())}
    history = runner.message_hub.log_scalars.get("train/grad_norm")
    return {} if history is None else {"grad_norm": float(history.current())}
