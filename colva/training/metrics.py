"""What both engines share: when to log, evaluate and save, and the metrics of a run.

A step's loss is the sum over all its units, over all micro-batches and processes, divided by their number; so a
micro-batch needs the number of units of the whole step before its backward pass.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from colva.config import TrainConfig
from colva.training.checkpoint import TrainingError
from colva.training.loader import BatchSharding, evaluation_loader
from colva.training.logs import MetricsLog, RejectsLog, device_peak_flops, format_record, memory_in_use_mb
from colva.training.stage import Batch, Stage, StepResult, TrainingData, as_partial
from mmvm_data.core.errors import escape_unprintable
from mmvm_data.core.intervals import wilson_interval
from mmvm_data.core.plurals import pluralize

_MIN_SEEN_FOR_LIMIT: Final = 200
_MAX_SEARCHED: Final = 1000


@dataclass(frozen=True)
class StepActions:
    """What to do after a step, and whether it is the last."""

    log: bool
    evaluate: bool
    save: bool
    is_last: bool


def actions_after(config: TrainConfig, step: int, num_steps: int) -> StepActions:
    """The actions that a configuration asks for after a step; after the last one all of them."""
    trainer, is_last = config.trainer, step >= num_steps
    return StepActions(
        log=is_last or step % trainer.logging_steps == 0,
        evaluate=is_last or bool(trainer.eval_steps and step % trainer.eval_steps == 0),
        save=is_last or bool(trainer.save_steps and step % trainer.save_steps == 0),
        is_last=is_last,
    )


class MetricsTracker:
    """Collects, logs and evaluates the metrics of one run in one process.

    Args:
        stage, config, sharding: of the run.
        is_main: this is the main process, which writes the files.
        start_step: the step that the run resumes after; None for a new run.
        all_reduce_sum: sums a float64 tensor over all processes.

    Attributes:
        rejects: `rejects.jsonl`.
    """

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        sharding: BatchSharding,
        is_main: bool,
        start_step: int | None,
        all_reduce_sum: Callable[[Tensor], Tensor],
    ) -> None:
        self._stage = stage
        self._config = config
        self._sharding = sharding
        self._is_main = is_main
        self._all_reduce_sum = all_reduce_sum
        self._sums: dict[str, list[Any]] = defaultdict(lambda: [0.0, 0.0])
        self._totals: dict[str, float] = defaultdict(float)
        self._new_rejects: list[Any] = []
        self._num_seen = self._num_rejected = 0
        self._last_inputs: Any = None
        self._step_loss: Any = None
        self._window_start = (start_step or 0, time.perf_counter())
        self._peak_flops = device_peak_flops(config.trainer.peak_tflops)
        log_start = -1 if start_step is None else start_step
        self._log = MetricsLog(config.output_dir, log_start) if is_main else None
        self.rejects = RejectsLog(config.output_dir, start_step is not None)

    def on_batches(
        self, loaded: Sequence[Mapping[str, Any]], wait_seconds: float
    ) -> tuple[list[tuple[Batch, float]], int]:
        """Record the micro-batches of a step before they are used.

        A micro-batch without a usable item reuses the inputs of the one before at weight 0, so that processes stay in
        step.

        Args:
            loaded: the loader's output.
            wait_seconds: how long the loader took.

        Returns:
            The inputs of each micro-batch with their weight (0 or 1), and the number of units of all.
        """
        self._totals["waited"] += wait_seconds
        batches, units = [], 0
        for entry in loaded:
            self._num_seen += entry["seen"]
            self._new_rejects.extend(entry["rejects"])
            self._num_rejected += len(entry["rejects"])
            weight = float(entry["inputs"] is not None)
            if entry["inputs"] is not None:
                self._last_inputs = entry["inputs"]
                units += self._stage.count_units(entry["inputs"])
            elif self._last_inputs is None:
                self._last_inputs = self._make_placeholder(self._stage.train)
            for name, count in self._stage.count_throughput(self._last_inputs).items():
                self._totals[name] += count * weight
            batches.append((self._last_inputs, weight))
        return batches, units

    def _make_placeholder(self, data: TrainingData) -> Batch:
        """A batch of the first usable item, for a process whose first micro-batch has none."""
        first_reject = None
        for ordinal in range(min(len(data), _MAX_SEARCHED)):
            item = as_partial(data[ordinal])
            if item.value is not None:
                return self._stage.collate([item.value])
            first_reject = first_reject or item.rejects[0]
        assert first_reject is not None
        raise TrainingError(
            f"none of the first {ordinal + 1} items is usable, such as {first_reject.file}: {first_reject.reason}"
        )

    @torch.no_grad()
    def on_micro_batch(
        self, loss: Tensor, means: Mapping[str, tuple[Tensor | float, Tensor | float]], weight: float
    ) -> None:
        """Record a micro-batch: its share of the step's loss, and its means."""
        part = loss.detach().double()
        self._step_loss = part if self._step_loss is None else self._step_loss + part
        for name, (total, count) in means.items():
            self._sums[name][0] = self._sums[name][0] + total * weight
            self._sums[name][1] = self._sums[name][1] + count * weight

    def on_step_end(self, steps_done: int) -> None:
        """Record the loss of a step; `steps_done` were completed before it.

        Raises:
            TrainingError: the loss is not finite.
        """
        self.check_finite(self._step_loss, steps_done)  # the only value that a step reads from its device
        self._sums["loss"][0] = self._sums["loss"][0] + self._step_loss
        self._sums["loss"][1] += 1.0
        self._step_loss = None

    def check_finite(self, loss: Tensor, steps_done: int) -> None:
        """Stop at a loss that is not finite.

        Raises:
            TrainingError: it is not; the message names the step and its items.
        """
        if not bool(torch.isfinite(loss)):
            size = self._sharding.global_batch_size
            first = steps_done * size
            raise TrainingError(
                f"step {steps_done + 1}: the loss is {loss.item()} (items {first} to {first + size - 1} of the run); "
                "no weight was changed by it, the last checkpoint is complete. Lower optimizer.learning_rate, or "
                "inspect these items"
            )

    def step_and_epoch(self, step: int) -> dict[str, Any]:
        """The first entries of every line of the log."""
        return {"step": step, "epoch": round(step * self._sharding.global_batch_size / len(self._stage.train), 4)}

    def write(self, record: Mapping[str, Any], num_steps: int) -> None:
        """Write a line to the log and the screen, in the main process; `num_steps` are those of the run."""
        if self._log is not None:
            self._log.write(record)
            print(escape_unprintable(format_record(record, num_steps)), flush=True)

    def summarize_window(self, step: int) -> dict[str, Any]:
        """The means and rates of the window that ends after a step, over all processes; called in each of them.

        Raises:
            TrainingError: more items were unusable than the configuration allows.
        """
        start_step, start_time = self._window_start
        elapsed = max(time.perf_counter() - start_time, 1e-9)
        names, totals = sorted(self._sums), sorted(self._totals)
        values = [part for name in names for part in self._sums[name]] + [self._totals[name] for name in totals]
        local = _stack_numbers([*values, self._num_seen, self._num_rejected])
        reduced = self._all_reduce_sum(local).tolist()
        means = {name: reduced[2 * k] / max(reduced[2 * k + 1], 1e-9) for k, name in enumerate(names)}
        total = dict(zip(totals, reduced[2 * len(names) :], strict=False))
        record: dict[str, Any] = {"loss": means.pop("loss")} | means
        record["seconds"] = round(elapsed / max(step - start_step, 1), 4)
        record["data_share"] = round(total.pop("waited", 0.0) / self._sharding.num_processes / elapsed, 4)
        flops = total.pop("flops", None)
        record |= {f"{name}_per_s": round(count / elapsed, 2) for name, count in total.items()}
        if flops is not None:
            record["tflops"] = round(flops / elapsed / 1e12, 3)
            if self._peak_flops:
                record["mfu"] = round(flops / elapsed / self._sharding.num_processes / self._peak_flops, 4)
        record["memory_mb"] = memory_in_use_mb()
        self._report_rejects(int(reduced[-2]), int(reduced[-1]))
        record["rejects"] = len(self.rejects)
        self._sums.clear()
        self._totals.clear()
        self._window_start = (step, time.perf_counter())
        return record

    def _report_rejects(self, num_seen: int, num_rejected: int) -> None:
        gathered = [self._new_rejects]
        if self._sharding.num_processes > 1:
            gathered = [[] for _ in range(self._sharding.num_processes)]
            torch.distributed.all_gather_object(gathered, self._new_rejects)
        self._new_rejects = []
        if self._is_main:
            self.rejects.add(reject for part in gathered for reject in part)
        limit = self._config.trainer.max_reject_share
        if num_seen >= _MIN_SEEN_FOR_LIMIT and num_rejected > limit * num_seen:
            raise TrainingError(
                f"{num_rejected} of {pluralize(num_seen, 'item')} cannot be used, more than "
                f"trainer.max_reject_share allows ({limit:g}); {self.rejects.path} lists them"
            )

    def evaluate(self, step: Callable[[Batch], StepResult], pin_memory: bool) -> dict[str, float]:
        """Loss and means over the held-out items, each once; empty without held-out data. Called in each process.

        Args:
            step: forward pass of a batch, which it moves to the device, without gradients and in eval mode.
            pin_memory: for a GPU.
        """
        data = self._stage.held_out
        if data is None:
            return {}
        start = time.perf_counter()
        num_workers = self._config.trainer.num_workers
        loader, counted = evaluation_loader(data, self._stage, self._sharding, num_workers, pin_memory)
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        shares: set[str] = set()
        inputs: Any = None
        num_rejected = 0
        for counts, entry in zip(counted, loader, strict=True):
            num_rejected += len(entry["rejects"]) * counts
            inputs = entry["inputs"] if entry["inputs"] is not None else inputs or self._make_placeholder(data)
            weight = float(counts and entry["inputs"] is not None)
            result = step(inputs)
            means = {"loss": (result.loss, self._stage.count_units(inputs))} | dict(result.means)
            for name, (total, count) in (means | dict(result.hits)).items():
                sums[name][0] += float(total) * weight
                sums[name][1] += float(count) * weight
            shares.update(result.hits)
        names = self._unite(sums)
        shares = set(self._unite(shares))
        local = torch.tensor([*(value for name in names for value in sums[name]), num_rejected], dtype=torch.float64)
        reduced = self._all_reduce_sum(local).tolist()
        metrics = {f"eval_{name}": reduced[2 * k] / max(reduced[2 * k + 1], 1.0) for k, name in enumerate(names)}
        for name in sorted(shares):
            count = max(reduced[2 * names.index(name) + 1], 1.0)
            low, high = wilson_interval(metrics[f"eval_{name}"], count)
            metrics |= {f"eval_{name}_low": low, f"eval_{name}_high": high, f"eval_{name}_cases": int(count)}
        metrics["eval_seconds"] = round(time.perf_counter() - start, 3)
        if reduced[-1]:
            metrics["eval_rejects"] = int(reduced[-1])
        return metrics

    def _unite(self, names: Iterable[str]) -> list[str]:
        """The names that any process has, in one order; called in each process."""
        gathered: list[Any] = [sorted(names)]
        if self._sharding.num_processes > 1:
            gathered = [None] * self._sharding.num_processes
            torch.distributed.all_gather_object(gathered, sorted(names))
        return sorted({name for part in gathered for name in part})

    def exclude_time_since(self, start: float) -> None:
        """Leave the time since `start` (of `time.perf_counter`) out of the rates."""
        step, window_start = self._window_start
        self._window_start = (step, window_start + time.perf_counter() - start)


def _stack_numbers(numbers: Sequence[Tensor | float]) -> Tensor:
    """Numbers and scalar tensors as float64 `[n]`, on the device of the tensors, from which they are read at once."""
    device = next((number.device for number in numbers if isinstance(number, Tensor)), torch.device("cpu"))
    values = [
        number.to(device, torch.float64) if isinstance(number, Tensor) else torch.tensor(number, dtype=torch.float64)
        for number in numbers
    ]
    return torch.stack([value.to(device) for value in values])
