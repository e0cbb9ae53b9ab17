"""Euler, also known as DDIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from genrep.randomness import SampleGenerator
from genrep.samplers.base import Sampler, carried
from genrep.schedules import Schedule
from genrep.types import Denoise


@dataclass(frozen=True, kw_only=True)
class Euler(Sampler):
    """Deterministic first-order sampler (DDIM).

        xs = alpha(s) * x0_hat + sigma(s) * eps_hat,   eps_hat = (xt - alpha(t) * x0_hat) / sigma(t)

    Args:
        num_steps: denoiser calls per image, >= 1; the global error falls like 1 / num_steps.
    Source: Song et al. 2021, arXiv:2010.02502, eq. (12) with zero added noise.
    """

    order: ClassVar[int | None] = 1

    def __call__(self, denoise: Denoise, xt: Tensor, y: Tensor, *, schedule: Schedule, generator: SampleGenerator, start: float = 1.0) -> Tensor:
        times = self.times(schedule, start)
        at, alpha, sigma = times.to(xt).unbind(), schedule.alpha(times).tolist(), schedule.sigma(times).tolist()
        for i in range(len(at) - 1):
            x0_hat = denoise(xt, at[i].expand(len(xt)), y).x0_hat
            xt = carried(xt, x0_hat, alpha=(alpha[i], alpha[i + 1]), sigma=(sigma[i], sigma[i + 1]))
        return xt
