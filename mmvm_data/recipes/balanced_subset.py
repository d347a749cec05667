"""Chooses some of many cases such that sums over the chosen ones are as wanted, as far as the cases allow.

First each case gets a share from 0 to 1: of all shares whose sums are right, those that stay nearest to equal shares,
or to others that are given (entropy balancing; Hainmueller, Political Analysis 20, 2012), so that nothing else about
the cases changes more than it must. The dual problem has one variable a sum, is convex, and is solved by Newton's
method. Then each case is drawn with its share, and exchanges of one case for another repair what drawing has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TIGHT = 0.25
"""A slack for sums that matter: they may miss their target by this many cases, at a log odds of 1 between the shares
of cases that differ by 1 in the sum."""
MIN_EXCHANGED = 0.1
"""A case whose share is below this part of the largest share is not drawn by an exchange."""
_STEPS, _TOLERANCE, _SHORTEST_STEP = 60, 1e-7, 1e-6
_MAX_EXCHANGES = 2_000
_BLOCK = 4_096  # cases that are summed at a time, so that few numbers are copied
_SAMPLE = 2_048  # cases whose values are probably all that there are


@dataclass(frozen=True)
class Column:
    """One sum; see ``Sums``."""

    values: NDArray[np.float64]
    slack: float = TIGHT
    is_repaired: bool = True
    target: float = 0.0


@dataclass(frozen=True)
class _Values:
    """What cases add to a sum; most sums have few values, so that a case takes a byte.

    Attributes:
        codes: places in ``table``, unsigned integers [cases].
        table: the values, float32.
    """

    codes: NDArray[np.unsignedinteger]
    table: NDArray[np.float32]

    @classmethod
    def encode(cls, values: NDArray[np.float32]) -> _Values:
        table = np.unique(values[:: -(-len(values) // _SAMPLE)]) if len(values) else values
        codes = np.searchsorted(table, values).clip(max=len(table) - 1)
        if not (table[codes] == values).all():
            table, codes = np.unique(values, return_inverse=True)
        return cls(codes.astype(np.min_scalar_type(len(table))), table)

    def read(self, part: slice = slice(None)) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self.table[self.codes[part]]
        return values


@dataclass(frozen=True)
class Sums:
    """Sums over the chosen cases that are to be near their targets.

    Attributes:
        values: what a case adds to each sum, about from -1 to 1.
        slack: of each sum, float [sums], see TIGHT. A sum that cannot be met misses by its slack times its log odds.
        targets: float [sums].
        repaired: bool [sums]: whether the deviation that drawing leaves is repaired by exchanges.
    """

    values: tuple[_Values, ...]
    slack: NDArray[np.float64]
    targets: NDArray[np.float64]
    repaired: NDArray[np.bool_]

    @classmethod
    def from_columns(cls, columns: Iterable[Column]) -> Sums:
        """The sums of columns, of which one is in memory at a time."""
        values, facts = [], []
        for column in columns:
            values.append(_Values.encode(column.values.astype(np.float32)))
            facts.append((column.slack, column.target, column.is_repaired))
        slack, targets, repaired = (np.array(own) for own in zip(*facts, strict=True))
        return cls(tuple(values), slack, targets, repaired)

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.values[0].codes)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """The values of some cases at a time: which they are, and float [cases, sums]."""
        for first in range(0, len(self), _BLOCK):
            block = slice(first, first + _BLOCK)
            yield block, np.column_stack([values.read(block) for values in self.values]).astype(np.float64)


def compute_shares(sums: Sums, count: int, prior: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """The share of each case, float [cases]: they sum to ``count``, and shares x values are near the targets.

    Args:
        sums: that are to be met.
        count: from 1 to the number of cases.
        prior: log odds of the shares that the result stays near to, up to a constant, float [cases]; None: equal ones.
    """
    cases, number = len(sums), len(sums.values)
    if count >= cases:
        return np.ones(cases)
    ridge, wanted = np.append(sums.slack, 1e-9), np.append(sums.targets, count)
    prior = np.zeros(cases) if prior is None else prior - prior.mean()
    dual = np.append(np.zeros(number), np.log(count / (cases - count)))

    def odds(point: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = [values @ point[:-1] for _, values in sums.blocks()]
        result: NDArray[np.float64] = prior + np.concatenate(parts) + point[-1]
        return result

    def objective(point: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, odds(point)).sum() - wanted @ point + 0.5 * (ridge * point**2).sum())

    value = objective(dual)
    for _ in range(_STEPS):
        shares = _sigmoid(odds(dual))
        gradient, hessian = ridge * dual - wanted, np.diag(ridge + 1e-9)
        for block, values in sums.blocks():
            own = shares[block]
            columns = np.column_stack([values, np.ones(len(own))])
            gradient += columns.T @ own
            hessian += (columns * (own * (1 - own))[:, None]).T @ columns
        step = np.linalg.solve(hessian, gradient)
        slope = float(gradient @ step)
        if slope < _TOLERANCE * count:
            break
        length = 1.0
        while length > _SHORTEST_STEP and (new := objective(dual - length * step)) > value - 1e-4 * length * slope:
            length /= 2
        if length <= _SHORTEST_STEP:
            break
        dual, value = dual - length * step, new
    return _sigmoid(odds(dual))


def choose_balanced(
    sums: Sums, count: int, keys: NDArray[np.float64], prior: NDArray[np.float64] | None = None
) -> NDArray[np.bool_]:
    """The chosen cases, bool [cases], ``count`` of them. Equal arguments give equal choices.

    Args:
        sums, count, prior: see ``compute_shares``.
        keys: float [cases] in [0, 1): decide the draw.
    """
    shares = compute_shares(sums, count, prior)
    chosen = np.asarray(shares > keys)
    # with a prior, exchanges draw and drop only cases for which both are likely
    can_enter = shares >= MIN_EXCHANGED * shares.max() if prior is not None else np.ones(len(shares), bool)
    if int((chosen | can_enter).sum()) < count:
        can_enter[:] = True
    repaired = [values.read() for values, is_repaired in zip(sums.values, sums.repaired, strict=True) if is_repaired]
    scaled = np.array(repaired, np.float64).reshape(len(repaired), len(sums)).T
    norms = (scaled**2).sum(axis=1)
    excess = scaled[chosen].sum(axis=0) - sums.targets[sums.repaired]
    for _ in range(_MAX_EXCHANGES):
        missing = count - int(chosen.sum())
        out = into = None
        after = excess
        if missing <= 0:
            out = int(np.where(chosen, norms - 2 * scaled @ after, np.inf).argmin())
            after = after - scaled[out]
        if missing >= 0:
            gains = np.where(chosen | ~can_enter, np.inf, norms + 2 * scaled @ after)
            into = int(gains.argmin())
            if np.isinf(gains[into]):
                break
            after = after + scaled[into]
        if not missing and float(after @ after) >= float(excess @ excess) - 1e-9:
            break
        if out is not None:
            chosen[out] = False
        if into is not None:
            chosen[into] = True
        excess = after
    return chosen


def _sigmoid(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 0.5 * (1 + np.tanh(odds / 2))
    return result
