"""Class Gaussians whose posterior is known, and what an estimator makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genrep.posteriors import POSTERIORS, PosteriorEstimator, ReverseChain
from genrep.posteriors.base import one_by_one
from genrep.randomness import SampleGenerator
from genrep.schedules import SCHEDULES, RectifiedFlow, Schedule
from tests.doubles import ClassGaussians

CHAINS = (
    ReverseChain(start=0.4, budget=20, burn_in=5),
    ReverseChain(start=0.4, budget=20, burn_in=5, chains=2),
    ReverseChain(budget=20, burn_in=5, chains=2, noise="independent"),
    ReverseChain(budget=20, burn_in=5, kernel="posterior", chains=2),
    ReverseChain(start=0.4, budget=6, burn_in=5, kernel="posterior", spread=(0.1,)),
)
every_estimator = pytest.mark.parametrize("estimator", [*(cls() for cls in POSTERIORS.values()), *CHAINS])
every_schedule = pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=SCHEDULES)


def three_classes(schedule: Schedule | None = None) -> ClassGaussians:
    """Two channels of 2 x 3 pixels; the means differ by little, as those of hard classes do."""
    means = 0.4 * SampleGenerator(5, torch.arange(3), "means").normal(2, 2, 3).double()
    variances = 0.3 + SampleGenerator(5, torch.arange(3), "variances").uniform(2, 2, 3).double()
    return ClassGaussians(means, variances, schedule or RectifiedFlow())


def images(denoise: ClassGaussians, num: int) -> Tensor:
    label = torch.arange(num) % len(denoise.means)
    noise = SampleGenerator(9, torch.arange(num), "images").normal(*denoise.means.shape[1:]).double()
    return denoise.means[label] + denoise.variances[label].sqrt() * noise


def estimate(estimator: PosteriorEstimator, denoise: ClassGaussians, x0: Tensor, index: Tensor | None = None) -> Tensor:
    generator = SampleGenerator(0, torch.arange(len(x0)) if index is None else index)
    candidates = denoise.candidates(len(x0)).to(x0)
    return estimator(one_by_one(denoise), x0, candidates, schedule=denoise.schedule, generator=generator)


def centred(log_lik: Tensor) -> Tensor:
    return log_lik - log_lik.mean(1, keepdim=True)
