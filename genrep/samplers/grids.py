"""Where a sampler's steps lie between noise and data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.schedules import Schedule

LOGSNR_RANGE = (-9.0, 7.0)
"""Noise levels between which `logsnr` and `karras` place their inner times; sigma / alpha from 90 to .03, nearly the range of Karras et al."""

LEAST_RANGE = 2.0
"""Nats that they go down by, however little noise there is at the start."""

RHO = 7.0


def uniform(schedule: Schedule, num_steps: int, start: float) -> Float[Tensor, " n"]:
    """Even in t."""
    del schedule
    return torch.linspace(start, 0.0, num_steps + 1, dtype=torch.float64)


def logsnr(schedule: Schedule, num_steps: int, start: float) -> Float[Tensor, " n"]:
    """Even in log-SNR, with a last step to 0."""
    first, last = _range(schedule, start)
    return _ended(schedule.t_of_logsnr(torch.linspace(first, last, num_steps, dtype=torch.float64)), start)


def karras(schedule: Schedule, num_steps: int, start: float) -> Float[Tensor, " n"]:
    """Even in (sigma / alpha)^(1 / 7), with a last step to 0.

    Source: Karras et al. 2022, arXiv:2206.00364, equation (5).
    """
    first, last = (torch.tensor(-end / 2, dtype=torch.float64).exp() ** (1 / RHO) for end in _range(schedule, start))
    ratio = torch.lerp(first, last, torch.linspace(0, 1, num_steps, dtype=torch.float64)) ** RHO
    return _ended(schedule.t_of_logsnr(-2 * ratio.log()), start)


def _range(schedule: Schedule, start: float) -> tuple[float, float]:
    low, high = LOGSNR_RANGE
    first = max(low, float(schedule.logsnr(torch.tensor([start], dtype=torch.float64))))
    return first, max(high, first + LEAST_RANGE)


def _ended(times: Float[Tensor, " n"], start: float) -> Float[Tensor, " m"]:
    """Exactly from `start` to 0."""
    return torch.cat([times.new_tensor([start]), times[1:], times.new_zeros(1)])


GRIDS: dict[str, Callable[[Schedule, int, float], Tensor]] = {"uniform": uniform, "logsnr": logsnr, "karras": karras}
"""Every grid by the name that configs use: f(schedule, num_steps, start), which falls strictly from `start` to 0, in `num_steps` steps."""
