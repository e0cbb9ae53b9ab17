"""GenRep as its users see it: perceive, generate, posterior; and what it says to bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import config
from rectangles import rectangles
from small_models import normal, small_config, small_model
from torch import Tensor

from genrep.model import GenRep
from genrep.posteriors import DenoisingGap, VariationalBound
from genrep.posteriors.calibration import Calibration
from genrep.randomness import SampleGenerator
from genrep.samplers import Ancestral, Euler, Heun
from genrep.types import Perception

ONE_GREY_LEVEL = 2 / 255


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the run-time check of shapes, which users do not have."""
    monkeypatch.setattr(config, "jaxtyping_disable", True)


def images(num: int = 6) -> Tensor:
    return rectangles(num, size=16).batch(torch.arange(num)).image


def assert_same(a: Perception, b: Perception) -> None:
    torch.testing.assert_close(a.class_log_probs, b.class_log_probs, rtol=1e-4, atol=1e-4)
    assert (a.semantic_mask != b.semantic_mask).float().mean() < 1e-3
    for one, other in zip(a.detections, b.detections, strict=True):
        torch.testing.assert_close(one.boxes_xyxy_px, other.boxes_xyxy_px, rtol=1e-3, atol=1e-3)


def test_perception_does_not_depend_on_the_batch() -> None:
    model = small_model()
    whole = model.perceive(images())
    assert whole.class_log_probs.shape == (6, 4) and len(whole.detections) == 6 and whole.semantic_mask.shape == (6, 16, 16)
    assert_same(model.perceive(images(), batch_size=4), whole)
    torch.testing.assert_close(model.perceive(images()[2:3]).class_log_probs, whole.class_log_probs[2:3], rtol=1e-4, atol=1e-4)


def test_perceives_only_what_it_has_heads_for() -> None:
    seen = small_model(tasks=("segmentation",)).perceive(images())
    assert seen.class_log_probs is None and seen.detections is None and seen.semantic_mask is not None


@pytest.mark.parametrize("sampler", [Euler(num_steps=3), Heun(num_steps=2), Ancestral(num_steps=3)])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_an_image_depends_on_its_own_seed_alone(sampler: Any, guidance: float) -> None:
    """Not on the batch size, and not on which other images are made with it."""
    model, classes = small_model(), torch.tensor([0, 1, 2, 3, -1])

    def make(rows: list[int], batch_size: int = 250) -> Tensor:
        return model.generate(classes[rows], seed=7, index=torch.tensor(rows), sampler=sampler, guidance=guidance, batch_size=batch_size)

    whole = make([0, 1, 2, 3, 4])
    assert whole.shape == (5, 3, 16, 16) and whole.abs().max() <= 1
    torch.testing.assert_close(make([0, 1, 2, 3, 4], batch_size=2), whole, rtol=0, atol=ONE_GREY_LEVEL)
    torch.testing.assert_close(make([4, 1]), whole[[4, 1]], rtol=0, atol=ONE_GREY_LEVEL)
    assert torch.equal(make([0, 1, 2, 3, 4]), whole)


def test_images_follow_seed_class_and_guidance() -> None:
    model, classes, few = small_model(), torch.tensor([0, 1]), Euler(num_steps=3)
    image = model.generate(classes, sampler=few)
    assert not torch.equal(image[0], image[1])
    for other in (
        model.generate(classes, seed=1, sampler=few),
        model.generate(classes.flip(0), sampler=few),
        model.generate(classes, sampler=few, guidance=3.0),
    ):
        assert (other - image).abs().max() > ONE_GREY_LEVEL
    sets = torch.nn.functional.one_hot(classes, 4).float()
    assert torch.equal(model.generate(sets, sampler=few), image)


def test_conditions_are_labels_or_counts(unchecked: None) -> None:
    model = small_model()
    assert model.condition(torch.tensor([2, -1])).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    assert model.condition(torch.tensor([[1.0, 0.0, 1.0, 0.0]])).tolist() == [[1, 0, 1, 0]]
    for bad, finding in (
        (torch.tensor([1, 4]), r"values \[1, 4\]"),
        (torch.tensor([-2]), r"values \[-2\]"),
        (torch.ones(2, 3), r"shape \[2, 3\]"),
        (-torch.ones(1, 4), r"values \[-1.0\]"),
        (torch.ones(1, 1, 4), r"shape \[1, 1, 4\]"),
    ):
        with pytest.raises(ValueError, match=rf"`classes` must be labels in -1..3 or counts \[b, 4\] from 0; found .*{finding}"):
            model.condition(bad)


@pytest.mark.parametrize("image", [torch.zeros(1, 3, 16, 20), torch.zeros(1, 1, 16, 16), torch.zeros(3, 16, 16)])
def test_images_of_another_shape_are_refused(image: Tensor, unchecked: None) -> None:
    with pytest.raises(ValueError, match=r"`image` must be \[b, 3, 16, 16\]; found \[.*\]. Resize it first"):
        small_model().encode(image)


@pytest.mark.parametrize("value", [255.0, -1.01, torch.nan, torch.inf])
def test_values_out_of_range_are_refused(value: float) -> None:
    image = images()
    image = image.clone()
    image[3, :, 2, 2] = value
    with pytest.raises(ValueError, match=r"`image` must lie in \[-1, 1\] and be finite"):
        small_model().encode(image)


