"""Parts of an mmengine configuration: model, data loop, optimizer and schedule of a stage, for xtuner.

A configuration of `configs/xtuner/` names these types and a YAML file; everything else (data, optimizer, steps, logs)
is read from that file, so that both engines do the same. One iteration of xtuner is one micro-batch.
"""

from __future__ import annotations

# ruff: isort: off
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import colva.training.xtuner_imports  # noqa: F401  before anything of xtuner

import torch
from mmengine.model import BaseModel
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import set_random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, get_scheduler
from xtuner.engine.runner import TrainLoop

from colva.training.loader import training_loader
from colva.training.stage import Batch, StepResult
from colva.training.xtuner_run import XtunerRun, all_reduce_sum, get_run, uses_deepspeed
from mmvm_data.core.errors import UsageError
# ruff: isort: on


class StageModel(BaseModel):
    """The model of a stage with its loss; see `get_run` for the arguments.

    Attributes:
        steps_done: completed optimizer steps.
    """

    def __init__(self, config: str, changes: Sequence[str] = (), resume: bool = False) -> None:
        super().__init__()
        self.run = get_run(config, changes, resume)
        self.inner = self.run.stage.model
        self.steps_done = self.run.steps_done

    def init_weights(self) -> None:
        """Do nothing: the weights are loaded already, and mmengine would draw new ones."""

    def forward(self, inputs: Batch, scale: Tensor, weight: float, mode: str = "loss") -> dict[str, Tensor]:
        """A micro-batch's share of the step's loss, times what mmengine's wrappers divide it by.

        Args:
            inputs: a batch of the stage.
            scale: factor of its summed loss.
            weight: 0 for a batch that only keeps processes in step, otherwise 1.
            mode: only "loss".

        Raises:
            TrainingError: the loss is not finite.
        """
        if mode != "loss":
            raise ValueError(f"mode must be 'loss', got {mode!r}; `colva eval` runs the trained model")
        result = self.step(inputs)
        loss = result.loss * scale
        share = loss.detach() / self.run.sharding.accumulation_steps
        self.run.metrics.check_finite(share, self.steps_done)
        self.run.metrics.on_micro_batch(share, result.means, weight)
        return {"loss": loss}

    def step(self, inputs: Batch) -> StepResult:
        """The stage's own step, in bfloat16 if the configuration says so."""
        use_bf16 = self.run.config.trainer.precision == "bf16"
        with torch.autocast(next(self.inner.parameters()).device.type, torch.bfloat16, enabled=use_bf16):
            return self.run.stage.step(self.inner, inputs)


def unwrap_model(model: Any) -> StageModel:
    """The `StageModel` inside mmengine's wrappers."""
    while not isinstance(model, StageModel):
        # DeepSpeed's engine is `model` of mmengine's wrapper, and ours is `module` of the engine
        model = vars(model).get("model") or model.module
    return model


class StageLoop(TrainLoop):
    """xtuner's loop over the stage's data in our order; a resumed run continues at the next item.

    Args:
        runner: of mmengine.
        dataloader: of the configuration; its batch size must be that of the YAML file, as DeepSpeed reads it.
        config, changes, resume: see `get_run`.

    Raises:
        UsageError: the batch sizes differ.
    """

    def __init__(
        self, runner: Any, dataloader: Any, config: str, changes: Sequence[str] = (), resume: bool = False
    ) -> None:
        self._stage_run = run = get_run(config, changes, resume)
        micro_batch_size, accumulation_steps = run.sharding.micro_batch_size, run.sharding.accumulation_steps
        batch_size = dataloader.get("batch_size") if isinstance(dataloader, dict) else None
        if batch_size not in (None, micro_batch_size):
            raise UsageError(
                f"train_dataloader.batch_size: {batch_size} in the configuration of xtuner, but the micro-batch of "
                f"{config} is {micro_batch_size}"
            )
        loader = DataLoader(_PlaceholderDataset(), micro_batch_size)
        super().__init__(runner, loader, max_iters=run.num_steps * accumulation_steps)

    def run(self) -> Any:
        """Train; for a run that is complete already, only the final weights are written again.

        Raises:
            UsageError: accumulation or precision differ from the YAML file.
        """
        run, wrapper = self._stage_run, self.runner.optim_wrapper
        accumulation_steps = getattr(wrapper, "_accumulative_counts", None)
        if accumulation_steps is None:
            accumulation_steps = self.runner.model.gradient_accumulation_steps()
        if accumulation_steps != run.sharding.accumulation_steps:
            raise UsageError(
                f"optim_wrapper.accumulative_counts: {accumulation_steps} in the configuration of xtuner, but "
                "trainer.global_batch_size and trainer.micro_batch_size make it "
                f"{run.sharding.accumulation_steps}"
            )
        engine, precision = self.runner.model, run.config.trainer.precision
        if uses_deepspeed(self.runner) and (
            engine.fp16_enabled() or engine.bfloat16_enabled() != (precision == "bf16")
        ):
            raise UsageError(
                f"trainer.precision: {precision}, but DeepSpeed's configuration has another; xtuner's own command "
                "uses bf16 where a device supports it"
            )
        set_random_seed(run.config.seed)
        self.dataloader_iterator = _MicroBatches(run)
        self._iter = run.steps_done * run.sharding.accumulation_steps
        return super().run()


