"""Likelihoods by the bound of the discrete chain, by its integral and by the probability-flow ODE, against class Gaussians."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from posterior_cases import centred, estimate, every_schedule, images, three_classes
from torch import Tensor

from genrep.posteriors import PosteriorEstimator, ProbabilityFlow, VariationalBound
from genrep.posteriors.base import one_by_one
from genrep.posteriors.likelihood import NegativeLogLikelihood, nll_by_description, nll_by_flow
from genrep.randomness import SampleGenerator
from genrep.schedules import CosineVP, LinearBetas, RectifiedFlow, Schedule
from tests.doubles import ClassGaussians


def test_bound_is_the_sum_over_the_steps_of_its_chain() -> None:
    """Every step of a short chain once, many times over: then only the noise is random, and its mean is known for Gaussians."""
    denoise, num_steps, num = three_classes(), 12, 3000
    x0 = images(denoise, 2)
    estimator = VariationalBound(num_steps=num_steps, budget=2 * num_steps + 2, logsnr_min=-4, logsnr_max=3)
    found = estimate(estimator, denoise, x0.repeat(num, 1, 1, 1)).unflatten(0, (num, 2))
    snr = torch.linspace(3, -4, num_steps + 1).double().exp().tolist()
    d2, var = (x0[:, None] - denoise.means) ** 2, denoise.variances
    error = [((d2 + each * var**2) / (1 + each * var) ** 2).flatten(2).sum(2) for each in snr]
    steps = sum((before - after) / 2 * miss for (before, after), miss in zip(pairwise(snr), error[1:], strict=True))
    error_of_mean = centred(found.mean(0)) - centred(-steps - snr[0] / 2 * error[0])
    assert (error_of_mean.abs() < 4 * centred(found.flatten(0, 1)).unflatten(0, (num, 2)).std(0) / num**0.5).all()


def test_bound_of_a_long_chain_is_the_gap() -> None:
    denoise = three_classes()
    x0 = images(denoise, 3)
    found = centred(estimate(VariationalBound(budget=34), denoise, x0.repeat(2000, 1, 1, 1)).unflatten(0, (2000, 3)).mean(0))
    torch.testing.assert_close(found, centred(denoise.gaps(x0, -12, 7)), rtol=0, atol=0.1)


@pytest.mark.parametrize("schedule", [RectifiedFlow(), CosineVP(), LinearBetas(last=0.04)])
def test_flow_is_the_exact_likelihood_at_second_order(schedule: Schedule) -> None:
    """With independent dimensions the Jacobian is diagonal, so that one probe of signs gives its trace exactly. Betas that grow further than usual leave
    nothing of the image, as the other schedules do."""
    denoise = three_classes(schedule)
    x0 = images(denoise, 3)
    errors = [(estimate(ProbabilityFlow(budget=budget, logsnr_min=-14, logsnr_max=14), denoise, x0) - denoise.log_likelihoods(x0)) for budget in (60, 120, 240)]
    worst = [float(error.abs().max()) for error in errors]
    assert worst[2] < 0.02 and worst[0] / worst[1] > 3 and worst[1] / worst[2] > 3


def test_flow_leaves_no_gradients_behind() -> None:
    denoise = three_classes()
    x0 = images(denoise, 2).requires_grad_()
    with torch.no_grad():
        assert not estimate(ProbabilityFlow(budget=4), denoise, x0).requires_grad
    assert x0.grad is None


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        (VariationalBound, {"budget": 2}, "`budget` must be even, at least 4 and at most 2 \\* `num_steps` \\+ 2; found 2"),
        (VariationalBound, {"budget": 7}, "found 7 for 1000 steps"),
        (VariationalBound, {"budget": 24, "num_steps": 10}, "found 24 for 10 steps"),
        (VariationalBound, {"logsnr_max": -9.0}, "`logsnr_min` must be below `logsnr_max`"),
        (ProbabilityFlow, {"budget": 3}, "`budget` must be even"),
        (ProbabilityFlow, {"logsnr_min": 7.0}, "`logsnr_min` must be below `logsnr_max`"),
    ],
)
def test_bound_and_flow_refuse_what_they_cannot_do(estimator: type[PosteriorEstimator], options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        estimator(**options)


def described(denoise: ClassGaussians, x0: Tensor, **options: Any) -> NegativeLogLikelihood:
    label = torch.arange(len(x0)) % 3
    y, generator = torch.eye(3, dtype=x0.dtype)[label], SampleGenerator(0, torch.arange(len(x0)), "nll")
    road = nll_by_flow if "num_probes" in options else nll_by_description
    return road(one_by_one(denoise), x0, y, schedule=denoise.schedule, generator=generator, **options)


@every_schedule
def test_three_roads_meet_in_the_exact_likelihood(schedule: Schedule) -> None:
    denoise = three_classes(schedule)
    x0 = images(denoise, 3).repeat(400, 1, 1, 1)
    exact = -denoise.log_likelihoods(x0[:3]).diagonal().repeat(400)
    for options, slack in (({}, 0.02), ({"num_steps": 2000}, 0.05), ({"num_probes": 2, "num_steps": 60}, 0.02)):
        found = described(denoise, x0, **options)
        error = found.nats - exact
        assert error.mean().abs() < 4 * error.std() / len(error) ** 0.5 + slack
        assert found.standard_error.shape == (1200,)


def test_a_short_chain_costs_more_and_its_standard_error_covers_the_draws() -> None:
    denoise = three_classes()
    x0 = images(denoise, 3)[:1].repeat(600, 1, 1, 1)
    nats = [described(denoise, x0, num_draws=10, **steps).nats.mean() for steps in ({"num_steps": 10}, {"num_steps": 40}, {})]
    assert nats[0] > nats[1] > nats[2]
    found = described(denoise, images(denoise, 3)[:1].repeat(600, 1, 1, 1), num_draws=10)
    same = found.nats[::3]
    assert same.std() < 1.1 * found.standard_error.square().mean().sqrt()


@pytest.mark.parametrize(
    ("options", "message"), [({"num_draws": 1}, "`num_draws` must be at least 2"), ({"num_draws": 8, "num_steps": 4}, "found 8 draws and 4")]
)
def test_descriptions_need_draws_and_steps(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        described(three_classes(), images(three_classes(), 3), **options)
    with pytest.raises(ValueError, match="`num_probes` must be at least 2; found 1"):
        described(three_classes(), images(three_classes(), 3), num_probes=1)


@pytest.mark.parametrize("num_draws", [16, 256])
def test_more_draws_are_nearer_and_the_error_is_known(num_draws: int) -> None:
    """The clean end included, which one pair of evaluations would leave as random as ever."""
    denoise = three_classes()
    x0 = images(denoise, 3).repeat(100, 1, 1, 1)
    found = described(denoise, x0, num_draws=num_draws)
    apart = (found.nats - found.nats.unflatten(0, (100, 3)).mean(0).repeat(100)).square().mean().sqrt()
    known = found.standard_error.square().mean().sqrt()
    assert 0.85 * float(apart) < float(known) < 1.2 * float(apart) and float(apart) < 25 / num_draws**0.5
