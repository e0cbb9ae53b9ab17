"""Heun: the trapezoid rule on the probability-flow ODE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.randomness import SampleGenerator
from genrep.samplers.base import Sampler
from genrep.schedules import Schedule
from genrep.types import Denoise


@dataclass(frozen=True, kw_only=True)
class Heun(Sampler):
    """Deterministic second-order sampler.

        u = alpha'(t) * x0_hat + sigma'(t) * eps_hat
        xs = xt + (s - t) * (u(xt, t) + u(xt + (s - t) * u(xt, t), s)) / 2

    The last step, to s = 0, is Euler's, where u has a second value no more: it returns x0_hat.

    Args:
        num_steps: two denoiser calls each but the last, so 2 * num_steps - 1; the global error falls like 1 / num_steps^2.
    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 1, with this project's t as the time of the ODE.
    """

    order: ClassVar[int | None] = 2

    def __call__(self, denoise: Denoise, xt: Tensor, y: Tensor, *, schedule: Schedule, generator: SampleGenerator, start: float = 1.0) -> Tensor:
        times = self.times(schedule, start)
        slopes, at, gaps = _slopes(schedule, times), times.to(xt).unbind(), times.diff().tolist()
        for i, gap in enumerate(gaps):
            x0_hat = denoise(xt, at[i].expand(len(xt)), y).x0_hat
            if i + 1 == len(slopes):
                return x0_hat
            u_t = slopes[i](xt, x0_hat)
            xs = torch.add(xt, u_t, alpha=gap)
            u_s = slopes[i + 1](xs, denoise(xs, at[i + 1].expand(len(xt)), y).x0_hat)
            xt = xt.add(u_t.add_(u_s), alpha=gap / 2)
        return xt


@dataclass(frozen=True)
class _Slope:
    """u = sigma' / sigma xt + (alpha' - alpha sigma' / sigma) x0_hat at a time, as plain numbers, so that a step costs few operations beside the network."""

    of_xt: float
    of_x0: float

    def __call__(self, xt: Tensor, x0_hat: Tensor) -> Tensor:
        return (self.of_xt * xt).add_(x0_hat, alpha=self.of_x0)


def _slopes(schedule: Schedule, times: Float[Tensor, " n"]) -> list[_Slope]:
    """At all times but 0, where sigma is 0, too."""
    t = times[times > 0]
    d_alpha, d_sigma = schedule.rates(t)
    of_xt = d_sigma / schedule.sigma(t)
    return [_Slope(*of) for of in zip(of_xt.tolist(), (d_alpha - schedule.alpha(t) * of_xt).tolist(), strict=True)]
