"""Ancestral: the reverse chain with its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from genrep.parametrization import reverse_kernel
from genrep.randomness import SampleGenerator
from genrep.samplers.base import SingleStep
from genrep.schedules import Schedule, expand
from genrep.types import Denoise


@dataclass(frozen=True, kw_only=True)
class Ancestral(SingleStep):
    """Stochastic sampler: draws xs from the reverse kernel with x0_hat in place of x0.

        xs = mu(xt, x0_hat) + std * noise,   std = sqrt(var_base) * exp(log_std_scale)

    var_base vanishes at s = 0, so the last step adds no noise and returns x0_hat.

    Args:
        num_steps: denoiser calls per image, >= 1; mean and variance of the samples err like 1 / num_steps.
    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2; the paper's equations (1), (6) and (8).
    """

    order: ClassVar[int | None] = None

    def step(self, denoise: Denoise, xt: Tensor, t: Tensor, s: Tensor, *, y: Tensor, schedule: Schedule, generator: SampleGenerator) -> Tensor:
        denoised = denoise(xt, t, y)
        kernel = reverse_kernel(schedule, t, s)
        std = kernel.var.sqrt() * denoised.log_std_scale.exp()
        noise = generator.normal(*xt.shape[1:]).to(xt.dtype)
        return kernel.mean(xt, denoised.x0_hat) + expand(std, xt) * noise
