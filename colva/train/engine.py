"""The training engine: transformers' Trainer with our data order, loss normalisation, logs and checkpoints.

Trainer brings DDP, DeepSpeed, mixed precision, accumulation, schedules, TensorBoard and W&B. What is changed:

- data by ordinal (`colva.train.loader`): a restart goes on at the next item, nothing is read or prepared twice;
- a step's loss is the sum over all its units, over all micro-batches and processes, over their number;
- checkpoints are complete or absent and hold the trained weights alone (`colva.train.checkpoint`);
- `log.jsonl` has one line for each logged step, and after a restart exactly those of an unbroken run.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from colva.config import TrainConfig
from colva.train import checkpoint
from colva.train.loader import Dealing, evaluation_loader, training_loader
from colva.train.logs import Log, Rejects, memory_mb, peak_flops, shown
from colva.train.stage import Data, Stage, part_of
from mmvm_data.errors import InputError, OutputError, UsageError

_ENOUGH = 200
_LOOKED_AT = 1000
_STATE = "trainer_state.json"

# with gloo a process is at "cpu:0", and Trainer loads the optimiser to that place, which torch does not know
torch.serialization.register_package(
    15, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
)


class TrainingFailed(UsageError):
    """A run that cannot go on, such as one whose loss is no number."""


class Engine(Trainer):
    """One stage under Trainer; `run` in `colva.train.run` makes it."""

    def __init__(
        self, stage: Stage, config: TrainConfig, arguments: TrainingArguments, deal: Dealing, begun: int | None
    ) -> None:
        self.stage = stage
        self.config = config
        self.deal = deal
        self.begun = begun
        self.out = config.out
        self._sums: dict[str, list[Any]] = defaultdict(lambda: [0.0, 0.0])
        self._rates: dict[str, float] = defaultdict(float)
        self._pending: list[Any] = []
        self._seen = self._rejected = 0
        self._last: Any = None
        self._step_loss: Any = None
        self._logged_at = (begun or 0, time.perf_counter())
        self._peak = peak_flops(config.run.peak_tflops)
        super().__init__(model=stage.model, args=arguments, callbacks=[_Flow(self)])
        self.model_accepts_loss_kwargs = True  # the loss is divided here, by the number of units
        for callback in list(self.callback_handler.callbacks):
            if type(callback).__name__ == "PrinterCallback":
                self.remove_callback(callback)
        if self.is_deepspeed_enabled:
            _load_trained_only(stage.model)
        self.journal = Log(self.out, -1 if begun is None else begun) if self.is_world_process_zero() else None
        self.rejects = Rejects(self.out, begun is not None)

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
        self._rates["waited"] += time.perf_counter() - start
        found, units = [], 0
        for one in loaded:
            self._seen += one["seen"]
            self._pending.extend(one["rejects"])
            self._rejected += len(one["rejects"])
            weight = float(one["inputs"] is not None)
            if one["inputs"] is not None:
                self._last = one["inputs"]
                units += self.stage.units(one["inputs"])
            elif self._last is None:
                self._last = self._stand_in(self.stage.train)
            for name, count in self.stage.counts(self._last).items():
                self._rates[name] += count * weight
            # a micro-batch without a usable item runs on the one before, at weight 0, so that processes stay in step
            found.append({"inputs": self._last, "weight": weight})
        total = self.accelerator.gather(torch.tensor([units], device=device)).sum()
        return found, total

    def _stand_in(self, data: Data) -> Any:
        """A batch of the first usable item, for a process whose first micro-batch has none."""
        reject = None
        for ordinal in range(min(len(data), _LOOKED_AT)):
            item = part_of(data[ordinal])
            if item.value is not None:
                return self.stage.collate([item.value])
            reject = reject or item.rejects[0]
        assert reject is not None
        raise TrainingFailed(f"none of the first {ordinal + 1} items is usable, such as {reject.file}: {reject.reason}")

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
            self._refuse(loss)
        with torch.no_grad():
            part = loss.detach().double()
            self._step_loss = part if self._step_loss is None else self._step_loss + part
            for name, (total, number) in taken.means.items():
                self._sums[name][0] = self._sums[name][0] + total * inputs["weight"]
                self._sums[name][1] = self._sums[name][1] + number * inputs["weight"]
        return (loss, None) if return_outputs else loss

    def end_of_step(self) -> None:
        """Count the loss of a step, before the optimiser takes it in."""
        self._refuse(self._step_loss)
        self._sums["loss"][0] = self._sums["loss"][0] + self._step_loss
        self._sums["loss"][1] += 1.0
        self._step_loss = None

    def _refuse(self, loss: Tensor) -> None:
        """Stop at a loss that is no number."""
        if not bool(torch.isfinite(loss)):
            first = self.state.global_step * self.deal.batch
            raise TrainingFailed(
                f"step {self.state.global_step + 1}: the loss is {loss.item()} (items {first} to "
                f"{first + self.deal.batch - 1} of the run); nothing was changed by it, the last checkpoint is whole. "
                "Lower optimiser.lr, or look at these items"
            )

    # logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write what Trainer says with what was gathered since the last time; called in every process."""
        if "train_runtime" in logs:  # its own summary at the end
            return
        record: dict[str, Any] = {"step": self.state.global_step}
        record["epoch"] = round(self.state.global_step * self.deal.batch / len(self.stage.train), 4)
        if "loss" in logs:
            record |= self._gathered() | {"lr": logs["learning_rate"]}
            if "grad_norm" in logs:
                record["grad_norm"] = float(logs["grad_norm"])
        else:
            record |= logs
        if self.journal is not None:
            self.journal.write(record)
            print(shown(record, self.state.max_steps), flush=True)
        self.control: Any = self.callback_handler.on_log(self.args, self.state, self.control, dict(record))

    def _gathered(self) -> dict[str, Any]:
        """The means and rates of the window that ends here, over all processes."""
        step, before = self.state.global_step, self._logged_at
        elapsed = max(time.perf_counter() - before[1], 1e-9)
        names, rates = sorted(self._sums), sorted(self._rates)
        values = [float(part) for name in names for part in self._sums[name]] + [self._rates[name] for name in rates]
        local = torch.tensor([*values, self._seen, self._rejected], dtype=torch.float64)
        together = self._summed(local).tolist()
        sums = {name: together[2 * k] / max(together[2 * k + 1], 1e-9) for k, name in enumerate(names)}
        rate = dict(zip(rates, together[2 * len(names) :], strict=False))
        record: dict[str, Any] = {"loss": sums.pop("loss")} | sums
        record["seconds"] = round(elapsed / max(step - before[0], 1), 4)
        record["data_share"] = round(rate.pop("waited", 0.0) / self.deal.processes / elapsed, 4)
        flops = rate.pop("flops", None)
        record |= {f"{name}_per_s": round(count / elapsed, 2) for name, count in rate.items()}
        if flops is not None:
            record["tflops"] = round(flops / elapsed / 1e12, 3)
            if self._peak:
                record["mfu"] = round(flops / elapsed / self.deal.processes / self._peak, 4)
        record["memory_mb"] = memory_mb()
        self._note_rejects(int(together[-2]), int(together[-1]))
        record["rejects"] = len(self.rejects)
        self._sums.clear()
        self._rates.clear()
        self._logged_at = (step, time.perf_counter())
        return record

    def _summed(self, local: Tensor) -> Tensor:
        # gloo and NCCL both take float64 on their own device
        return self.accelerator.reduce(local.to(self.args.device), "sum").cpu()

    def _note_rejects(self, seen: int, rejected: int) -> None:
        everyone = gather_object(self._pending)
        self._pending = []
        if self.is_world_process_zero():
            self.rejects.add(everyone)
        if seen >= _ENOUGH and rejected > self.config.run.most_rejects * seen:
            raise TrainingFailed(
                f"{rejected} of {seen} items were unusable, more than run.most_rejects allows "
                f"({self.config.run.most_rejects:g}); {self.rejects.path} lists them"
            )

    # evaluation

    def evaluate(self, *arguments: Any, **given: Any) -> dict[str, float]:
        """Loss and figures over the held-out part, every item once; nothing without one."""
        data: Data | None = self.stage.held_out
        if data is None:
            return {}
        start = time.perf_counter()
        loader, counted = evaluation_loader(
            data, self.stage, self.deal, self.config.run.workers, self.args.device.type == "cuda"
        )
        self.model_wrapped.eval()
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        last: Any = None
        bad = 0
        for counts, one in zip(counted, loader, strict=True):
            bad += len(one["rejects"]) * counts
            last = one["inputs"] if one["inputs"] is not None else last or self._stand_in(data)
            weight = float(counts and one["inputs"] is not None)
            with torch.no_grad(), self.compute_loss_context_manager():
                taken = self.stage.step(self.model_wrapped, self._prepare_inputs(last))
            means = {"loss": (taken.loss, self.stage.units(last))} | dict(taken.means)
            for name, (total, number) in means.items():
                sums[name][0] += float(total) * weight
                sums[name][1] += float(number) * weight
        names = sorted(sums)
        together = self._summed(torch.tensor([*(v for n in names for v in sums[n]), bad], dtype=torch.float64)).tolist()
        figures = {f"eval_{n}": together[2 * k] / max(together[2 * k + 1], 1.0) for k, n in enumerate(names)}
        figures["eval_seconds"] = round(time.perf_counter() - start, 3)
        if together[-1]:
            figures["eval_rejects"] = int(together[-1])
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        self._pause(start)
        return figures

    def _pause(self, start: float) -> None:
        """Leave the time since `start` out of the rates."""
        self._logged_at = (self._logged_at[0], self._logged_at[1] + time.perf_counter() - start)

    # checkpoints

    def trained_weights(self) -> dict[str, Tensor]:
        """Every trained parameter on the CPU, whole; called in every process."""
        parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if self.is_deepspeed_enabled:
            import deepspeed

            found = {}
            for name, parameter in parameters.items():
                with deepspeed.zero.GatheredParameters([parameter], modifier_rank=None):
                    found[name] = parameter.detach().cpu().clone()
            return found
        return {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        start = time.perf_counter()
        step = self.state.global_step
        try:
            if self.is_world_process_zero():
                hidden = checkpoint.begin(self.out, step)
            self.accelerator.wait_for_everyone()
            hidden = checkpoint.hidden_folder(self.out, step)
            weights = self.trained_weights()
            if self.is_world_process_zero():
                self.stage.save(hidden, weights)
                checkpoint.write_config(hidden, self.config)
                self.state.save_to_json(str(hidden / _STATE))
            if self.is_deepspeed_enabled:
                self.model_wrapped.save_checkpoint = functools.partial(
                    type(self.model_wrapped).save_checkpoint, self.model_wrapped, exclude_frozen_parameters=True
                )
            self._save_optimizer_and_scheduler(str(hidden))
            self._save_scaler(str(hidden))
            self._save_rng_state(str(hidden))
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap a full disk
            checkpoint.discard(self.out, step)
            if isinstance(error, OSError):
                raise OutputError(checkpoint.folder_of(self.out, step), error) from error
            said = str(error).splitlines()[0]
            raise TrainingFailed(f"{checkpoint.folder_of(self.out, step)}: cannot write: {said}") from error
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            checkpoint.finish(self.out, step)
            checkpoint.rotate(self.out, self.config.run.keep)
        self.accelerator.wait_for_everyone()
        self._pause(start)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        given = self.stage.load(Path(resume_from_checkpoint))
        wanted = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if given.keys() != wanted.keys():
            odd = sorted(given.keys() ^ wanted.keys())
            raise InputError(resume_from_checkpoint, f"other weights than are trained here, such as {odd[0]}")
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(given[name])


class _Flow(TrainerCallback):
    """When to log, evaluate and save."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Say what an untrained model can do, before the first step of a new run."""
        if self._engine.is_deepspeed_enabled:
            # ZeRO 1 and 2 gather into a buffer that has a gradient function, which gloo may not write to otherwise
            wrapped = self._engine.model_wrapped
            wrapped.step = torch.no_grad()(wrapped.step)
        if self._engine.begun is None:
            self._engine.evaluate()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._engine.end_of_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        run, step = self._engine.config.run, state.global_step
        last = step >= state.max_steps
        control.should_log = step % run.log_every == 0 or last
        control.should_evaluate = bool(run.eval_every and step % run.eval_every == 0) or last
        control.should_save = bool(run.save_every and step % run.save_every == 0) or last
        control.should_training_stop = control.should_training_stop or last
        return control


def _load_trained_only(model: nn.Module) -> None:
    """Let DeepSpeed load a checkpoint that holds the trained parameters alone."""
    whole = type(model).load_state_dict

    def load(state: Any, strict: bool = True, assign: bool = False) -> Any:
        return whole(model, state, strict=False, assign=assign)

    model.load_state_dict = load  # type: ignore[method-assign, assignment]
