"""The estimators on real 8 x 8 digits with an exact denoiser: a kernel density per class, whose posterior is known in closed form."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from genrep.posteriors import DenoisingGap, PosteriorEstimator, ReverseChain
from genrep.posteriors.base import one_by_one
from genrep.randomness import SampleGenerator, permutation
from genrep.schedules import RectifiedFlow
from tests.doubles import KernelDensities


@cache
def digits() -> tuple[KernelDensities, Tensor, Tensor]:
    """(the densities of 150 digits per class, 200 other digits, their classes)."""
    data = load_digits()
    images, labels = torch.from_numpy(data.images / 8 - 1)[:, None], torch.from_numpy(data.target)
    order = permutation(len(images), seed=0, epoch=0)
    images, labels = images[order], labels[order]
    per_class = torch.stack([images[labels == k][:170] for k in range(10)])
    densities = KernelDensities(per_class[:, :150], bandwidth=0.2, schedule=RectifiedFlow())
    return densities, per_class[:, 150:].flatten(0, 1), torch.arange(10).repeat_interleave(20)


def judge(estimator: PosteriorEstimator) -> tuple[float, float]:
    """(accuracy, mean KL(exact posterior, estimate) in nats), with a uniform prior."""
    densities, x0, labels = digits()
    candidates = torch.eye(10, dtype=x0.dtype).expand(len(x0), -1, -1)
    generator = SampleGenerator(0, torch.arange(len(x0)))
    log_probs = estimator(one_by_one(densities), x0, candidates, schedule=densities.schedule, generator=generator).log_softmax(1)
    exact = densities.log_likelihoods(x0).log_softmax(1)
    divergence = (exact.exp() * (exact - log_probs)).sum(1).mean()
    return log_probs.argmax(1).eq(labels).double().mean().item(), divergence.item()


def test_the_exact_posterior_is_nearly_always_right() -> None:
    densities, x0, labels = digits()
    assert densities.log_likelihoods(x0).argmax(1).eq(labels).double().mean() > 0.98


@pytest.mark.parametrize(("budget", "divergence"), [(4, 0.05), (16, 0.005)])
def test_the_gap_finds_the_exact_posterior_with_few_evaluations(budget: int, divergence: float) -> None:
    accuracy, found = judge(DenoisingGap(budget=budget))
    assert accuracy > 0.97 and found < divergence


def test_the_gap_with_independent_noise_needs_far_more() -> None:
    accuracy, divergence = judge(DenoisingGap(budget=16, noise="independent", stratified=False, antithetic=False))
    assert accuracy < 0.9 and divergence > 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_chain_as_written_is_near_chance_and_better_with_shared_noise(seed: int) -> None:
    """At fifty times the budget of the gap: one chain per class sees few digits, and noised ones."""
    accuracy, divergence = judge(ReverseChain(noise="independent", seed=seed))
    assert accuracy < 0.35 and divergence > 30
    shared, _ = judge(ReverseChain(noise="shared", seed=seed))
    assert accuracy + 0.2 < shared < 0.9


def test_the_chain_from_the_noised_image_is_no_posterior_either() -> None:
    accuracy, divergence = judge(ReverseChain(start=0.5, budget=60, burn_in=20))
    assert 0.5 < accuracy < 0.97 and divergence > 1
