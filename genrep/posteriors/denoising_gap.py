"""The denoising gap: a class is as likely as the noise it explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.parametrization import eps_error
from genrep.posteriors.base import PosteriorEstimator, require_candidates
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates


@dataclass(frozen=True, kw_only=True)
class DenoisingGap(PosteriorEstimator):
    """Log-likelihoods from the denoising error, exact for an optimal denoiser and an infinite range.

        log p(x0 | y) = -1/2 Integral over logsnr of E_eps |eps - eps_hat(xt, y)|^2 + constant of the image

    summed over the dimensions of x0, with |eps - eps_hat|^2 = e^logsnr |x0 - x0_hat|^2, and logsnr drawn uniformly from
    a finite range: the ratio for data noised to sigma / alpha = e^(-logsnr_max / 2). For a trained network the
    difference between two candidates is a difference of two bounds.

    Args:
        budget: denoiser evaluations per candidate; the variance falls like 1 / budget or faster.
        logsnr_min, logsnr_max: range of the integral in nats; images with exact zeros make it diverge at high logsnr.
        noise: `shared`: the candidates of an image see the same (logsnr, eps), which cancels most of the variance of their
            differences; `independent`: each sees its own.
        stratified: one draw per equal part of the range instead of draws from all of it.
        antithetic: each draw uses eps and -eps, two evaluations; the budget must be even.
    Raises:
        ValueError: empty range, odd antithetic budget, unknown `noise`.
    Source: Kong et al. 2023, arXiv:2302.03792, eqs. (8) to (10); shared noise as in Clark and Jaini 2023, arXiv:2303.15233.
    Deviates: stands in for the paper's reverse chain, equations (1) to (3), which needs some hundred times the budget.
    """

    logsnr_min: float = -8.0
    logsnr_max: float = 7.0
    noise: Literal["shared", "independent"] = "shared"
    stratified: bool = True
    antithetic: bool = True
    decomposes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.logsnr_min < self.logsnr_max:
            raise ValueError(f"`logsnr_min` must be below `logsnr_max`; found {self.logsnr_min} and {self.logsnr_max}.")
        if self.noise not in ("shared", "independent"):
            raise ValueError(f"`noise` must be `shared` or `independent`; found `{self.noise}`.")
        if self.antithetic and self.budget % 2:
            raise ValueError(f"`budget` must be even where draws come in pairs; found {self.budget}. Pass `antithetic=False` for an odd one.")

    def __call__(
        self,
        denoise: DenoiseCandidates,
        x0: Float[Tensor, "b c h w"],
        candidates: Float[Tensor, "b m k"],
        *,
        schedule: Schedule,
        generator: SampleGenerator,
    ) -> Float[Tensor, "b m"]:
        return self.maps(denoise, x0, candidates, schedule=schedule, generator=generator).sum((-2, -1))

    def maps(
        self,
        denoise: DenoiseCandidates,
        x0: Float[Tensor, "b c h w"],
        candidates: Float[Tensor, "b m k"],
        *,
        schedule: Schedule,
        generator: SampleGenerator,
    ) -> Float[Tensor, "b m h w"]:
        """Where in the image the log-likelihood comes from: summed over positions it is what the call returns.

        Given up to a map shared by the candidates of an image: they average to zero at every position, which keeps small
        differences between large errors in float32. A map explains the image's posterior; it is not one of its own.
        """
        require_candidates(candidates)
        total = torch.zeros_like(x0[:, :1]).repeat(1, candidates.shape[1], 1, 1)
        for logsnr, eps in self._draws(x0, candidates.shape[1], generator):
            error = _error_maps(denoise, x0, candidates, logsnr=logsnr, eps=eps, schedule=schedule)
            total += error - error.mean(1, keepdim=True)
        return total * (-0.5 * (self.logsnr_max - self.logsnr_min) / self.budget)

    def _draws(self, x0: Tensor, num_candidates: int, generator: SampleGenerator) -> Iterator[tuple[Tensor, Tensor]]:
        """(logsnr [b n], eps [b n c h w]) of each evaluation; n = 1 where the candidates share them, else n = m."""
        num = 1 if self.noise == "shared" else num_candidates
        num_draws = self.budget // 2 if self.antithetic else self.budget
        for i in range(num_draws):
            place = generator.uniform(num).to(x0.dtype)
            if self.stratified:
                place = (i + place) / num_draws
            logsnr = self.logsnr_min + (self.logsnr_max - self.logsnr_min) * place
            eps = generator.normal(num, *x0.shape[1:]).to(x0.dtype)
            yield logsnr, eps
            if self.antithetic:
                yield logsnr, -eps


def _error_maps(
    denoise: DenoiseCandidates,
    x0: Float[Tensor, "b c h w"],
    candidates: Float[Tensor, "b m k"],
    *,
    logsnr: Float[Tensor, "b n"],
    eps: Float[Tensor, "b n c h w"],
    schedule: Schedule,
) -> Float[Tensor, "b m h w"]:
    """|eps - eps_hat|^2 of each candidate, summed over channels; n noised images serve m / n candidates each."""
    num = logsnr.shape[1]
    t = schedule.t_of_logsnr(logsnr.flatten())
    clean = x0.repeat_interleave(num, 0)
    groups = candidates.reshape(len(clean), -1, candidates.shape[2])
    x0_hat = denoise(schedule.noised(clean, t, eps.flatten(0, 1)), t, groups)
    error = (clean[:, None] - x0_hat).square().sum(2)
    return eps_error(error, t, schedule).reshape(len(x0), candidates.shape[1], *x0.shape[2:])
