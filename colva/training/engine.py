"""The training engine: transformers' Trainer with our data order, loss normalisation, logs and checkpoints.

Trainer brings DDP, DeepSpeed, mixed precision, accumulation, schedules, TensorBoard and W&B. What is changed:

- data by ordinal (`colva.training.loader`): a restart goes on at the next item, nothing is read or prepared twice;
- a step's loss is the sum over all its units, over all micro-batches and processes, over their number;
- checkpoints are complete or absent and hold the trained weights alone (`colva.training.checkpoint`);
- `log.jsonl` has one line for each logged step, and after a restart exactly those of an unbroken run.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME

from colva.config import TrainConfig
from colva.training import checkpoint, fsdp
from colva.training.loader import Dealing, training_loader
from colva.training.metrics import Meter, due
from colva.training.stage import Batch, Stage, Step
from colva.training.zero import step_without_gradient, trained_weights

# with gloo a process is at "cpu:0", and Trainer loads the optimiser to that place, which torch does not know
torch.serialization.register_package(
    15, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
)


class Engine(Trainer):
    """One stage under Trainer; `run` in `colva.training.run` makes it.

    Args:
        stage, config, arguments, deal: of the run.
        begun: the step of the checkpoint that it goes on from.
        manner: see `colva.training.run.manner`.
        sharded: the model was given to `fsdp.shard`.
    """

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        arguments: TrainingArguments,
        deal: Dealing,
        begun: int | None,
        manner: str = checkpoint.PLAIN,
        sharded: bool = False,
    ) -> None:
        self.stage = stage
        self.config = config
        self.deal = deal
        self.begun = begun
        self.manner = manner
        self.sharded = sharded
        self.out = config.out
        super().__init__(model=stage.model, args=arguments, callbacks=[_Flow(self)])
        self.model_accepts_loss_kwargs = True  # the loss is divided here, by the number of units
        for callback in list(self.callback_handler.callbacks):
            if type(callback).__name__ == "PrinterCallback":
                self.remove_callback(callback)
        if self.is_deepspeed_enabled:
            _load_trained_only(stage.model)
        self.meter = Meter(stage, config, deal, self.is_world_process_zero(), begun, self._summed)

    def _wrap_model(self, model: nn.Module, *arguments: Any, **given: Any) -> nn.Module:
        return fsdp.Outside(model) if self.sharded else super()._wrap_model(model, *arguments, **given)

    # data

    def create_optimizer(self, *given: Any) -> Any:
        """Trainer's, without groups that hold nothing: DeepSpeed drops these, and a schedule would have too many."""
        optimizer = super().create_optimizer(*given)
        optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
        return optimizer

    def get_train_dataloader(self) -> Any:
        """Not prepared by accelerate: it is dealt already."""
        return training_loader(
            self.stage, self.deal, self.args.max_steps, self.config.run.workers, self.args.device.type == "cuda"
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one step and the number of its units over all processes; notes the wait and rejects."""
        start = time.perf_counter()
        loaded = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        found, units = self.meter.taken(loaded, time.perf_counter() - start)
        total = self.accelerator.gather(torch.tensor([units], device=device)).sum()
        return [{"inputs": inputs, "weight": weight} for inputs, weight in found], total

    # the step

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """The micro-batch's share of the step's mean loss, times the number of processes (gradients are averaged)."""
        taken = self.stage.step(model, inputs["inputs"])
        units = torch.ones((), device=taken.loss.device) if num_items_in_batch is None else num_items_in_batch
        loss = taken.loss * (inputs["weight"] * self.deal.processes) / units.clamp(min=1)
        if self.is_deepspeed_enabled:  # which takes its step inside the backward pass
            self.meter.refuse(loss, self.state.global_step)
        self.meter.note(loss, taken.means, inputs["weight"])
        return (loss, None) if return_outputs else loss

    # logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write what Trainer says with what was gathered since the last time; called in every process."""
        if "train_runtime" in logs:  # its own summary at the end
            return
        record = self.meter.place(self.state.global_step)
        if "loss" in logs:
            record |= self.meter.gathered(self.state.global_step) | {"lr": logs["learning_rate"]}
            if "grad_norm" in logs:
                record["grad_norm"] = float(logs["grad_norm"])
        else:
            record |= logs
        self.meter.write(record, self.state.max_steps)
        self.control: Any = self.callback_handler.on_log(self.args, self.state, self.control, dict(record))

    def _summed(self, local: Tensor) -> Tensor:
        # gloo and NCCL both take float64 on their own device
        return self.accelerator.reduce(local.to(self.args.device), "sum").cpu()

    # evaluation

    def evaluate(self, *arguments: Any, **given: Any) -> dict[str, float]:
        """Loss and figures over the held-out part, every item once; nothing without one."""
        start = time.perf_counter()
        self.model_wrapped.eval()
        figures = self.meter.evaluated(self._forward, self.args.device.type == "cuda")
        if self.sharded:
            self.model.reshard()  # which otherwise a backward pass does
        if figures:
            self.log(figures)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
            self.meter.pause(start)
        return figures

    @torch.no_grad()
    def _forward(self, batch: Batch) -> Step:
        with self.compute_loss_context_manager():
            return self.stage.step(self.model_wrapped, self._prepare_inputs(batch))

    # checkpoints

    def trained_weights(self) -> dict[str, Tensor]:
        """Every trained parameter on the CPU, whole; called in every process."""
        return trained_weights(self.model, self.is_deepspeed_enabled)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        start = time.perf_counter()
        main = self.is_world_process_zero()
        checkpoint.save(
            self.out,
            self.state.global_step,
            self.config.run.keep,
            main,
            self.accelerator.wait_for_everyone,
            self._write,
        )
        self.meter.pause(start)

    def _write(self, folder: Path) -> None:
        weights = self.trained_weights()
        if self.is_world_process_zero():
            self.stage.save(folder, weights)
            checkpoint.write_config(folder, self.config, self.manner)
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
        if self.is_deepspeed_enabled:
            self.model_wrapped.save_checkpoint = functools.partial(
                type(self.model_wrapped).save_checkpoint, self.model_wrapped, exclude_frozen_parameters=True
            )
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        main = self.is_world_process_zero()
        fsdp.save_optimiser(self.model, self.optimizer.optimizer, Path(output_dir), main)
        if main:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.sharded or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        fsdp.load_optimiser(self.model, self.optimizer.optimizer, Path(checkpoint))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoint.load_weights(Path(resume_from_checkpoint), self.model, self.stage.load)


class _Flow(TrainerCallback):
    """When to log, evaluate and save."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Say what an untrained model can do, before the first step of a new run."""
        if self._engine.is_deepspeed_enabled:
            step_without_gradient(self._engine.model_wrapped)
        if self._engine.begun is None:
            self._engine.evaluate()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._engine.meter.end_step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        now = due(self._engine.config, state.global_step, state.max_steps)
        control.should_log, control.should_evaluate, control.should_save = now.log, now.evaluate, now.save
        control.should_training_stop = control.should_training_stop or now.last
        return control


def _load_trained_only(model: nn.Module) -> None:
    """Let DeepSpeed load a checkpoint that holds the trained parameters alone."""
    whole = type(model).load_state_dict

    def load(state: Any, strict: bool = True, assign: bool = False) -> Any:
        return whole(model, state, strict=False, assign=assign)

    model.load_state_dict = load  # type: ignore[method-assign, assignment]
