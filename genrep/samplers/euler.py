"""Euler, also known as DDIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from genrep.parametrization import eps_from_x0
from genrep.randomness import SampleGenerator
from genrep.samplers.base import SingleStep
from genrep.schedules import Schedule
from genrep.types import Denoise


@dataclass(frozen=True, kw_only=True)
class Euler(SingleStep):
    """Deterministic first-order sampler (DDIM).

        xs = alpha(s) * x0_hat + sigma(s) * eps_hat,   eps_hat = (xt - alpha(t) * x0_hat) / sigma(t)

    Args:
        num_steps: denoiser calls per image, >= 1; the global error falls like 1 / num_steps.
    Source: Song et al. 2021, arXiv:2010.02502, eq. (12) with zero added noise.
    """

    order: ClassVar[int | None] = 1

    def step(self, denoise: Denoise, xt: Tensor, t: Tensor, s: Tensor, *, y: Tensor, schedule: Schedule, generator: SampleGenerator) -> Tensor:
        x0_hat = denoise(xt, t, y).x0_hat
        return schedule.noised(x0_hat, s, eps_from_x0(x0_hat, xt, t, schedule))
