"""The denoising gap: a class is as likely as the noise it explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.posteriors.base import PosteriorEstimator, eps_error_maps, require_candidates, require_noise, require_range
from genrep.posteriors.halving import successive_halving
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates


@dataclass(frozen=True, kw_only=True)
class DenoisingGap(PosteriorEstimator):
    """Log-likelihoods from the denoising error, exact for an optimal denoiser and an infinite range.

        log p(x0 | y) = -1/2 Integral over logsnr of w(logsnr) E_eps |eps - eps_hat(xt, y)|^2 + constant of the image,   w = 1

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
        rounds: above 1, the better half of the candidates that are left takes part in each (`halving.successive_halving`), and the budget is that of a
            candidate that stays to the end, in equal parts.
        allocation: how densely draws lie in equal parts of the range, up to a factor (`training/pilot.py`); None: evenly. This leaves
            the answer as it is and changes its variance.
        weights: how much equal parts of the range count, up to a factor (`training/pilot.py`); None: all alike, as for an optimal denoiser.
    Raises:
        ValueError: empty range, odd antithetic budget, unknown `noise`, rounds that cannot share the budget, an allocation or weights that are not
            positive.
    Source: Kong et al. 2023, arXiv:2302.03792, eqs. (8) to (10); shared noise as in Clark and Jaini 2023, arXiv:2303.15233.
    Deviates: stands in for the paper's reverse chain, equations (1) to (3), which needs some hundred times the budget.
    """

    logsnr_min: float = -8.0
    logsnr_max: float = 7.0
    noise: Literal["shared", "independent"] = "shared"
    stratified: bool = True
    antithetic: bool = True
    rounds: int = 1
    allocation: tuple[float, ...] | None = None
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range(self.logsnr_min, self.logsnr_max)
        require_noise(self.noise)
        if self.rounds < 1 or self.budget % self.rounds:
            raise ValueError(f"`rounds` must be at least 1 and divide `budget`; found {self.rounds} rounds and {self.budget} evaluations.")
        each = self.budget // self.rounds
        if self.antithetic and each % 2:
            raise ValueError(f"`budget` must be even per round where draws come in pairs; found {each}. Pass `antithetic=False` for an odd one.")
        for name, parts, none in (("allocation", self.allocation, "draws evenly"), ("weights", self.weights, "counts all alike")):
            if parts is not None and not (parts and min(parts) > 0):
                raise ValueError(f"`{name}` must be positive in every part of the range; found {parts}. `None` {none}.")

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
        one = replace(self, budget=self.budget // self.rounds, rounds=1)

        def estimate(candidates: Tensor) -> Tensor:
            return one.maps(denoise, x0, candidates, schedule=schedule, generator=generator).sum((-2, -1))

        return estimate(candidates) if self.rounds == 1 else successive_halving(estimate, candidates, rounds=self.rounds)

    def maps(
        self,
        denoise: DenoiseCandidates,
        x0: Float[Tensor, "b c h w"],
        candidates: Float[Tensor, "b m k"],
        *,
        schedule: Schedule,
        generator: SampleGenerator,
    ) -> Float[Tensor, "b m h w"]:
        """Where in the image the log-likelihood comes from: summed over positions it is what the call returns. In one round: a map is of all candidates.

        Given up to a map shared by the candidates of an image: they average to zero at every position, which keeps small
        differences between large errors in float32. A map explains the image's posterior; it is not one of its own.
        """
        require_candidates(candidates)
        total = torch.zeros_like(x0[:, :1]).repeat(1, candidates.shape[1], 1, 1)
        for logsnr, length, eps in self._draws(x0, candidates.shape[1], generator):
            error = length[..., None, None] * eps_error_maps(denoise, x0, candidates, logsnr=logsnr, eps=eps, schedule=schedule)
            total += error - error.mean(1, keepdim=True)
        return total * (-0.5 / self.budget)

    def _draws(self, x0: Tensor, num_candidates: int, generator: SampleGenerator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(logsnr [b n], nats that it stands for [b n], eps [b n c h w]) of each evaluation; n = 1 where the candidates share them, else n = m."""
        num = 1 if self.noise == "shared" else num_candidates
        num_draws = self.budget // 2 if self.antithetic else self.budget
        for i in range(num_draws):
            place = generator.uniform(num).to(x0.dtype)
            if self.stratified:
                place = (i + place) / num_draws
            logsnr, length = self._placed(place)
            eps = generator.normal(num, *x0.shape[1:]).to(x0.dtype)
            yield logsnr, length, eps
            if self.antithetic:
                yield logsnr, length, -eps

    def _placed(self, place: Float[Tensor, "b n"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
        """logsnr at a quantile of the draws, and the nats that such a draw stands for: the range times its relative weight, over its relative density."""
        density, weights = (place.new_tensor(parts or (1.0,)) for parts in (self.allocation, self.weights))
        density, weights = density / density.mean(), weights / weights.mean()
        ends = density.cumsum(0) / len(density)
        part = torch.searchsorted(ends, place).clamp(max=len(density) - 1)
        chosen = density[part]
        within = (place - ends[part]) / chosen + (part + 1) / len(density)
        range_nats = self.logsnr_max - self.logsnr_min
        weight = weights[(within * len(weights)).long().clamp(0, len(weights) - 1)]
        return self.logsnr_min + range_nats * within, range_nats * weight / chosen
