"""The paper's chain against closed-form class Gaussians: what it estimates, and what it estimates once its kernel is the posterior."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from posterior_cases import every_schedule, images, three_classes
from torch import Tensor

from genrep.posteriors import ReverseChain
from genrep.posteriors.base import one_by_one
from genrep.posteriors.reverse_chain import measured
from genrep.posteriors.tweedie import tweedie
from genrep.randomness import SampleGenerator
from genrep.schedules import RectifiedFlow, Schedule, expand
from tests.doubles import ClassGaussians


@every_schedule
def test_tweedie_gives_mean_and_covariance(schedule: Schedule) -> None:
    denoise, t = three_classes(schedule), torch.tensor([0.2, 0.5, 0.9]).double()
    xt, y = images(denoise, 3), torch.eye(3).double()
    found = tweedie(one_by_one(denoise), xt, t, y, schedule)
    snr = expand((schedule.alpha(t) / schedule.sigma(t)) ** 2, xt)
    var = 1 / (1 / denoise.variances + snr)
    covariance = torch.einsum("nde,ne,nfe->ndf", found.axes, found.var, found.axes)
    torch.testing.assert_close(covariance, torch.diag_embed(var.flatten(1)))
    known = torch.distributions.Normal(denoise(xt, t, y).x0_hat, var.sqrt())
    x0 = images(denoise, 5)
    torch.testing.assert_close(found.log_density(x0[:, None]), known.log_prob(x0[:, None]).flatten(2).sum(2))


def many_chains(**options: Any) -> Tensor:
    """Largest error over images and classes of the ABSOLUTE log-likelihood, nats."""
    denoise = three_classes()
    x0 = images(denoise, 4)
    options = {"budget": 4000, "chains": 200, "burn_in": 4, "thinning": 20, **options}
    estimator, generator = ReverseChain(**options), SampleGenerator(0, torch.arange(4))
    found = estimator(one_by_one(denoise), x0, denoise.candidates(4), schedule=denoise.schedule, generator=generator)
    return (found - denoise.log_likelihoods(x0)).abs().max()


def test_with_the_posterior_as_kernel_the_chain_estimates_the_likelihood_itself() -> None:
    """From states of one noisy time; the later a state, the fewer images it can speak for, and the more chains it takes."""
    assert many_chains(kernel="posterior") < 0.3 and many_chains() > 3


def test_spread_is_measured_on_images_of_known_class() -> None:
    base = three_classes()
    denoise = ClassGaussians(base.means, torch.full_like(base.variances, 0.5), base.schedule)
    x0, y = images(denoise, 3000), torch.eye(3).double()[torch.arange(3000) % 3]
    chain = ReverseChain(budget=8, burn_in=2, thinning=2)
    found = measured(chain, one_by_one(denoise), x0, y, schedule=denoise.schedule, generator=SampleGenerator(0, torch.arange(3000)))
    t = torch.linspace(1, 0, 10).double()[[2, 4, 6]]
    expected = 1 / (1 / 0.5 + (denoise.schedule.alpha(t) / denoise.schedule.sigma(t)) ** 2)
    assert found.kernel == "posterior" and found.spread == pytest.approx(expected.tolist(), rel=0.03)


def test_chain_estimates_the_density_of_noised_data() -> None:
    """Two hundred conditions of one class with noise of their own: the mean over their chains is p_s(x0 | y), not p_0(x0 | y)."""
    schedule, budget = RectifiedFlow(), 100
    denoise = ClassGaussians(torch.full((1, 1, 1, 1), 0.5).double(), torch.full((1, 1, 1, 1), 0.05).double(), schedule)
    x0 = torch.tensor([0.2, 0.5, 1.0]).double().reshape(3, 1, 1, 1)
    same_class = torch.arange(1, 2001).double().reshape(1, -1, 1).expand(3, -1, -1)
    estimator = ReverseChain(budget=budget, burn_in=budget // 2, thinning=budget, noise="independent")
    log_lik = estimator(one_by_one(denoise), x0, same_class, schedule=schedule, generator=SampleGenerator(0, torch.arange(3)))
    s = torch.tensor([1 - (budget // 2 + 1) / (budget + 1)]).double()
    noised_var = schedule.alpha(s) ** 2 * 0.05 + schedule.sigma(s) ** 2
    expected = torch.distributions.Normal(schedule.alpha(s) * 0.5, noised_var.sqrt()).log_prob(x0.flatten())
    torch.testing.assert_close((log_lik.logsumexp(1) - math.log(2000)), expected, rtol=0, atol=0.05)
    assert (expected - denoise.log_likelihoods(x0)[:, 0]).abs().max() > 0.5


def test_one_bank_serves_every_image_and_another_seed_refreshes_it() -> None:
    denoise, calls = three_classes(), []
    x0 = images(denoise, 6)

    def counting(xt: Tensor, t: Tensor, candidates: Tensor) -> Tensor:
        calls.append(len(xt) * candidates.shape[1])
        return one_by_one(denoise)(xt, t, candidates)

    options = {"schedule": denoise.schedule, "generator": SampleGenerator(0, torch.arange(6))}
    first, second = (ReverseChain(budget=10, burn_in=4, seed=seed)(counting, x0, denoise.candidates(6), **options) for seed in (0, 1))
    assert sum(calls) == 2 * 10 * 3 and (first - second).abs().min() > 0
    again = ReverseChain(budget=10, burn_in=4)(counting, x0, denoise.candidates(6), **options)
    torch.testing.assert_close(again, first, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"burn_in": 200}, "`burn_in` must be at least 0 and below a chain's 200 steps"),
        ({"burn_in": 100, "chains": 2}, "`burn_in` must be at least 0 and below a chain's 100 steps"),
        ({"chains": 3}, "`chains` must be at least 1 and divide `budget`; found 3 chains and 200 steps"),
        ({"kernel": "posterior", "burn_in": 0}, "pure noise says nothing"),
        ({"spread": (1.0,)}, "`spread` needs `kernel` posterior"),
        ({"kernel": "posterior", "spread": (1.0,)}, "a variance above 0 for each of 75 kept steps; found 1"),
        ({"thinning": 0}, "`thinning` at least 1"),
        ({"start": 0.0}, "`start` must be a time in"),
        ({"start": 0.5, "seed": 1}, "`seed` chooses a bank"),
    ],
)
def test_chain_refuses_what_it_would_have_to_ignore(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReverseChain(**options)
