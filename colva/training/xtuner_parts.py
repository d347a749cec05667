"""What xtuner's and mmengine's configurations name: our model, data, schedule and checkpoints as their parts.

A configuration of `configs/xtuner/` names these types and one of our YAML files; everything else (data, optimiser,
steps, logs) is read from that file, so that both engines do the same. One iteration of xtuner is one micro-batch.
"""

from __future__ import annotations

# ruff: isort: off
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import colva.training.xtuner_imports  # noqa: F401  before anything of xtuner

import torch
from mmengine.dist import all_reduce, barrier, get_dist_info
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import set_random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, get_scheduler
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from xtuner.engine.runner import TrainLoop

from colva.config import FINAL
from colva.training import checkpoint
from colva.training.loader import training_loader
from colva.training.metrics import Meter, due
from colva.training.run import Job, checked, manner, opened, schedule_name
from colva.training.stage import Batch, Step
from colva.training.zero import step_without_gradient, trained_weights
from mmvm_data.core.errors import UsageError
# ruff: isort: on

ENGINE: Final = "xtuner"
_OPTIMISER, _CHANCE, _DEEPSPEED = "optimizer.pt", "rng_{}.pt", "deepspeed"


class _Job(Job):
    """A run, and what all parts share of it."""

    @property
    def done(self) -> int:
        """Steps that were done before."""
        return self.step or 0

    @cached_property
    def meter(self) -> Meter:
        """Of the run."""
        return Meter(self.stage, self.config, self.deal, self.deal.rank == 0, self.step, _summed)


_jobs: dict[str, _Job] = {}


def job_of(config: str, changes: Sequence[str] = (), resume: bool = False, way: str | None = None) -> _Job:
    """The run that a YAML file describes; every part of a configuration that names the file gets the same.

    Args:
        config: path of the file.
        changes: other values, such as `run.batch=32`.
        resume: go on from the newest complete checkpoint, if there is one.
        way: see `colva.training.run.manner`, where it is known before there is a runner; what is said when the run is
            first named counts.

    Raises:
        UsageError, InputError: see `colva.training.run.run`.
    """
    key = json.dumps([config, list(changes), resume])
    if key not in _jobs:
        settings, (rank, processes) = checked(Path(config), changes), get_dist_info()
        if settings.run.report:
            raise UsageError("run.report: only our own engine reports elsewhere; log.jsonl has the same figures")
        job = opened(settings, resume, way, processes, rank, reentrant=is_deepspeed_zero3_enabled())
        _jobs[key] = _Job(**vars(job))
    return _jobs[key]


def bare(model: Any) -> Tuner:
    """The tuner in mmengine's wrappers."""
    while not isinstance(model, Tuner):
        # DeepSpeed's engine lies in `model` of mmengine's wrapper, and ours in `module` of the engine
        model = vars(model).get("model") or model.module
    return model


def _summed(local: Tensor) -> Tensor:
    """Over all processes."""
    # gloo and NCCL both take float64 on their own device
    together = local.cuda() if torch.cuda.is_available() else local.clone()
    all_reduce(together, "sum")
    return together.cpu()


class Tuner(BaseModel):
    """The model of a stage with its loss; see `job_of` for the arguments.

    Attributes:
        done: optimiser steps that were taken.
    """

    def __init__(self, config: str, changes: Sequence[str] = (), resume: bool = False) -> None:
        super().__init__()
        self.job = job_of(config, changes, resume)
        self.inner = self.job.stage.model
        self.done = self.job.done

    def init_weights(self) -> None:
        """Nothing: they are loaded already, and mmengine would draw new ones."""

    def forward(self, inputs: Batch, scale: Tensor, weight: float, mode: str = "loss") -> dict[str, Tensor]:
        """A micro-batch's share of the step's loss, times what mmengine's wrappers divide it by.

        Args:
            inputs: a batch of the stage.
            scale: what its summed loss is multiplied with.
            weight: 0 for one that only keeps processes in step.
            mode: only "loss".

        Raises:
            TrainingFailed: the loss is no number.
        """
        if mode != "loss":
            raise ValueError(f"mode {mode!r}: a tuner gives losses; `colva eval` runs the trained model")
        taken = self.step(inputs)
        loss = taken.loss * scale
        share = loss.detach() / self.job.deal.rounds
        self.job.meter.refuse(share, self.done)
        self.job.meter.note(share, taken.means, weight)
        return {"loss": loss}

    def step(self, inputs: Batch) -> Step:
        """The stage's own step, in bfloat16 if the configuration says so."""
        half = self.job.config.run.precision == "bf16"
        with torch.autocast(next(self.inner.parameters()).device.type, torch.bfloat16, enabled=half):
            return self.job.stage.step(self.inner, inputs)


