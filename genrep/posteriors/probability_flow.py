"""The probability-flow ODE: the image is carried to noise, and what its volume does on the way is its likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.parametrization import u_from_x0
from genrep.posteriors.base import PosteriorEstimator, require_candidates
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule, expand
from genrep.types import DenoiseCandidates

Slope = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class ProbabilityFlow(PosteriorEstimator):
    """Log-likelihoods by the change of variables along the flow from data to noise.

        d xt / dt = u(xt, t, y),   log p(x0 | y) = log N(x_end; 0, sigma_end^2 I) + Integral of div u dt + dimensions * ln alpha_start

    from alpha_start x0 at `logsnr_max` to `logsnr_min`, in steps of Heun's method that are equal in logsnr. The divergence is estimated with one
    probe per image, which all candidates share. Takes gradients through the denoiser: slow, to audit the other estimators.

    Args:
        budget: denoiser evaluations per candidate, even: two per step.
        logsnr_min, logsnr_max: ends of the flow, nats.
    Raises:
        ValueError: empty range, odd budget.
    Source: Song et al. 2021, arXiv:2011.13456, section 4.3 and appendix D.2; Grathwohl et al. 2019, arXiv:1810.01367.
    """

    budget: int = 100
    logsnr_min: float = -8.0
    logsnr_max: float = 7.0
    decomposes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.logsnr_min < self.logsnr_max:
            raise ValueError(f"`logsnr_min` must be below `logsnr_max`; found {self.logsnr_min} and {self.logsnr_max}.")
        if self.budget % 2:
            raise ValueError(f"`budget` must be even, as a step takes two evaluations; found {self.budget}.")

    def __call__(
        self,
        denoise: DenoiseCandidates,
        x0: Float[Tensor, "b c h w"],
        candidates: Float[Tensor, "b m k"],
        *,
        schedule: Schedule,
        generator: SampleGenerator,
    ) -> Float[Tensor, "b m"]:
        require_candidates(candidates)
        num, each = candidates.shape[1], candidates.flatten(0, 1)[:, None]
        probe = torch.where(generator.uniform(*x0.shape[1:]) < 0.5, -1.0, 1.0).to(x0).repeat_interleave(num, 0)
        steps = torch.linspace(self.logsnr_max, self.logsnr_min, self.budget // 2 + 1, dtype=torch.float64, device=x0.device)
        times = schedule.t_of_logsnr(steps).to(x0.dtype)[:, None].expand(-1, len(each))

        def slope(xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            """u, and probe^T (du / dxt) probe."""
            with torch.enable_grad():
                here = xt.detach().requires_grad_()
                u = u_from_x0(denoise(here, t, each).squeeze(1), here, t, schedule)
                (back,) = torch.autograd.grad(u, here, probe)
            return u.detach(), (back * probe).flatten(1).sum(1)

        xt = (expand(schedule.alpha(times[0]), probe) * x0.repeat_interleave(num, 0)).to(x0)
        xt, volume = _heun(slope, xt, times)
        noise = -0.5 * (xt.flatten(1) / schedule.sigma(times[-1])[:, None]).square().sum(1)
        log_lik = (noise + volume).reshape(len(x0), num)
        constant = x0[0].numel() * (schedule.alpha(times[0]).log() - schedule.sigma(times[-1]).log() - 0.5 * math.log(2 * math.pi))
        return log_lik + constant.reshape(len(x0), num)


def _heun(slope: Slope, xt: Tensor, times: Float[Tensor, "s b"]) -> tuple[Tensor, Float[Tensor, " b"]]:
    """The end of the flow, and the integral of the divergence."""
    volume = xt.new_zeros(len(xt))
    for t, then in pairwise(times):
        length = then - t
        u, divergence = slope(xt, t)
        u2, divergence2 = slope(xt + expand(length, xt) * u, then)
        xt = xt + expand(length, xt) * (u + u2) / 2
        volume = volume + length * (divergence + divergence2) / 2
    return xt, volume
