"""Class frequencies from unlabelled images: recovered where posteriors are right, and what they are good for."""

from __future__ import annotations

import pytest
import torch
from posterior_cases import three_classes
from torch import Tensor

from genrep.posteriors.prior import estimate_prior
from genrep.randomness import SampleGenerator


def labelled(frequency: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """log p(x | y) of images whose classes have these frequencies, and the classes."""
    denoise = three_classes()
    label = (frequency.cumsum(0) < SampleGenerator(1, torch.arange(num), "labels").uniform(1)).sum(1).clamp(max=2)
    noise = SampleGenerator(1, torch.arange(num), "images").normal(2, 2, 3).double()
    return denoise.log_likelihoods(denoise.means[label] + denoise.variances[label].sqrt() * noise), label


def test_frequencies_are_recovered_whatever_prior_the_posterior_had() -> None:
    truth, trained = torch.tensor([0.9, 0.02, 0.08]).double(), torch.tensor([0.2, 0.5, 0.3]).double().log()
    log_lik, _ = labelled(truth, 20_000)
    for log_prior in (None, trained):
        log_posterior = (log_lik + (0 if log_prior is None else log_prior)).log_softmax(1)
        torch.testing.assert_close(estimate_prior(log_posterior, log_prior).exp(), truth, rtol=0, atol=0.01)


def test_the_right_prior_makes_fewer_mistakes() -> None:
    log_lik, label = labelled(torch.tensor([0.9, 0.02, 0.08]).double(), 5000)
    uniform = log_lik.log_softmax(1)
    repaired = uniform + estimate_prior(uniform)
    wrong, fewer = ((log_probs.argmax(1) != label).double().mean() for log_probs in (uniform, repaired))
    assert fewer < 0.7 * wrong


def test_an_absent_class_keeps_a_chance_where_asked() -> None:
    log_posterior = torch.tensor([[0.98, 0.01, 0.01]]).log().expand(50, -1)
    assert estimate_prior(log_posterior)[1] < -10
    assert estimate_prior(log_posterior, concentration=2).exp()[1] > 1 / 60


@pytest.mark.parametrize(("num", "concentration"), [(0, 1.0), (3, 0.5)])
def test_needs_images_and_a_proper_concentration(num: int, concentration: float) -> None:
    with pytest.raises(ValueError, match="at least 1 image and a `concentration` of at least 1"):
        estimate_prior(torch.zeros(num, 3).log_softmax(1), concentration=concentration)