class StepLoop(TrainLoop):
    """xtuner's loop over the stage's data in our order, a restart at the next item.

    Args:
        runner: of mmengine.
        dataloader: what the configuration says; its batch size must be that of the YAML file, as DeepSpeed is told it.
        config, changes, resume: see `job_of`.
    """

    def __init__(
        self, runner: Any, dataloader: Any, config: str, changes: Sequence[str] = (), resume: bool = False
    ) -> None:
        self.job = job = job_of(config, changes, resume)
        said = dataloader.get("batch_size") if isinstance(dataloader, dict) else None
        if said not in (None, job.deal.micro):
            raise UsageError(
                f"train_dataloader.batch_size: {said} in the configuration of xtuner, but the micro-batch of {config} "
                f"is {job.deal.micro}"
            )
        super().__init__(runner, DataLoader(_Unread(), job.deal.micro), max_iters=job.steps * job.deal.rounds)

    def run(self) -> Any:
        """Train; of a run that is complete already only the final weights are written again."""
        job, wrapper = self.job, self.runner.optim_wrapper
        said = getattr(wrapper, "_accumulative_counts", None)
        if said is None:
            said = self.runner.model.gradient_accumulation_steps()
        if said != job.deal.rounds:
            raise UsageError(
                f"optim_wrapper.accumulative_counts: {said} in the configuration of xtuner, but run.batch and "
                f"run.micro_batch make it {job.deal.rounds}"
            )
        engine, half = self.runner.model, job.config.run.precision == "bf16"
        if _is_sharded(self.runner) and (engine.fp16_enabled() or engine.bfloat16_enabled() != half):
            raise UsageError(
                f"run.precision: {job.config.run.precision}, but DeepSpeed's configuration has another; xtuner's own "
                "command takes bf16 where a device has it"
            )
        set_random_seed(job.config.seed)
        self.dataloader_iterator = _Steps(job)
        self._iter = job.done * job.deal.rounds
        return super().run()


class _Unread(Dataset[Any]):
    """In the place of data that mmengine would begin to read before it has a model."""

    metainfo: Final[dict[str, Any]] = {}

    def __len__(self) -> int:
        return 1


