"""Evaluations go to the candidates that may still win."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.posteriors.base import PosteriorEstimator, require_candidates
from genrep.posteriors.denoising_gap import DenoisingGap
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving(PosteriorEstimator):
    """Rounds of another estimator, each with the better half of the candidates that are left, two at least.

        l_j = mean over the rounds r that j took part in of (l_jr - mean over the candidates left at the end of l_ir)

    Who leaves keeps what is known of it: its distance, in the rounds it took part in, to those that took part in all. Ten candidates in four
    rounds cost half of the evaluations.

    Args:
        budget: evaluations of a candidate that stays to the end, in equal parts for the rounds.
        estimator: of a round; its own budget does not matter.
        rounds: at least 1.
    Raises:
        ValueError: no round, a budget that the rounds cannot share equally, or whose part the estimator does not take.
    Source: Karnin, Koren and Somekh 2013 (sequential halving); Clark and Jaini 2023, arXiv:2303.15233, prune classes in a similar way.
    """

    budget: int = 16
    estimator: PosteriorEstimator = field(default_factory=DenoisingGap)
    rounds: int = 4
    decomposes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 1:
            raise ValueError(f"`rounds` must be at least 1; found {self.rounds}.")
        if self.budget % self.rounds:
            raise ValueError(f"`budget` must be a multiple of `rounds` = {self.rounds}; found {self.budget}.")
        self._round()

    def _round(self) -> PosteriorEstimator:
        return replace(self.estimator, budget=self.budget // self.rounds)

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
        one, num = self._round(), candidates.shape[1]
        left = torch.arange(num, device=x0.device).expand(len(x0), -1)
        found = x0.new_full((self.rounds, len(x0), num), torch.nan)
        for i in range(self.rounds):
            if i:
                left = _better_half(found[:i].mean(0), left)
            asked = candidates.gather(1, left[..., None].expand(-1, -1, candidates.shape[2]))
            found[i] = found[i].scatter(1, left, one(denoise, x0, asked, schedule=schedule, generator=generator).to(found))
        of_the_last = found.gather(2, left.expand(self.rounds, -1, -1)).mean(2, keepdim=True)
        return (found - of_the_last).nanmean(0)


def _better_half(log_lik: Float[Tensor, "b m"], left: Int[Tensor, "b l"]) -> Int[Tensor, "b h"]:
    """Of the candidates that are left: they took part in all rounds so far, so that these means compare."""
    num = max(2, math.ceil(left.shape[1] / 2))
    return left.gather(1, log_lik.gather(1, left).topk(num, dim=1).indices)
