"""A figure with its 95 % interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Z95 = 1.959963984540054
"""Half of a 95 % interval, in standard errors."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def named(self, name: str) -> dict[str, float]:
        """Flat form: `name`, `name_low`, `name_high`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def wilson(num_right: int, num: int) -> Estimate:
    """A share num_right / num with Wilson's score interval, which stays inside [0, 1].

    Source: Wilson 1927, doi:10.2307/2276774.
    Raises:
        ValueError: nothing was counted.

    >>> wilson(9, 10).low < 0.9 < wilson(9, 10).high
    True
    """
    if not 0 <= num_right <= num or num == 0:
        raise ValueError(f"a share needs 0 <= `num_right` <= `num` and `num` >= 1; found {num_right} of {num}.")
    share, z2 = num_right / num, Z95**2
    middle = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z95 / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num**2))
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def mean_of_repetitions(values: Sequence[float]) -> Estimate:
    """The mean of independent repetitions, at least two, with Student's t interval.

    Raises:
        ValueError: fewer than two.

    >>> mean_of_repetitions([1.0, 3.0]).value
    2.0
    """
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 repetitions; found {len(values)}.")
    mean, half = statistics.fmean(values), float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def bootstrap(figure: Callable[[Int[Tensor, " n"]], float], num: int, *, seed: int = 0, num_resamples: int = 1000, distance: bool = False) -> Estimate:
    """A figure of `num` samples, with the 2.5 % and 97.5 % quantiles of what it is on samples drawn from them with replacement.

    Args:
        figure: from the indices of the samples, of which some come more than once.
        distance: never below 0, and resampling's own noise adds to it, as to a calibration error; its interval is moved by as much as that does.
    Raises:
        ValueError: nothing was measured.

    >>> values = torch.tensor([0.0, 1.0] * 50)
    >>> found = bootstrap(lambda rows: float(values[rows].mean()), 100)
    >>> found.value, 0.37 < found.low < 0.43, 0.57 < found.high < 0.63
    (0.5, True, True)
    """
    if num < 1:
        raise ValueError(f"an interval needs at least 1 sample; found {num}.")
    generator = torch.Generator().manual_seed(seed)
    found = torch.tensor([figure(torch.randint(num, (num,), generator=generator)) for _ in range(num_resamples)], dtype=torch.float64)
    found = found[found.isfinite()]  # some draws may lack what a figure is of
    value = figure(torch.arange(num))
    if not len(found):
        return Estimate(value, math.nan, math.nan)
    if distance:
        moved = centred(value, found)
        return Estimate(value, max(0.0, moved.low), moved.high)
    return Estimate(value, *_ends(found))


def centred(value: float, resampled: Float[Tensor, " r"]) -> Estimate:
    """A figure with the 95 % range of what it is on resamples, float64, moved so that their mean is the figure: resampling's own noise adds to a distance."""
    return Estimate(value, *_ends(resampled - resampled.mean() + value))


def _ends(resampled: Float[Tensor, " r"]) -> list[float]:
    """Of the range that holds 95 %."""
    return list(resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist())


def bootstrap_mean(values: Float[Tensor, " n"]) -> Estimate:
    """The mean of samples, in their unit, with its bootstrap interval."""
    return bootstrap(lambda rows: float(values[rows].mean()), len(values))
