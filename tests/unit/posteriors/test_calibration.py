"""Temperature and bias: recovered from data that have them, finite where data have none."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from genrep.posteriors.calibration import Calibration, ObjectCalibration, fit_calibration, fit_object_calibration
from genrep.randomness import SampleGenerator


def draw(log_probs: Tensor) -> Tensor:
    """One label per row."""
    uniform = SampleGenerator(2, torch.arange(len(log_probs)), "labels").uniform(1)
    return (log_probs.exp().cumsum(1) < uniform).sum(1).clamp(max=log_probs.shape[1] - 1)


def log_likelihoods(num: int, num_classes: int) -> Tensor:
    return 40 * SampleGenerator(1, torch.arange(num)).normal(num_classes).double()


def test_fit_recovers_temperature_and_bias() -> None:
    log_lik, prior = log_likelihoods(20_000, 3), torch.tensor([0.5, 0.3, 0.2]).log()
    truth = Calibration(tau=0.05, bias=(0.6, 0.0, -0.6))
    fitted = fit_calibration({4: log_lik}, draw(truth.log_posterior(log_lik, prior, budget=4)), prior)
    assert fitted.tau == pytest.approx(0.05, rel=0.05)
    assert fitted.bias == pytest.approx(truth.bias, abs=0.1)


def test_fit_knows_what_a_budget_is_worth() -> None:
    """Two classes, l = +-1/2 with noise of variance 4 / n: the best slope on the observed difference is 1 / (1 + 4 / n) of the noiseless one."""
    labels = torch.arange(20_000) % 2
    signal, noise = labels.double() - 0.5, SampleGenerator(3, torch.arange(20_000)).normal(2).double()
    blurred = signal[:, None] * torch.tensor([-1.0, 1.0]) + 0.5 * noise
    log_lik = {n: blurred + (2 / n) ** 0.5 * SampleGenerator(4 + n, torch.arange(20_000)).normal(2).double() for n in (2, 8)}
    fitted = fit_calibration(log_lik, labels, torch.zeros(2))
    assert fitted.noisiness == pytest.approx(8, rel=0.15) and fitted.tau == pytest.approx(4, rel=0.1)
    alone = {n: fit_calibration({n: values}, labels, torch.zeros(2)) for n, values in log_lik.items()}
    for n, each in alone.items():
        assert each.noisiness == 0 and each.tau == pytest.approx(fitted.tau / (1 + fitted.noisiness / n), rel=0.05)
    with pytest.raises(ValueError, match="at least one budget"):
        fit_calibration({}, labels, torch.zeros(2))


def test_posterior_is_bayes_rule_without_temperature_and_bias() -> None:
    log_lik, prior = torch.tensor([[-1.0, 2.0]]), torch.tensor([0.25, 0.75])
    odds = math.exp(3) * 3
    found = Calibration(tau=1.0, bias=(0.0, 0.0)).log_posterior(log_lik, prior.log(), budget=1).exp()
    torch.testing.assert_close(found, torch.tensor([[1 / (1 + odds), odds / (1 + odds)]]))


def test_the_posterior_among_some_classes_is_that_among_all_given_that_it_is_one_of_them() -> None:
    log_lik, prior = log_likelihoods(50, 4), torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    calibration, classes = Calibration(tau=0.1, bias=(0.0, 0.5, -0.5, 1.0)), torch.tensor([[3, 1]]).expand(50, -1)
    among = calibration.log_posterior(log_lik.gather(1, classes), prior, budget=1, classes=classes)
    every = calibration.log_posterior(log_lik, prior, budget=1)
    torch.testing.assert_close(among, every.gather(1, classes).log_softmax(1))


def test_a_constant_per_image_changes_nothing() -> None:
    log_lik, prior = log_likelihoods(500, 4), torch.zeros(4)
    labels = draw((0.05 * log_lik).log_softmax(1))
    shifted = log_lik + 1000 * torch.arange(500).double()[:, None]
    plain, moved = fit_calibration({1: log_lik}, labels, prior), fit_calibration({1: shifted}, labels, prior)
    assert moved.tau == pytest.approx(plain.tau, rel=1e-3)
    assert moved.bias == pytest.approx(plain.bias, abs=1e-3)


@pytest.mark.parametrize("case", ["constant", "separated", "uninformative", "misleading", "one label"])
def test_degenerate_data_give_finite_answers(case: str) -> None:
    labels = torch.arange(300) % 3
    one_hot = torch.nn.functional.one_hot(labels, 3).double()
    log_lik = {
        "constant": torch.zeros(300, 3).double(),
        "separated": 500 * one_hot,
        "uninformative": log_likelihoods(300, 3),
        "misleading": -500 * one_hot,
        "one label": log_likelihoods(300, 3),
    }[case]
    fitted = fit_calibration({1: log_lik}, torch.zeros_like(labels) if case == "one label" else labels, torch.zeros(3))
    probs = fitted.log_posterior(log_lik, torch.zeros(3), budget=1).exp()
    assert fitted.tau > 0 and math.isfinite(fitted.tau) and probs.isfinite().all()
    accuracy = probs.argmax(1).eq(labels).double().mean()
    assert case != "separated" or (accuracy == 1 and probs.max() > 0.99)
    assert case not in ("uninformative", "misleading") or probs.max() < 0.6


def test_object_fit_recovers_the_power_of_the_area_from_shortlists() -> None:
    num, num_classes = 20_000, 5
    area = 10 + 400 * SampleGenerator(3, torch.arange(num)).uniform(1)[:, 0].double()
    classes = SampleGenerator(4, torch.arange(num)).uniform(num_classes).argsort(1)[:, :3]
    log_lik = log_likelihoods(num, 3) * area[:, None] ** 0.2 / 3
    truth = ObjectCalibration(tau=0.2, gamma=0.2, bias=(0.4, 0.2, 0.0, -0.2, -0.4))
    labels = draw(truth.log_posterior(log_lik, area, classes))
    fitted = fit_object_calibration(log_lik, labels, area=area, classes=classes, num_classes=num_classes)
    assert fitted.gamma == pytest.approx(0.2, abs=0.05)
    assert fitted.tau == pytest.approx(0.2, rel=0.25)
    assert fitted.bias == pytest.approx(truth.bias, abs=0.12)


def test_object_fit_stays_finite_on_a_handful() -> None:
    for seed in range(20):
        log_lik = 1e-6 * SampleGenerator(seed, torch.arange(6)).normal(3).double()
        classes = torch.tensor([[0, 1, 2], [3, 1, 0]]).repeat(3, 1)
        area = 40 + SampleGenerator(seed, torch.arange(6), "area").uniform(1)[:, 0].double()
        fitted = fit_object_calibration(log_lik, torch.arange(6) % 3, area=area, classes=classes, num_classes=4)
        assert math.isfinite(fitted.tau) and fitted.tau > 0 and 0 <= fitted.gamma <= 1 and all(map(math.isfinite, fitted.bias))


def test_object_posterior_in_closed_form() -> None:
    calibration = ObjectCalibration(tau=2.0, gamma=0.5, bias=(0.0, 0.0, math.log(3)))
    found = calibration.log_posterior(torch.tensor([[0.0, 3.0]]), torch.tensor([9.0]), torch.tensor([[2, 0]])).exp()
    odds = 3 / math.exp(2)
    torch.testing.assert_close(found, torch.tensor([[odds / (1 + odds), 1 / (1 + odds)]]))


@pytest.mark.parametrize("part", [Calibration(tau=0.3, bias=(0.1, -0.1), noisiness=2.0), ObjectCalibration(tau=0.3, gamma=0.6, bias=(0.1, -0.1))])
def test_survives_json(part: Calibration | ObjectCalibration) -> None:
    assert type(part).from_dict(json.loads(json.dumps(part.to_dict()))) == part


def test_fits_also_where_gradients_are_off() -> None:
    with torch.no_grad():
        assert fit_calibration({1: torch.eye(3)}, torch.arange(3), torch.zeros(3)).tau > 0
