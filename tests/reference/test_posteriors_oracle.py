"""The estimators on real 8 x 8 digits with an exact denoiser: a kernel density per class, whose posterior is known in closed form."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from genrep.evaluation.oracle import KernelDensities, Oracle, Scores, load_oracle, score
from genrep.evaluation.posterior_bench import pilot, piloted
from genrep.posteriors import DenoisingGap, PosteriorEstimator, ReverseChain
from genrep.schedules import SCHEDULES


@cache
def oracle() -> Oracle:
    return load_oracle().first(200)


def judge(estimator: PosteriorEstimator) -> Scores:
    return score(oracle().estimated(estimator, seed=0), oracle().exact(), oracle().labels)


def mixture(points: Tensor, alpha: float, std: float) -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(logits=torch.zeros(len(points)).double()), Independent(Normal(alpha * points.flatten(1), std), 1))


def test_likelihoods_are_those_of_the_mixtures() -> None:
    densities, x0 = oracle().densities, oracle().images[:5]
    expected = torch.stack([mixture(points, 1.0, densities.bandwidth).log_prob(x0.flatten(1)) for points in densities.points], dim=1)
    torch.testing.assert_close(densities.log_likelihoods(x0), expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_denoiser_is_the_posterior_mean(schedule: str) -> None:
    """By Tweedie's formula: alpha E[x0 | xt] = xt + sigma^2 times the gradient of the noised log density."""
    known = oracle().densities
    densities = KernelDensities(known.points, known.bandwidth, SCHEDULES[schedule]())
    for time in (0.2, 0.6):
        t = torch.full((4,), time).double()
        alpha, sigma = (float(of(t)[0]) for of in (densities.schedule.alpha, densities.schedule.sigma))
        xt = (alpha * oracle().images[:4] + 0.5 * sigma).requires_grad_()
        label = torch.tensor([3, 3, 0, 8])
        std = (alpha**2 * densities.bandwidth**2 + sigma**2) ** 0.5
        log_density = torch.stack([mixture(densities.points[k], alpha, std).log_prob(x.flatten()) for k, x in zip(label.tolist(), xt, strict=True)])
        (slope,) = torch.autograd.grad(log_density.sum(), xt)
        expected = (xt + sigma**2 * slope) / alpha
        torch.testing.assert_close(densities(xt.detach(), t, torch.eye(10).double()[label]).x0_hat, expected.detach())


def test_no_digit_is_in_two_of_the_splits() -> None:
    val, test = load_oracle(test=False), load_oracle()
    assert (sum(map(len, val.densities.points)), len(val.images), len(test.images)) == (1000, 300, 497)
    everything = torch.cat([*val.densities.points, val.images, test.images])
    assert len(everything.unique(dim=0)) == 1797
    assert val.densities.bandwidth == test.densities.bandwidth
    narrower, wider = (KernelDensities(val.densities.points, val.densities.bandwidth + step, val.densities.schedule) for step in (-0.02, 0.02))
    best, *others = (float(each.log_likelihoods(val.images).gather(1, val.labels[:, None]).sum()) for each in (val.densities, narrower, wider))
    assert best > max(others)


def test_scores_of_a_known_estimate() -> None:
    exact = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).double().log()
    found = score(torch.tensor([[0.75, 0.25], [0.9, 0.1]]).double().log(), exact, torch.tensor([0, 1]))
    assert found.kl == pytest.approx(0.5 * (0.5 * torch.log(torch.tensor(0.5 / 0.75 * 0.5 / 0.25)).item()))
    assert (found.agreement, found.accuracy) == (1.0, 0.5)
    assert found.nll == pytest.approx(-(torch.tensor(0.75).log() + torch.tensor(0.1).log()).item() / 2)


def test_the_exact_posterior_is_nearly_always_right() -> None:
    assert score(oracle().exact(), oracle().exact(), oracle().labels).accuracy > 0.98


@pytest.mark.parametrize(("budget", "divergence"), [(4, 0.3), (16, 0.05)])
def test_the_gap_finds_the_exact_posterior_with_few_evaluations(budget: int, divergence: float) -> None:
    found = judge(DenoisingGap(budget=budget))
    assert found.accuracy > 0.97 and found.kl < divergence


def test_the_chain_is_right_once_its_kernel_is_what_its_states_say_of_the_image() -> None:
    found, spread = judge(ReverseChain(kernel="posterior")), judge(piloted(ReverseChain()))
    assert found.accuracy > 0.95 and found.kl < 0.5 and 0.75 < spread.accuracy < found.accuracy


def test_a_pilot_run_on_other_digits_pays() -> None:
    even, chosen = (DenoisingGap(budget=4, allocation=allocation) for allocation in (None, pilot()))
    assert pilot() != (1.0,) * 15 and judge(chosen).kl < 0.7 * judge(even).kl


def test_the_gap_with_independent_noise_needs_far_more() -> None:
    found = judge(DenoisingGap(budget=16, noise="independent", stratified=False, antithetic=False))
    assert found.accuracy < 0.7 and found.kl > 10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_chain_as_written_is_near_chance_and_better_with_shared_noise(seed: int) -> None:
    """At fifty times the budget of the gap: one chain per class sees few digits, and noised ones."""
    independent = judge(ReverseChain(noise="independent", seed=seed))
    assert independent.accuracy < 0.4 and independent.kl > 30
    assert independent.accuracy + 0.2 < judge(ReverseChain(noise="shared", seed=seed)).accuracy < 0.93


def test_the_chain_from_the_noised_image_is_no_posterior_either() -> None:
    found = judge(ReverseChain(start=0.5, budget=60, burn_in=20))
    assert 0.5 < found.accuracy < 0.97 and found.kl > 1
