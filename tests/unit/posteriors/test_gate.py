"""The gate opens for information, not for noise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from genrep.posteriors.calibration import fit_calibration
from genrep.posteriors.gate import Gate, fit_gate
from genrep.randomness import SampleGenerator


def experts(num: int, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """log q, log p and labels drawn from the product of q and the doubted p to the power of `weight`."""
    draws = SampleGenerator(1, torch.arange(num))
    log_q, log_p = (2 * draws.normal(5).double()).log_softmax(1), (2 * draws.normal(5).double()).log_softmax(1)
    chosen = Gate(weight=weight, standard_error=1.0).product(log_q, log_p).exp().cumsum(1)
    return log_q, log_p, (chosen < draws.uniform(1)).sum(1).clamp(max=4)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0, 1.5])
def test_recovers_the_weight_within_its_standard_error(weight: float) -> None:
    gate = fit_gate(*experts(20_000, weight))
    assert abs(gate.weight - weight) < 3 * gate.standard_error < 0.05


def test_standard_error_is_the_spread_of_the_fit() -> None:
    log_q, log_p, labels = experts(40_000, 0.5)
    parts = [fit_gate(q, p, y) for q, p, y in zip(log_q.split(400), log_p.split(400), labels.split(400), strict=True)]
    spread = torch.tensor([part.weight for part in parts]).std().item()
    assert spread == pytest.approx(parts[0].standard_error, rel=0.25)


def test_is_the_maximum_of_the_likelihood() -> None:
    log_q, log_p, labels = experts(2000, 0.7)
    gate = fit_gate(3 * log_q, log_p, labels)

    def log_posterior_of(v: float, w: float) -> float:
        picked = Gate(weight=w, standard_error=1, head=v).product(3 * log_q, log_p).gather(1, labels[:, None])
        return float(picked.sum()) - (w**2 + (v - 1) ** 2) / 2

    best = log_posterior_of(gate.head, gate.weight)
    assert all(best > log_posterior_of(gate.head + v, gate.weight + w) for v, w in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)))


def test_a_product_is_as_precise_under_autocast() -> None:
    """Lessons are given amid losses in half precision."""
    log_q, log_p, _ = experts(200, 0.5)
    gate, exact = Gate(weight=0.5, standard_error=0.1, head=1.1), None
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found = gate.product(log_q.float(), log_p.float())
        exact = found if exact is None else exact
        assert found.dtype == torch.float32 and torch.equal(found, exact)


@pytest.mark.parametrize("too_sure", [0.5, 3.0, 30.0])
def test_a_head_that_is_too_sure_does_not_hide_what_the_posterior_knows(too_sure: float) -> None:
    log_q, log_p, labels = experts(2000, 0.5)
    gate = fit_gate((too_sure * log_q).log_softmax(1), log_p, labels)
    assert gate.teaches and abs(gate.weight - 0.5) < 3 * gate.standard_error
    assert gate.head == pytest.approx(1 / too_sure, rel=0.2)


@pytest.mark.parametrize("nats", [30.0, 3000.0])
def test_a_posterior_that_is_sure_and_wrong_of_a_few_teaches_what_it_knows_of_the_others(nats: float) -> None:
    log_q, log_p, labels = experts(400, 0.5)
    wrong = torch.arange(400) % 100 == 0
    log_p[wrong] = (nats * torch.nn.functional.one_hot((labels[wrong] + 1) % 5, 5).double()).log_softmax(1)
    gate, without = fit_gate(log_q, log_p, labels), fit_gate(log_q[~wrong], log_p[~wrong], labels[~wrong])
    assert gate.teaches and abs(gate.weight - without.weight) < 2 * gate.standard_error


def test_a_head_that_is_not_sure_enough_does_not_pass_for_a_posterior_that_knows() -> None:
    """What the posterior repeats of the head makes the product surer; that alone is no knowledge."""
    log_q, noise, labels = experts(2000, 0.0)
    gate = fit_gate((0.5 * log_q).log_softmax(1), (0.5 * log_q + noise).log_softmax(1), labels)
    assert not gate.teaches and gate.head == pytest.approx(2, rel=0.2)


def test_a_posterior_that_repeats_the_head_does_not_teach() -> None:
    log_q, _, labels = experts(5000, 0.0)
    gate = fit_gate(log_q, log_q, labels)
    assert abs(gate.weight) < 3 * gate.standard_error and gate.teaches == 0


def test_a_posterior_against_the_labels_does_not_teach() -> None:
    log_q, log_p, labels = experts(5000, -0.5)
    gate = fit_gate(log_q, log_p, labels)
    assert gate.weight == pytest.approx(-0.5, abs=0.1) and gate.teaches == 0


def test_a_flat_posterior_says_nothing() -> None:
    log_q, _, labels = experts(100, 0.0)
    gate = fit_gate(log_q, torch.full((100, 5), -math.log(5)), labels)
    assert gate.weight == pytest.approx(0, abs=1e-9) and gate.standard_error == pytest.approx(1) and gate.teaches == 0


def test_a_posterior_that_is_never_wrong_teaches_at_full_weight() -> None:
    labels = torch.arange(200) % 5
    log_p = (5 * torch.nn.functional.one_hot(labels, 5).double()).log_softmax(1)
    gate = fit_gate(torch.full((200, 5), -math.log(5)), log_p, labels)
    assert math.isfinite(gate.weight) and gate.teaches == 1


@pytest.mark.parametrize("at", [0, 1])
def test_impossible_candidates_stay_finite(at: int) -> None:
    log_q, log_p, labels = experts(200, 1.0)
    log_p[:, at] = -math.inf
    log_q[:, 4] = -math.inf
    gate = fit_gate(log_q, log_p, labels)
    assert math.isfinite(gate.weight) and 0 < gate.standard_error <= 1


def test_noise_calibrated_on_other_images_keeps_the_gate_shut() -> None:
    """On its own images the biases, fitted to ten class frequencies, pass for knowledge; on others they do not."""
    opened = {"own": 0.0, "other": 0.0}
    for seed in range(20):
        draws = SampleGenerator(seed, torch.arange(512))
        labels, log_lik = draws.integers(10, 1)[:, 0], draws.normal(10).double()
        log_q = draws.normal(10).double().log_softmax(1)
        here, there, prior = slice(0, 256), slice(256, 512), torch.zeros(10)
        for name, fitted_on in (("own", here), ("other", there)):
            posterior = fit_calibration({1: log_lik[fitted_on]}, labels[fitted_on], prior).log_posterior(log_lik[here], prior, budget=1)
            opened[name] += (fit_gate(log_q[here], posterior, labels[here]).teaches > 0) / 20
    assert opened["other"] <= 0.1 and opened["own"] > 0.5


@pytest.mark.parametrize(("weight", "error", "teaches"), [(3.0, 1.0, True), (0.5, 0.2, True), (0.5, 0.25, False), (-1.0, 0.1, False)])
def test_teaches_two_standard_errors_above_zero(weight: float, error: float, teaches: bool) -> None:
    gate = Gate(weight=weight, standard_error=error)
    assert gate.teaches == teaches
    assert gate.to_dict() == {"weight": weight, "standard_error": error, "head": 1.0, "alone": 1.0}


def test_alone_the_head_is_as_sure_as_it_should_be() -> None:
    """Beside a posterior that shares its evidence it counts for less, which says nothing of how sure it is by itself."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (4000,), generator=g)
    both = 4.0 * torch.nn.functional.one_hot(labels, 10) + 2.0 * torch.randn(4000, 10, generator=g)
    log_q, log_p = ((both + 0.8 * torch.randn(4000, 10, generator=g)).log_softmax(1) for _ in range(2))
    gate = fit_gate(log_q, log_p, labels)
    uninformed = fit_gate(log_q, torch.full_like(log_p, -math.log(10)), labels)
    assert gate.head < 0.7 * gate.alone and gate.alone == pytest.approx(uninformed.alone, abs=1e-6)
    assert gate.alone == pytest.approx(uninformed.head, abs=1e-3)
    sure = gate.of_head(log_q).exp().amax(1)
    assert float(sure.mean()) == pytest.approx(float((log_q.argmax(1) == labels).double().mean()), abs=0.02)
    assert float(replace(gate, alone=gate.head).of_head(log_q).exp().amax(1).mean()) < float(sure.mean()) - 0.1