class _Steps:
    """Micro-batches, each with the factor of its loss; those that mmengine skips are not prepared."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._skipped = job.done * job.deal.rounds
        workers, pinned = job.config.run.workers, torch.cuda.is_available()
        self._loader = iter(training_loader(job.stage, job.deal, job.steps, workers, pinned, job.done))
        self._ready: deque[dict[str, Any]] = deque()

    def __next__(self) -> dict[str, Any]:
        if self._skipped:
            self._skipped -= 1
            return {}
        if not self._ready:
            deal, start = self._job.deal, time.perf_counter()
            loaded = [next(self._loader) for _ in range(deal.rounds)]
            found, units = self._job.meter.taken(loaded, time.perf_counter() - start)
            total = float(_summed(torch.tensor([units], dtype=torch.float64)))
            # divided by the number of micro-batches and averaged over processes later on
            factor = deal.processes * deal.rounds / max(total, 1.0)
            for inputs, weight in found:
                self._ready.append({"inputs": inputs, "scale": torch.tensor(factor * weight), "weight": weight})
        return self._ready.popleft()


class Optimiser(torch.optim.AdamW):
    """AdamW over what is trained, without decay of biases and norms, as transformers' Trainer groups them.

    Args:
        params: what mmengine gives: all parameters, of which it takes those that are trained.
        config, changes, resume: see `job_of`.
    """

    def __init__(self, params: Any, config: str, changes: Sequence[str] = (), resume: bool = False) -> None:
        job = job_of(config, changes, resume)
        chosen, model = job.config.optimiser, job.stage.model
        decayed = set(Trainer.get_decay_parameter_names(None, model))  # it asks nothing of a trainer
        named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
        groups = [
            {"params": [one for name, one in named if name in decayed], "weight_decay": chosen.weight_decay},
            {"params": [one for name, one in named if name not in decayed], "weight_decay": 0.0},
        ]
        super().__init__(
            [group for group in groups if group["params"]], lr=chosen.lr, betas=chosen.betas, eps=chosen.eps
        )


class Schedule(LRSchedulerMixin, _ParamScheduler):
    """The learning rates of transformers' schedules, as our own engine has them.

    Args:
        optimizer: mmengine's wrapper.
        config, changes, resume: see `job_of`.
        epoch_length: of mmengine; nothing depends on it.
    """

    def __init__(
        self, optimizer: Any, config: str, changes: Sequence[str] = (), resume: bool = False, **epoch_length: Any
    ) -> None:
        job = job_of(config, changes, resume)
        stub = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        warmup = math.ceil(job.steps * job.config.optimiser.warmup)  # as Trainer rounds it
        made = get_scheduler(schedule_name(job.config), stub, warmup, job.steps)
        self._factor: Callable[[int], float] = getattr(made, "lr_lambdas")[0]  # noqa: B009
        self._rounds = job.deal.rounds
        super().__init__(optimizer, by_epoch=False)
        self.last_step = job.done * self._rounds
        self._last_value = self._get_value()
        for group, value in zip(self.optimizer.param_groups, self._last_value, strict=True):
            group[self.param_name] = value

    def _get_value(self) -> list[float]:
        factor = self._factor(self.last_step // self._rounds)
        return [base * factor for base in self.base_values]


class Flow(Hook):
    """When to log, evaluate and save, as our own engine does; see `job_of` for the arguments."""

    priority = "VERY_LOW"

    def __init__(self, config: str, changes: Sequence[str] = (), resume: bool = False) -> None:
        self._named = (config, changes, resume)
        self._rate = 0.0

    @property
    def _job(self) -> _Job:
        return job_of(*self._named)

    def before_train(self, runner: Any) -> None:
        """Go on where a checkpoint ends, or say what an untrained model can do."""
        if _is_sharded(runner):
            step_without_gradient(runner.model.model)
        if self._job.begun is None:
            self._evaluate(runner, 0)
        else:
            checkpoint.same_manner(self._job.begun, _way(runner))
            self._restore(runner, self._job.begun)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note the learning rate of the step, which the schedule changes before it is logged."""
        self._rate = float(runner.optim_wrapper.param_groups[0]["lr"])

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """At the end of each optimiser step: count it, and do what is due."""
        job = self._job
        step, left = divmod(batch_idx + 1, job.deal.rounds)
        if left:
            return
        job.meter.end_step(step - 1)
        bare(runner.model).done = step
        now = due(job.config, step, job.steps)
        if now.log:
            self._write(step, job.meter.gathered(step) | {"lr": self._rate} | _norm(runner))
        if now.evaluate:
            self._evaluate(runner, step)
        if now.save:
            start, keep, main = time.perf_counter(), job.config.run.keep, job.deal.rank == 0
            checkpoint.save(job.config.out, step, keep, main, barrier, lambda folder: self._keep(runner, folder))
            job.meter.pause(start)

    def after_train(self, runner: Any) -> None:
        """Write the trained weights."""
        job = self._job
        weights = trained_weights(job.stage.model, _is_sharded(runner))
        if job.deal.rank == 0:
            checkpoint.write_final(job.config.out / FINAL, lambda folder: job.stage.save(folder, weights))
        barrier()

    def _write(self, step: int, figures: dict[str, Any]) -> None:
        meter = self._job.meter
        meter.write(meter.place(step) | figures, self._job.steps)

    def _evaluate(self, runner: Any, step: int) -> None:
        start, tuner = time.perf_counter(), bare(runner.model)
        tuner.eval()

        @torch.no_grad()
        def forward(batch: Batch) -> Step:
            return tuner.step(tuner.data_preprocessor(batch))

        figures = self._job.meter.evaluated(forward, torch.cuda.is_available())
        if figures:
            self._write(step, figures)
            self._job.meter.pause(start)

    def _keep(self, runner: Any, folder: Path) -> None:
        job = self._job
        weights = trained_weights(job.stage.model, _is_sharded(runner))
        if job.deal.rank == 0:
            job.stage.save(folder, weights)
            checkpoint.write_config(folder, job.config, _way(runner))
        if _is_sharded(runner):
            runner.model.save_checkpoint(folder, tag=_DEEPSPEED, save_latest=False, exclude_frozen_parameters=True)
        elif job.deal.rank == 0:
            torch.save(runner.optim_wrapper.optimizer.state_dict(), folder / _OPTIMISER)
        chance = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            chance["cuda"] = torch.cuda.get_rng_state()
        torch.save(chance, folder / _CHANCE.format(job.deal.rank))

    def _restore(self, runner: Any, folder: Path) -> None:
        job = self._job
        if _is_sharded(runner):
            runner.model.load_checkpoint(folder, tag=_DEEPSPEED, load_module_strict=False)
        else:
            checkpoint.load_weights(folder, job.stage.model, job.stage.load)
            state = torch.load(folder / _OPTIMISER, map_location="cpu", weights_only=True)
            runner.optim_wrapper.optimizer.load_state_dict(state)
        chance = torch.load(folder / _CHANCE.format(job.deal.rank), weights_only=True)
        torch.set_rng_state(chance["cpu"])
        if "cuda" in chance and torch.cuda.is_available():
            torch.cuda.set_rng_state(chance["cuda"])


def _norm(runner: Any) -> dict[str, float]:
    """The gradient's norm before it was clipped, where somebody took it."""
    if _is_sharded(runner):
        return {"grad_norm": float(runner.model.get_global_grad_norm())}
    found = runner.message_hub.log_scalars.get("train/grad_norm")
    return {} if found is None else {"grad_norm": float(found.current())}


def _way(runner: Any) -> str:
    """See `colva.training.run.manner`."""
    if not _is_sharded(runner):
        return ENGINE
    return manner(ENGINE, {"zero_optimization": {"stage": runner.model.zero_optimization_stage()}})


def _is_sharded(runner: Any) -> bool:
    """Whether DeepSpeed runs the model."""
    return not isinstance(runner.model, nn.Module)
