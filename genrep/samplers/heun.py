"""Heun: the trapezoid rule on the probability-flow ODE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from genrep.parametrization import u_from_x0
from genrep.randomness import SampleGenerator
from genrep.samplers.base import SingleStep
from genrep.schedules import Schedule, expand
from genrep.types import Denoise


@dataclass(frozen=True, kw_only=True)
class Heun(SingleStep):
    """Deterministic second-order sampler.

        u = alpha'(t) * x0_hat + sigma'(t) * eps_hat
        xs = xt + (s - t) * (u(xt, t) + u(xt + (s - t) * u(xt, t), s)) / 2

    The last step, to s = 0, is Euler's, where u has a second value no more: it returns x0_hat.

    Args:
        num_steps: two denoiser calls each but the last, so 2 * num_steps - 1; the global error falls like 1 / num_steps^2.
    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 1, with this project's t as the time of the ODE.
    """

    order: ClassVar[int | None] = 2

    def step(self, denoise: Denoise, xt: Tensor, t: Tensor, s: Tensor, *, y: Tensor, schedule: Schedule, generator: SampleGenerator) -> Tensor:
        x0_hat = denoise(xt, t, y).x0_hat
        if bool((s == 0).all()):
            return x0_hat
        dt = expand(s - t, xt)
        u_t = u_from_x0(x0_hat, xt, t, schedule)
        xs = xt + dt * u_t
        u_s = u_from_x0(denoise(xs, s, y).x0_hat, xs, s, schedule)
        return xt + dt * (u_t + u_s) / 2
