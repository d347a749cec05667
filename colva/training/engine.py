"""The native engine: transformers' Trainer with our data order, loss normalization, logs and checkpoints.

Trainer provides DDP, DeepSpeed, mixed precision, accumulation, schedules, TensorBoard and W&B. What differs:

- data is read by ordinal (`colva.training.loader`): a restart continues at the next item, and reads nothing twice;
- a step's loss is the sum over all its units, over all micro-batches and processes, divided by their number;
- checkpoints are atomic and hold the trained weights alone (`colva.training.checkpoint`);
- `log.jsonl` has one line per logged step, and after a restart exactly those of an uninterrupted run.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME

from colva.config import TrainConfig
from colva.training import checkpoint, fsdp
from colva.training.loader import BatchSharding, training_loader
from colva.training.metrics import MetricsTracker, actions_after
from colva.training.selection import BEST_DIR, BestEvaluation
from colva.training.stage import Batch, Stage, StepResult
from colva.training.zero import gather_trained_weights, step_without_grad

# with gloo a process is at "cpu:0", and Trainer loads the optimizer to that location, which torch does not know
torch.serialization.register_package(
    15, lambda storage: None, lambda storage, location: storage if location.startswith("cpu:") else None
)


class StageTrainer(Trainer):
    """Trainer of one stage; created by `train` in `colva.training.run`.

    Args:
        stage, config, arguments, sharding: of the run.
        start_step: the step of the checkpoint that is resumed; None for a new run.
        strategy: see `colva.training.run.describe_strategy`.
        use_fsdp: the model was passed to `fsdp.shard_model`.

    Attributes:
        start_values: logged at step 0 of a new run.
    """

    start_values: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        arguments: TrainingArguments,
        sharding: BatchSharding,
        start_step: int | None,
        strategy: str = checkpoint.NATIVE_ENGINE,
        use_fsdp: bool = False,
    ) -> None:
        self.stage = stage
        self.config = config
        self.sharding = sharding
        self.start_step = start_step
        self.strategy = strategy
        self.use_fsdp = use_fsdp
        super().__init__(model=stage.model, args=arguments, callbacks=[_ActionsCallback(self)])
        self.model_accepts_loss_kwargs = True  # the loss is divided here, by the number of units
        for callback in list(self.callback_handler.callbacks):
            if type(callback).__name__ == "PrinterCallback":
                self.remove_callback(callback)
        if self.is_deepspeed_enabled:
            _load_non_strict(stage.model)
        is_main = self.is_world_process_zero()
        self.best = BestEvaluation(config, start_step)
        self.metrics = MetricsTracker(stage, config, sharding, is_main, start_step, self._all_reduce_sum)

    def _wrap_model(self, model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        return fsdp.ShardedWrapper(model) if self.use_fsdp else super()._wrap_model(model, *args, **kwargs)

    # data

    def create_optimizer(self, *args: Any) -> Any:
        """Trainer's optimizer without empty groups: DeepSpeed drops these, and the schedule would have too many."""
        optimizer = super().create_optimizer(*args)
        optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
        return optimizer

    def get_train_dataloader(self) -> Any:
        """The loader, not prepared by accelerate: it is sharded already."""
        num_workers, pin_memory = self.config.trainer.num_workers, self.args.device.type == "cuda"
        return training_loader(self.stage, self.sharding, self.args.max_steps, num_workers, pin_memory)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one step, and the number of its units over all processes."""
        start = time.perf_counter()
        loaded = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        batches, units = self.metrics.on_batches(loaded, time.perf_counter() - start)
        total = self.accelerator.gather(torch.tensor([units], device=device)).sum()
        return [{"inputs": inputs, "weight": weight} for inputs, weight in batches], total

    # the step

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """The micro-batch's share of the step's mean loss, times the number of processes (gradients are averaged)."""
        result = self.stage.step(model, inputs["inputs"])
        units = torch.ones((), device=result.loss.device) if num_items_in_batch is None else num_items_in_batch
        loss = result.loss * (inputs["weight"] * self.sharding.num_processes) / units.clamp(min=1)
        if self.is_deepspeed_enabled:  # which updates the weights inside the backward pass
            self.metrics.check_finite(loss, self.state.global_step)
        self.metrics.on_micro_batch(loss, result.means, inputs["weight"])
        return (loss, None) if return_outputs else loss

    # logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write Trainer's values along with the metrics of the window; called in every process."""
        if "train_runtime" in logs:  # Trainer's summary at the end
            return
        record = self.metrics.step_and_epoch(self.state.global_step)
        if "loss" in logs:
            record |= self.metrics.summarize_window(self.state.global_step) | {"lr": logs["learning_rate"]}
            if "grad_norm" in logs:
                record["grad_norm"] = float(logs["grad_norm"])
        else:
            record |= logs
        self.metrics.write(record, self.state.max_steps)
        self.control: Any = self.callback_handler.on_log(self.args, self.state, self.control, dict(record))

    def _all_reduce_sum(self, local: Tensor) -> Tensor:
        # gloo and NCCL both accept float64 on their own device
        reduced: Tensor = self.accelerator.reduce(local.to(self.args.device), "sum")
        return reduced.cpu()

    # evaluation

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Loss and metrics over the held-out items, each once; empty without held-out data."""
        start = time.perf_counter()
        self.model_wrapped.eval()
        metrics = self.metrics.evaluate(self._forward, self.args.device.type == "cuda")
        if self.use_fsdp:
            self.model.reshard()  # otherwise done by the backward pass
        if metrics:
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            if self.best.update(self.state.global_step, metrics):
                self._write_best()
            if self.best.is_exhausted:
                self.control.should_save = self.control.should_training_stop = True
            self.metrics.exclude_time_since(start)
        return metrics

    def _forward(self, batch: Batch) -> StepResult:
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.stage.step(self.model_wrapped, self._prepare_inputs(batch))

    # checkpoints

    def gather_trained_weights(self) -> dict[str, Tensor]:
        """Every trained parameter on the CPU, unsharded; called in every process."""
        return gather_trained_weights(self.model, self.is_deepspeed_enabled)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        start = time.perf_counter()
        checkpoint.save_checkpoint(
            self.config.output_dir,
            self.state.global_step,
            self.config.trainer.save_total_limit,
            self.is_world_process_zero(),
            self.accelerator.wait_for_everyone,
            self._write_checkpoint,
        )
        self.metrics.exclude_time_since(start)

    def _write_best(self) -> None:
        weights = self.gather_trained_weights()
        if self.is_world_process_zero():
            best = self.config.output_dir / BEST_DIR
            checkpoint.write_final(best, lambda folder: self.stage.save_weights(folder, weights))
        self.accelerator.wait_for_everyone()

    def _write_checkpoint(self, folder: Path) -> None:
        weights = self.gather_trained_weights()
        if self.is_world_process_zero():
            self.stage.save_weights(folder, weights)
            checkpoint.write_run_info(folder, self.config, self.strategy)
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
        if self.is_deepspeed_enabled:
            self.model_wrapped.save_checkpoint = functools.partial(
                type(self.model_wrapped).save_checkpoint, self.model_wrapped, exclude_frozen_parameters=True
            )
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.use_fsdp:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        is_main = self.is_world_process_zero()
        fsdp.save_optimizer_state(self.model, self.optimizer.optimizer, Path(output_dir), is_main)
        if is_main:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.use_fsdp or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        fsdp.load_optimizer_state(self.model, self.optimizer.optimizer, Path(checkpoint))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoint.load_weights(Path(resume_from_checkpoint), self.model, self.stage.load_weights)


class _ActionsCallback(TrainerCallback):
    """Decides when to log, evaluate and save."""

    def __init__(self, trainer: StageTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the untrained model before the first step of a new run."""
        if self._trainer.is_deepspeed_enabled:
            step_without_grad(self._trainer.model_wrapped)
        if self._trainer.start_step is None:
            if self._trainer.start_values:
                self._trainer.log(dict(self._trainer.start_values))
            self._trainer.evaluate()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.metrics.on_step_end(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        actions = actions_after(self._trainer.config, state.global_step, state.max_steps)
        control.should_log, control.should_evaluate, control.should_save = actions.log, actions.evaluate, actions.save
        control.should_training_stop = control.should_training_stop or actions.is_last
        return control


def _load_non_strict(model: nn.Module) -> None:
    """Let DeepSpeed load a checkpoint that holds the trained parameters alone."""
    load_state_dict = type(model).load_state_dict

    def load(state: Any, strict: bool = True, assign: bool = False) -> Any:
        return load_state_dict(model, state, strict=False, assign=assign)

    model.load_state_dict = load  # type: ignore[method-assign, assignment]
