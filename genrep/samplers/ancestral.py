"""Ancestral: the reverse chain with its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genrep.parametrization import reverse_kernel
from genrep.randomness import SampleGenerator
from genrep.samplers.base import Sampler
from genrep.schedules import Schedule, expand
from genrep.types import Denoise


@dataclass(frozen=True, kw_only=True)
class Ancestral(Sampler):
    """Stochastic sampler: draws xs from the reverse kernel with x0_hat in place of x0.

        xs = mu(xt, x0_hat) + std * noise,   std = sqrt(var_base) * exp(log_std_scale)

    var_base vanishes at s = 0, so the last step adds no noise and returns x0_hat.

    Args:
        num_steps: denoiser calls per image, >= 1; mean and variance of the samples err like 1 / num_steps.
    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2; the paper's equations (1), (6) and (8).
    """

    order: ClassVar[int | None] = None

    def __call__(self, denoise: Denoise, xt: Tensor, y: Tensor, *, schedule: Schedule, generator: SampleGenerator, start: float = 1.0) -> Tensor:
        times = self.times(schedule, start)
        at, kernel = times.to(xt).unbind(), reverse_kernel(schedule, times[:-1], times[1:])
        steps = zip(at[:-1], kernel.of_xt.tolist(), kernel.of_x0.tolist(), kernel.var.sqrt().tolist(), strict=True)
        for t, of_xt, of_x0, std in steps:
            denoised = denoise(xt, t.expand(len(xt)), y)
            noise = generator.normal(*xt.shape[1:]).to(xt.dtype)
            mean = (of_xt * xt).add_(denoised.x0_hat, alpha=of_x0)
            xt = torch.addcmul(mean, expand(denoised.log_std_scale.exp(), xt).to(xt.dtype), noise, value=std)
        return xt