class _PlaceholderDataset(Dataset[Any]):
    """Replaces the data that mmengine would start to read before it has a model."""

    metainfo: Final[dict[str, Any]] = {}

    def __len__(self) -> int:
        return 1


class _MicroBatches:
    """Micro-batches with the factor of their loss; those that mmengine skips are not prepared."""

    def __init__(self, run: XtunerRun) -> None:
        self._run = run
        self._num_skipped = run.steps_done * run.sharding.accumulation_steps
        num_workers, pin_memory = run.config.trainer.num_workers, torch.cuda.is_available()
        self._loader = iter(
            training_loader(run.stage, run.sharding, run.num_steps, num_workers, pin_memory, run.steps_done)
        )
        self._queue: deque[dict[str, Any]] = deque()

    def __next__(self) -> dict[str, Any]:
        if self._num_skipped:
            self._num_skipped -= 1
            return {}
        if not self._queue:
            sharding, start = self._run.sharding, time.perf_counter()
            loaded = [next(self._loader) for _ in range(sharding.accumulation_steps)]
            batches, units = self._run.metrics.on_batches(loaded, time.perf_counter() - start)
            total = float(all_reduce_sum(torch.tensor([units], dtype=torch.float64)))
            # divided by the number of micro-batches and averaged over processes later on
            factor = sharding.num_processes * sharding.accumulation_steps / max(total, 1.0)
            for inputs, weight in batches:
                self._queue.append({"inputs": inputs, "scale": torch.tensor(factor * weight), "weight": weight})
        return self._queue.popleft()


class StageOptimizer(torch.optim.AdamW):
    """AdamW over the trained parameters, without decay of biases and norms, as transformers' Trainer groups them.

    Args:
        params: all parameters, from mmengine; the trained ones are selected by the stage.
        config, changes, resume: see `get_run`.
    """

    def __init__(self, params: Any, config: str, changes: Sequence[str] = (), resume: bool = False) -> None:
        run = get_run(config, changes, resume)
        options, model = run.config.optimizer, run.stage.model
        decayed = set(Trainer.get_decay_parameter_names(None, model))  # the method does not use its `self`
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for name, p in trained if name in decayed], "weight_decay": options.weight_decay},
            {"params": [p for name, p in trained if name not in decayed], "weight_decay": 0.0},
        ]
        super().__init__(
            [group for group in groups if group["params"]],
            lr=options.learning_rate,
            betas=options.betas,
            eps=options.eps,
        )


class StageSchedule(LRSchedulerMixin, _ParamScheduler):
    """The learning rates of transformers' schedules, as in the native engine.

    Args:
        optimizer: mmengine's wrapper.
        config, changes, resume: see `get_run`.
        epoch_length: passed by mmengine, not used.
    """

    def __init__(
        self, optimizer: Any, config: str, changes: Sequence[str] = (), resume: bool = False, **epoch_length: Any
    ) -> None:
        run = get_run(config, changes, resume)
        options = run.config.optimizer
        stub = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        num_warmup_steps = math.ceil(run.num_steps * options.warmup_ratio)  # rounded as in Trainer
        schedule = get_scheduler(options.lr_scheduler_type, stub, num_warmup_steps, run.num_steps)
        self._factor: Callable[[int], float] = getattr(schedule, "lr_lambdas")[0]  # noqa: B009
        self._accumulation_steps = run.sharding.accumulation_steps
        super().__init__(optimizer, by_epoch=False)
        self.last_step = run.steps_done * self._accumulation_steps
        self._last_value = self._get_value()
        for group, value in zip(self.optimizer.param_groups, self._last_value, strict=True):
            group[self.param_name] = value

    def _get_value(self) -> list[float]:
        factor = self._factor(self.last_step // self._accumulation_steps)
        return [base * factor for base in self.base_values]
