"""What every posterior estimator promises, and the denoising gap against closed-form class Gaussians."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from posterior_cases import centred, estimate, every_estimator, every_schedule, images, three_classes

from genrep.posteriors import DenoisingGap, PosteriorEstimator
from genrep.posteriors.base import one_by_one
from genrep.randomness import SampleGenerator
from genrep.schedules import RectifiedFlow, Schedule
from tests.doubles import ClassGaussians


@every_estimator
def test_an_image_does_not_depend_on_its_batch(estimator: PosteriorEstimator) -> None:
    denoise, index = three_classes(), torch.tensor([5, 3, 8])
    x0 = images(denoise, 3)
    together = estimate(estimator, denoise, x0, index)
    alone = torch.cat([estimate(estimator, denoise, x0[i : i + 1], index[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@every_estimator
def test_candidates_keep_their_order_and_equal_ones_tie(estimator: PosteriorEstimator) -> None:
    denoise = three_classes()
    x0, order = images(denoise, 4), torch.tensor([2, 0, 1, 0])
    generators = [SampleGenerator(0, torch.arange(4)) for _ in range(2)]
    candidates = denoise.candidates(4)
    plain, permuted = (
        estimator(one_by_one(denoise), x0, y, schedule=denoise.schedule, generator=g)
        for y, g in zip((candidates, candidates[:, order]), generators, strict=True)
    )
    torch.testing.assert_close(permuted - permuted[:, 1:2], plain[:, order] - plain[:, :1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(permuted[:, 1], permuted[:, 3])


@every_estimator
def test_needs_alternatives_and_a_budget(estimator: PosteriorEstimator) -> None:
    denoise = three_classes()
    generator = SampleGenerator(0, torch.arange(1))
    with pytest.raises(ValueError, match="`candidates` needs at least 2"):
        estimator(one_by_one(denoise), images(denoise, 1), denoise.candidates(1)[:, :1], schedule=denoise.schedule, generator=generator)
    with pytest.raises(ValueError, match="`budget` must be at least 1"):
        type(estimator)(budget=0)


@every_schedule
def test_gap_is_the_integral_over_its_range(schedule: Schedule) -> None:
    denoise = three_classes(schedule)
    x0 = images(denoise, 3)
    gap = centred(estimate(DenoisingGap(budget=16), denoise, x0.repeat(2000, 1, 1, 1)).unflatten(0, (2000, 3)).mean(0))
    torch.testing.assert_close(gap, centred(denoise.gaps(x0, -8, 7)), rtol=0, atol=0.06)


def test_exact_log_odds_are_reached_as_the_range_grows() -> None:
    denoise = three_classes()
    x0 = images(denoise, 8)
    errors = [(centred(denoise.gaps(x0, low, high)) - centred(denoise.log_likelihoods(x0))).abs().max().item() for low, high in ((-4, 3), (-8, 7), (-12, 12))]
    assert errors[1] < 0.05 and errors[0] > 5 * errors[1] and errors[2] < 1e-3


def rms_error(num: int = 400, denoise: ClassGaussians | None = None, **options: Any) -> float:
    """Root mean squared error of the log-odds of one image, nats, over `num` repetitions."""
    denoise = denoise or three_classes()
    x0 = images(denoise, 1).expand(num, -1, -1, -1)
    gap = estimate(DenoisingGap(**options), denoise, x0)
    return (centred(gap) - centred(denoise.gaps(x0, -8, 7))).square().mean().sqrt().item()


def test_error_falls_like_one_over_the_root_of_the_draws() -> None:
    few, many = (rms_error(budget=budget, stratified=False, antithetic=False) for budget in (8, 128))
    assert few / many == pytest.approx(4, rel=0.15)


def test_without_bias_at_any_budget() -> None:
    denoise, num = three_classes(), 4000
    x0 = images(denoise, 1).expand(num, -1, -1, -1)
    uneven = {"allocation": (0.5, 3.0, 1.0, 0.2)}
    for options in ({}, {"stratified": False}, {"antithetic": False, "budget": 3}, {"noise": "independent"}, uneven, {**uneven, "noise": "independent"}):
        gap = centred(estimate(DenoisingGap(**options), denoise, x0))
        error = gap.mean(0) - centred(denoise.gaps(x0[:1], -8, 7))[0]
        assert (error.abs() < 4 * gap.std(0) / num**0.5).all()


def test_sharing_the_noise_and_pairing_it_save_variance() -> None:
    independent = rms_error(budget=16, noise="independent", stratified=False, antithetic=False)
    shared = rms_error(budget=16, stratified=False, antithetic=False)
    paired = rms_error(budget=16, stratified=False)
    assert shared < independent / 5 and paired < 0.9 * shared and rms_error(budget=16) < 0.9 * paired


@given(allocation=st.lists(st.floats(0.1, 10), min_size=1, max_size=8), low=st.floats(-9, 0), high=st.floats(1, 9))
def test_an_allocation_is_the_density_of_the_draws(allocation: list[float], low: float, high: float) -> None:
    estimator = DenoisingGap(logsnr_min=low, logsnr_max=high, allocation=tuple(allocation))
    quantile = ((torch.arange(4000) + 0.5) / 4000).double()[None]
    logsnr, length = estimator._placed(quantile)
    share = torch.tensor(allocation).double() / sum(allocation)
    found = torch.histogram(logsnr[0], torch.linspace(low, high, len(allocation) + 1).double()).hist / 4000
    torch.testing.assert_close(found, share, rtol=0, atol=2e-3)
    assert (logsnr.diff() > 0).all() and length.mean().item() == pytest.approx(high - low, rel=2e-2)
    assert torch.equal(*(DenoisingGap(allocation=each)._placed(quantile)[0] for each in (None, (3.0, 3.0))))


def test_weights_are_those_of_parts_of_the_integral_wherever_draws_lie() -> None:
    denoise, num, weights = three_classes(), 4000, (0.5, 3.0, 1.5)
    x0 = images(denoise, 1)
    whole = sum(3 * w / sum(weights) * denoise.gaps(x0, low, low + 5) for w, low in zip(weights, (-8.0, -3.0, 2.0), strict=True))
    for options in ({}, {"allocation": (1.0, 4.0)}):
        gap = centred(estimate(DenoisingGap(weights=weights, budget=8, **options), denoise, x0.expand(num, -1, -1, -1)))
        assert ((gap.mean(0) - centred(whole)[0]).abs() < 4 * gap.std(0) / num**0.5).all()
    assert torch.equal(*(estimate(DenoisingGap(weights=each), denoise, x0) for each in (None, (2.0, 2.0))))


def test_strata_beat_the_monte_carlo_rate_where_pairs_cancel_the_noise() -> None:
    """With equal variances the log-odds are linear in eps: what is left is an integral over one dimension, at rate draws^-1.5."""
    base = three_classes()
    denoise = ClassGaussians(base.means, torch.full_like(base.variances, 0.5), base.schedule)
    few, many = (rms_error(denoise=denoise, budget=budget) for budget in (8, 32))
    assert few / many == pytest.approx(8, rel=0.25)


def test_maps_add_up_and_belong_to_their_positions() -> None:
    """Where two classes have the same distribution, the map is the same for both; elsewhere each pixel is its own integral."""
    base = three_classes()
    means, variances = base.means.clone(), base.variances.clone()
    means[:, :, 0], variances[:, :, 0] = means[:1, :, 0], variances[:1, :, 0]
    denoise = ClassGaussians(means, variances, base.schedule)
    x0 = images(denoise, 2)
    num, estimator = 2000, DenoisingGap(budget=16)
    many, candidates, index = x0.repeat(num, 1, 1, 1), denoise.candidates(2 * num), torch.arange(2 * num)
    maps = estimator.maps(one_by_one(denoise), many, candidates, schedule=denoise.schedule, generator=SampleGenerator(0, index))
    torch.testing.assert_close(maps.sum((-2, -1)), estimate(estimator, denoise, many))
    torch.testing.assert_close(maps[:, :, 0], torch.zeros(2 * num, 3, 3).double())
    for row, column in ((1, 0), (1, 2)):
        pixel = ClassGaussians(means[:, :, row, column, None, None], variances[:, :, row, column, None, None], base.schedule)
        exact = pixel.gaps(x0[:, :, row, column, None, None], -8, 7)
        torch.testing.assert_close(maps[:, :, row, column].unflatten(0, (num, 2)).mean(0), centred(exact), rtol=0, atol=0.04)


def test_summed_not_averaged_over_dimensions() -> None:
    """Four copies of an image's dimensions have four times the log-odds."""
    small = three_classes()
    large = ClassGaussians(small.means.repeat(1, 1, 2, 2), small.variances.repeat(1, 1, 2, 2), small.schedule)
    x0 = images(small, 2)
    gap = centred(estimate(DenoisingGap(budget=16), large, x0.repeat(1000, 1, 2, 2)).unflatten(0, (1000, 2)).mean(0))
    torch.testing.assert_close(gap, 4 * centred(small.gaps(x0, -8, 7)), rtol=0, atol=0.2)


def test_small_differences_survive_float32() -> None:
    """Between classes that differ by a thousandth, on 32 x 32 pixels whose errors are some thousand nats."""
    mean = SampleGenerator(1, torch.arange(1)).normal(1, 32, 32)
    means = torch.cat([mean, mean + 1e-3])
    errors = []
    for dtype in (torch.float32, torch.float64):
        denoise = ClassGaussians(means.to(dtype), torch.full_like(means, 0.5, dtype=dtype), RectifiedFlow())
        errors.append(estimate(DenoisingGap(), denoise, (mean + 0.5).to(dtype)).double())
    torch.testing.assert_close(errors[0], errors[1], rtol=0, atol=2e-3)
    assert errors[1].abs().min() > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 3}, "`budget` must be even per round where draws come in pairs; found 3"),
        ({"logsnr_min": 7.0}, "`logsnr_min` must be below `logsnr_max`"),
        ({"allocation": (1.0, 0.0)}, "`allocation` must be positive in every part"),
        ({"allocation": ()}, "`allocation` must be positive in every part"),
        ({"noise": "same"}, "`?noise`?"),
    ],
)
def test_gap_refuses_what_it_would_have_to_ignore(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        DenoisingGap(**options)