def test_configurations_that_make_no_model_are_refused() -> None:
    with pytest.raises(ValueError, match="`class_names` is empty"):
        GenRep(small_config(class_names=()))
    with pytest.raises(ValueError, match=r"unknown modulator `semantik`.*`semantic`"):
        GenRep(small_config(modulator="semantik"))
    with pytest.raises(ValueError, match="`prediction` eps says nothing of an image that is nothing but noise"):
        small_config(prediction="eps")
    with pytest.raises(ValueError, match="`proposals` must be at least 0; found -1"):
        small_config(proposals=-1)


def test_likelihoods_do_not_depend_on_the_batch_and_need_calibration_to_be_a_posterior() -> None:
    model, estimator = small_model(), DenoisingGap(budget=2)
    log_lik = model.log_likelihood(images(), estimator=estimator)
    torch.testing.assert_close(model.log_likelihood(images(), estimator=estimator, batch_size=4), log_lik, rtol=1e-3, atol=0.05)
    some = torch.tensor([[2, 0]]).expand(len(log_lik), -1)
    of_some = model.log_likelihood(images(), some, estimator=estimator)
    torch.testing.assert_close(of_some.log_softmax(1), log_lik.gather(1, some).log_softmax(1), rtol=1e-3, atol=0.05)
    with pytest.raises(ValueError, match="no calibration"):
        model.posterior(images())
    model.calibration = Calibration(tau=0.1, bias=(0.0, 0.5, 0.0, 0.0))
    expected = (0.1 * log_lik + torch.tensor([0.0, 0.5, 0.0, 0.0])).log_softmax(1)
    torch.testing.assert_close(model.posterior(images(), estimator=estimator), expected)


def test_a_posterior_takes_budget_prior_and_the_calibration_of_its_budget() -> None:
    model, prior = small_model(), torch.tensor([0.7, 0.1, 0.1, 0.1]).log()
    model.calibration = Calibration(tau=0.1, bias=(0.0, 0.5, 0.0, 0.0), noisiness=4.0)
    log_lik = model.log_likelihood(images(), estimator=DenoisingGap(budget=4), seed=3)
    expected = (0.05 * log_lik + torch.tensor([0.0, 0.5, 0.0, 0.0]) + prior).log_softmax(1)
    torch.testing.assert_close(model.posterior(images(), budget=4, log_prior=prior, seed=3), expected)
    with pytest.raises(ValueError, match="`budget` must be at least 1 evaluation"):
        model.posterior(images(), budget=0)


def test_likelihoods_of_an_image_are_its_own_and_have_three_roads() -> None:
    model, few = small_model(), images()[:3]
    whole = model.nll(few, num_draws=4)
    assert whole.dimensions == few[0, 0].numel() and (whole.standard_error > 0).all()
    alone = model.nll(few[2:], num_draws=4, index=torch.tensor([2]))
    torch.testing.assert_close(alone.nats, whole.nats[2:], rtol=1e-4, atol=0.05)
    given = model.nll(few, torch.tensor([0, -1, 2]), num_draws=4)
    assert given.nats[1] == pytest.approx(whole.nats[1].item(), rel=1e-4) and (given.nats[[0, 2]] != whole.nats[[0, 2]]).all()
    torch.testing.assert_close(whole.bits_per_dimension()[0], whole.nats / whole.dimensions / math.log(2) + 7 - math.log2(256 / 255))
    assert model.nll(few, method="bound", num_draws=2).nats.isfinite().all() and model.nll(few, method="flow", num_steps=2, num_probes=2).nats.isfinite().all()
    with pytest.raises(ValueError, match=r"unknown method `integrall`.*`integral`"):
        model.nll(few, method="integrall")
    with pytest.raises(ValueError, match="method `flow` has no option `num_draws`; it takes num_steps, num_probes"):
        model.nll(few, method="flow", num_draws=3)


def test_projection_is_made_token_by_token() -> None:
    model, tap = small_model(), normal(2, 16, 4, 4)
    torch.testing.assert_close(model.project(tap)[:, 5], model.projector(tap[:, :, 1, 1]))


def test_evidence_adds_up_to_the_odds_of_two_classes() -> None:
    model, image = small_model(), images(3)
    of, against = torch.tensor([0, 1, 3]), torch.tensor([2, 0, 1])
    with pytest.raises(ValueError, match="this model has no calibration"):
        model.evidence(image, of, against)
    model.calibration, model.estimator = Calibration(tau=0.2, bias=(0.0,) * 4, noisiness=8.0), VariationalBound(budget=4)
    with pytest.raises(ValueError, match="evidence needs a model calibrated for a denoising gap, which has maps; found VariationalBound"):
        model.evidence(image, of, against)
    gap, x0 = DenoisingGap(budget=8, allocation=(1.0, 2.0), weights=(2.0, 1.0), logsnr_max=5.0), model.encode(image)
    model.estimator = replace(gap, budget=4, rounds=2)
    maps = model.evidence(image, of, against, budget=8)
    pair = torch.stack([model.condition(of), model.condition(against)], 1)
    with torch.no_grad():
        both = gap(model.denoiser.candidates, x0, pair, schedule=model.schedule, generator=SampleGenerator(0, torch.arange(3), "evidence"))
    torch.testing.assert_close(maps.sum((1, 2)), 0.2 / 2 * (both[:, 0] - both[:, 1]), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.evidence(image, against, of, budget=8), -maps)
    torch.testing.assert_close(model.evidence(image, of, against, budget=8, batch_size=2), maps, rtol=1e-3, atol=1e-4)
    last = model.evidence(image[2:], of[2:], against[2:], budget=8, index=torch.tensor([2]))
    torch.testing.assert_close(last, maps[2:], rtol=1e-3, atol=1e-4)
