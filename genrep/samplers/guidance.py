"""Guidance: denoisers that wrap a denoiser. Not samplers; they serve them all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.schedules import Schedule, expand
from genrep.types import Denoise, Denoised

SMALLEST_ALPHA = 0.05
"""Below it, in nearly pure noise, a push by the heads grows no further."""


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Exaggerates what the condition changes; rows without a condition stay as they are.

        x0_hat = x0_null + scale * (x0_y - x0_null)

    which is the same extrapolation of eps, u or v. The standard deviation is the conditional one.

    Args:
        denoise: the denoiser to guide.
        scale: 0 null, 1 conditional (no second evaluation), above 1 guided.
        interval: noise times (low, high) within which it guides; outside the scale is 1, without a second evaluation.
    Source: Ho and Salimans 2022, arXiv:2207.12598, eq. (6), whose w is scale - 1; the interval after Kynkaanniemi et al. 2024, arXiv:2404.07724.
    Raises:
        ValueError: a scale that is no finite number, or an interval that is none within [0, 1].
    """

    denoise: Denoise
    scale: float
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"guidance must be a finite number; found {self.scale}. 1 is none.")
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"the interval of guidance must be two increasing times in [0, 1]; found {low} to {high}.")

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        inside = (t >= self.interval[0]) & (t <= self.interval[1])
        if self.scale == 1 or not bool(inside.any()):
            return self.denoise(xt, t, y)
        both = self.denoise(torch.cat([xt, xt]), torch.cat([t, t]), torch.cat([y, torch.zeros_like(y)]))
        x0_y, x0_null = both.x0_hat.chunk(2)
        scale = torch.where(inside, self.scale, 1.0).to(x0_y.dtype)
        return Denoised(torch.lerp(x0_null, x0_y, expand(scale, x0_y)), both.log_std_scale[: len(xt)])


@dataclass(frozen=True)
class PerceptionGuidance:
    """Moves the clean estimate to where perception sees in it what it should.

        x0_hat' = x0_hat + scale * sigma^2 / alpha * d log p(wanted | x0_hat(xt)) / d xt

    by Bayes' rule and Tweedie's formula, with p(wanted | x0_hat) for p(wanted | xt).

    Args:
        denoise: the denoiser to guide.
        log_prob: what perception makes of a clean estimate, [b] nats, differentiable.
        scale: 1: as Bayes' rule has it; 0: none.
    Source: Dhariwal and Nichol 2021, arXiv:2105.05233, section 4; on clean estimates Bansal et al. 2023, arXiv:2302.07121.
    Deviates: alpha is taken to be `SMALLEST_ALPHA` at least.
    """

    denoise: Denoise
    log_prob: Callable[[Tensor], Float[Tensor, " b"]]
    schedule: Schedule
    scale: float

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        with torch.enable_grad():
            noised = xt.detach().requires_grad_()
            denoised = self.denoise(noised, t, y)
            (push,) = torch.autograd.grad(self.log_prob(denoised.x0_hat).sum(), noised)
        factor = self.scale * self.schedule.sigma(t) ** 2 / self.schedule.alpha(t).clamp(min=SMALLEST_ALPHA)
        return Denoised((denoised.x0_hat + expand(factor, xt) * push).detach(), denoised.log_std_scale.detach())


@dataclass(frozen=True)
class Inpainting:
    """Holds a part of the image: there the clean estimate is the known one, in every step, so that the samplers carry its noise as it fell.

    Args:
        denoise: the denoiser to guide.
        known: x0 of the image, [b c h w].
        hidden: 1 where the image is to be made, 0 where it is known, [b 1 h w].
    """

    denoise: Denoise
    known: Tensor
    hidden: Tensor

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        denoised = self.denoise(xt, t, y)
        return Denoised(torch.where(self.hidden > 0, denoised.x0_hat, self.known), denoised.log_std_scale)
