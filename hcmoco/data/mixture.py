"""Compute how many rows of each data set every step takes, from declared weights."""

from fractions import Fraction
from functools import cached_property
from math import gcd, lcm

import numpy as np

from hcmoco.errors import UserError

# A share is exact where the weights' common denominator is at most this, else it is rounded to whole units of 1 /
# MAX_UNITS of the batch. The rounding bounds the table below; it moves a share by less than one row in 65,536.
MAX_UNITS = 1 << 16


def units_of(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Convert weights to coprime whole numbers.

    A decimal is taken as it is written: 0.3 is 3/10, not the nearest binary fraction.

    Args:
        weights: one per data set, above 0.

    Returns:
        The weights in units of their common denominator; their sum is at most MAX_UNITS, else they are rounded.

    Raises:
        UserError: a weight is not a positive finite number.
    """
    for weight in weights:
        if not (weight > 0 and weight < float("inf")):
            raise UserError(
                f"weight {weight!r} of a data set: must be a number above 0; leave a data set out to give it no rows"
            )
    exact = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(weight.denominator for weight in exact))
    units = [int(weight * scale) for weight in exact]
    if sum(units) // gcd(*units) > MAX_UNITS:
        units = _rounded(units)
    divisor = gcd(*units)
    return tuple(unit // divisor for unit in units)


def _rounded(units: list[int]) -> list[int]:
    """Largest remainder over MAX_UNITS. Every declared data set keeps at least one unit."""
    if len(units) > MAX_UNITS:
        raise UserError(f"{len(units)} data sets in one mixture: at most {MAX_UNITS}")
    total = sum(units)
    free = MAX_UNITS - len(units)
    rounded = [1 + unit * free // total for unit in units]
    by_remainder = sorted(range(len(units)), key=lambda d: (-(units[d] * free % total), d))
    for d in by_remainder[: MAX_UNITS - sum(rounded)]:
        rounded[d] += 1
    return rounded


class Mixture:
    """Rows of each data set in the micro-batches of a run, as a function of the step.

    After t steps of R rows, data set d with share s_d has given cum_d(t) rows with |cum_d(t) - s_d R t| < 1. Every step
    sums to R, and no count is negative. With three or more data sets, plain error diffusion breaks one of the three. So
    a row's earliest and latest step follow from the bound: it may come once s_d R t exceeds the rows before it, and it
    must have come when the floor counts it. The rows with the earliest deadline come first. A schedule within these
    limits exists, and this rule finds it (Tijdeman, "The chairman assignment problem", 1980).

    Attributes:
        units: the weights as coprime whole numbers.
        rows: R.
        period: steps after which the composition repeats.
    """

    def __init__(self, weights: tuple[float, ...], rows: int):
        self.units = units_of(weights)
        self.rows = rows
        self.period = sum(self.units) // gcd(sum(self.units), rows)

    def cumulative(self, step: int) -> np.ndarray:
        """Return the rows of each of the D data sets in the first `step` steps of one lane, int64 [D]."""
        cycles, rest = divmod(step, self.period)
        return self._table[-1] * cycles + self._table[rest]

    @cached_property
    def _table(self) -> np.ndarray:
        """int64 [period + 1, D]: after one period every share is a whole number of rows, and the steps repeat."""
        units, total, D = self.units, sum(self.units), len(self.units)
        cum = [0] * D
        table = [tuple(cum)]
        for step in range(1, self.period + 1):
            due = [unit * self.rows * step for unit in units]  # shares in units of 1 / total rows
            cum = [max(before, quota // total) for before, quota in zip(cum, due, strict=True)]
            spare = self.rows * step - sum(cum)
            if spare:
                # One more row may come early where the share is not whole; its deadline is the step whose floor first
                # counts it.
                early = [
                    (-(-(cum[d] + 1) * total // (units[d] * self.rows)), d) for d in range(D) if cum[d] * total < due[d]
                ]
                for _, d in sorted(early)[:spare]:
                    cum[d] += 1
            table.append(tuple(cum))
        return np.array(table, np.int64)
