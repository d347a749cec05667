"""What both engines share of a step: which batches it takes, what they measure, and what a line of the log says.

A step's loss is the sum over all its units, over all micro-batches and processes, over their number; so a micro-batch
needs the units of the whole step before its backward pass.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from colva.config import TrainConfig
from colva.training.checkpoint import TrainingFailed
from colva.training.loader import Dealing, evaluation_loader
from colva.training.logs import Log, Rejects, memory_mb, peak_flops, shown
from colva.training.stage import Batch, Data, Stage, Step, part_of

_ENOUGH: Final = 200
_LOOKED_AT: Final = 1000


@dataclass(frozen=True)
class Due:
    """What is to be done after a step, which is the `last` or not."""

    log: bool
    evaluate: bool
    save: bool
    last: bool


def due(config: TrainConfig, step: int, steps: int) -> Due:
    """What a configuration asks for after a step of so many; after the last one everything."""
    run, last = config.run, step >= steps
    return Due(
        log=last or step % run.log_every == 0,
        evaluate=last or bool(run.eval_every and step % run.eval_every == 0),
        save=last or bool(run.save_every and step % run.save_every == 0),
        last=last,
    )


class Meter:
    """Counts of one run in one process.

    Args:
        stage, config, deal: of the run.
        main: this is the first process, which writes.
        step: the run goes on from here; None for a new one.
        summed: adds up a float64 tensor over all processes.

    Attributes:
        rejects: `rejects.jsonl`.
    """

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        deal: Dealing,
        main: bool,
        step: int | None,
        summed: Callable[[Tensor], Tensor],
    ) -> None:
        self._stage = stage
        self._config = config
        self._deal = deal
        self._main = main
        self._summed = summed
        self._sums: dict[str, list[Any]] = defaultdict(lambda: [0.0, 0.0])
        self._rates: dict[str, float] = defaultdict(float)
        self._pending: list[Any] = []
        self._seen = self._rejected = 0
        self._last: Any = None
        self._step_loss: Any = None
        self._logged_at = (step or 0, time.perf_counter())
        self._peak = peak_flops(config.run.peak_tflops)
        self._journal = Log(config.out, -1 if step is None else step) if main else None
        self.rejects = Rejects(config.out, step is not None)

    def taken(self, loaded: Sequence[Mapping[str, Any]], waited: float) -> tuple[list[tuple[Batch, float]], int]:
        """The micro-batches of a step, each with its weight, and their units.

        A micro-batch without a usable item runs on the one before, at weight 0, so that processes stay in step.

        Args:
            loaded: what the loader gave.
            waited: seconds that it took.
        """
        self._rates["waited"] += waited
        found, units = [], 0
        for one in loaded:
            self._seen += one["seen"]
            self._pending.extend(one["rejects"])
            self._rejected += len(one["rejects"])
            weight = float(one["inputs"] is not None)
            if one["inputs"] is not None:
                self._last = one["inputs"]
                units += self._stage.units(one["inputs"])
            elif self._last is None:
                self._last = self._stand_in(self._stage.train)
            for name, count in self._stage.counts(self._last).items():
                self._rates[name] += count * weight
            found.append((self._last, weight))
        return found, units

    def _stand_in(self, data: Data) -> Batch:
        """A batch of the first usable item, for a process whose first micro-batch has none."""
        reject = None
        for ordinal in range(min(len(data), _LOOKED_AT)):
            item = part_of(data[ordinal])
            if item.value is not None:
                return self._stage.collate([item.value])
            reject = reject or item.rejects[0]
        assert reject is not None
        raise TrainingFailed(f"none of the first {ordinal + 1} items is usable, such as {reject.file}: {reject.reason}")

    @torch.no_grad()
    def note(self, loss: Tensor, means: Mapping[str, tuple[Tensor | float, Tensor | float]], weight: float) -> None:
        """Count a micro-batch: its share of the step's loss, and its means."""
        part = loss.detach().double()
        self._step_loss = part if self._step_loss is None else self._step_loss + part
        for name, (total, number) in means.items():
            self._sums[name][0] = self._sums[name][0] + total * weight
            self._sums[name][1] = self._sums[name][1] + number * weight

    def end_step(self, step: int) -> None:
        """Count the loss of a step; `step` were done before it."""
        self.refuse(self._step_loss, step)
        self._sums["loss"][0] = self._sums["loss"][0] + self._step_loss
        self._sums["loss"][1] += 1.0
        self._step_loss = None

    def refuse(self, loss: Tensor, step: int) -> None:
        """Stop at a loss that is no number.

        Raises:
            TrainingFailed: it is none.
        """
        if not bool(torch.isfinite(loss)):
            first = step * self._deal.batch
            raise TrainingFailed(
                f"step {step + 1}: the loss is {loss.item()} (items {first} to {first + self._deal.batch - 1} of the "
                "run); nothing was changed by it, the last checkpoint is whole. Lower optimiser.lr, or look at these "
                "items"
            )

    def place(self, step: int) -> dict[str, Any]:
        """What every line of the log begins with."""
        return {"step": step, "epoch": round(step * self._deal.batch / len(self._stage.train), 4)}

    def write(self, record: Mapping[str, Any], steps: int) -> None:
        """Put a line into the log and on the screen, in the first process; `steps` are those of the run."""
        if self._journal is not None:
            self._journal.write(record)
            print(shown(record, steps), flush=True)

    def gathered(self, step: int) -> dict[str, Any]:
        """The means and rates of the window that ends after a step, over all processes; called in each.

        Raises:
            TrainingFailed: more items were unusable than the configuration allows.
        """
        before = self._logged_at
        elapsed = max(time.perf_counter() - before[1], 1e-9)
        names, rates = sorted(self._sums), sorted(self._rates)
        values = [float(part) for name in names for part in self._sums[name]] + [self._rates[name] for name in rates]
        local = torch.tensor([*values, self._seen, self._rejected], dtype=torch.float64)
        together = self._summed(local).tolist()
        sums = {name: together[2 * k] / max(together[2 * k + 1], 1e-9) for k, name in enumerate(names)}
        rate = dict(zip(rates, together[2 * len(names) :], strict=False))
        record: dict[str, Any] = {"loss": sums.pop("loss")} | sums
        record["seconds"] = round(elapsed / max(step - before[0], 1), 4)
        record["data_share"] = round(rate.pop("waited", 0.0) / self._deal.processes / elapsed, 4)
        flops = rate.pop("flops", None)
        record |= {f"{name}_per_s": round(count / elapsed, 2) for name, count in rate.items()}
        if flops is not None:
            record["tflops"] = round(flops / elapsed / 1e12, 3)
            if self._peak:
                record["mfu"] = round(flops / elapsed / self._deal.processes / self._peak, 4)
        record["memory_mb"] = memory_mb()
        self._note_rejects(int(together[-2]), int(together[-1]))
        record["rejects"] = len(self.rejects)
        self._sums.clear()
        self._rates.clear()
        self._logged_at = (step, time.perf_counter())
        return record

    def _note_rejects(self, seen: int, rejected: int) -> None:
        everyone = [self._pending]
        if self._deal.processes > 1:
            everyone = [[] for _ in range(self._deal.processes)]
            torch.distributed.all_gather_object(everyone, self._pending)
        self._pending = []
        if self._main:
            self.rejects.add(reject for part in everyone for reject in part)
        if seen >= _ENOUGH and rejected > self._config.run.most_rejects * seen:
            raise TrainingFailed(
                f"{rejected} of {seen} items were unusable, more than run.most_rejects allows "
                f"({self._config.run.most_rejects:g}); {self.rejects.path} lists them"
            )

    def evaluated(self, step: Callable[[Batch], Step], pinned: bool) -> dict[str, float]:
        """Loss and figures over the held-out part, every item once; nothing without one. Called in each process.

        Args:
            step: the forward of a batch, which it moves to the device, without gradients and in eval mode.
            pinned: memory for a GPU.
        """
        data = self._stage.held_out
        if data is None:
            return {}
        start = time.perf_counter()
        loader, counted = evaluation_loader(data, self._stage, self._deal, self._config.run.workers, pinned)
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        last: Any = None
        bad = 0
        for counts, one in zip(counted, loader, strict=True):
            bad += len(one["rejects"]) * counts
            last = one["inputs"] if one["inputs"] is not None else last or self._stand_in(data)
            weight = float(counts and one["inputs"] is not None)
            taken = step(last)
            means = {"loss": (taken.loss, self._stage.units(last))} | dict(taken.means)
            for name, (total, number) in means.items():
                sums[name][0] += float(total) * weight
                sums[name][1] += float(number) * weight
        names = sorted(sums)
        together = self._summed(torch.tensor([*(v for n in names for v in sums[n]), bad], dtype=torch.float64)).tolist()
        figures = {f"eval_{n}": together[2 * k] / max(together[2 * k + 1], 1.0) for k, n in enumerate(names)}
        figures["eval_seconds"] = round(time.perf_counter() - start, 3)
        if together[-1]:
            figures["eval_rejects"] = int(together[-1])
        return figures

    def pause(self, start: float) -> None:
        """Leave the time since `start` out of the rates."""
        self._logged_at = (self._logged_at[0], self._logged_at[1] + time.perf_counter() - start)
