"""The pilot run: draws go where classes differ, and noise levels count as far as the denoiser can be believed there."""

from __future__ import annotations

import pytest
import torch
from posterior_cases import estimate, images, three_classes
from torch import Tensor

from genrep.posteriors import DenoisingGap
from genrep.posteriors.base import one_by_one
from genrep.randomness import SampleGenerator
from genrep.schedules import RectifiedFlow
from genrep.training.pilot import Pilot, run_pilot
from genrep.types import Denoised
from tests.doubles import ClassGaussians


def test_a_pilot_run_puts_the_draws_where_classes_differ() -> None:
    """Where noise hides what tells two narrow classes apart, draws would be wasted: the first parts of the range get the least there is."""
    means = torch.zeros(2, 1, 1, 1).double()
    means[1] = 0.5
    denoise = ClassGaussians(means, torch.full_like(means, 0.01), RectifiedFlow())
    x0, options = images(denoise, 20), {"schedule": denoise.schedule, "generator": SampleGenerator(1, torch.arange(20))}
    found = run_pilot(DenoisingGap(budget=8, stratified=False), one_by_one(denoise), x0, denoise.candidates(20), **options).allocated()
    assert found.budget == 8 and not found.stratified and found.allocation is not None and len(found.allocation) == 15
    least = min(found.allocation)
    assert set(found.allocation[:7]) == {least} and least == pytest.approx(0.2)
    assert sum(found.allocation[8:]) > 0.85 * sum(found.allocation)
    with pytest.raises(ValueError, match="`num_draws` must be at least 2 to have a spread; found 1"):
        run_pilot(found, one_by_one(denoise), x0, denoise.candidates(20), num_draws=1, **options)


def test_candidates_that_are_all_alike_leave_the_estimator_as_it_is() -> None:
    estimator = DenoisingGap(budget=6)
    assert Pilot(estimator, torch.zeros(5, 3, 4, 2)).allocated() is estimator


class WrongWhereClean(ClassGaussians):
    """The exact denoiser, with an error of its own for every class at low noise."""

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        exact = super().__call__(xt, t, y)
        error = SampleGenerator(3, y.argmax(1), "error").normal(*xt.shape[1:]).to(xt) * (self.schedule.logsnr(t) > 2).to(xt)[:, None, None, None]
        return Denoised(exact.x0_hat + 0.1 * error, exact.log_std_scale)


def accuracy(estimator: DenoisingGap, denoise: ClassGaussians, num: int) -> float:
    found = estimate(estimator, denoise, images(denoise, num))
    return float((found.argmax(1) == torch.arange(num) % 3).float().mean())


def pilot_of(denoise: ClassGaussians, num: int) -> Pilot:
    x0, generator = images(denoise, num), SampleGenerator(1, torch.arange(num))
    return run_pilot(
        DenoisingGap(budget=32), one_by_one(denoise), x0, denoise.candidates(num), schedule=denoise.schedule, generator=generator, num_parts=5, num_draws=2
    )


def test_noise_levels_at_which_the_denoiser_errs_count_little() -> None:
    exact = three_classes()
    wrong = WrongWhereClean(exact.means, exact.variances, exact.schedule)
    labels = torch.arange(90) % 3
    weighted = pilot_of(wrong, 90).weighted(labels).estimator
    assert weighted.weights is not None and sum(weighted.weights) == pytest.approx(5)
    assert max(weighted.weights[-1:]) < 0.35 * min(weighted.weights[:3])
    assert accuracy(weighted, wrong, 300) > accuracy(DenoisingGap(budget=32), wrong, 300) + 0.05
    right = pilot_of(exact, 90).weighted(labels).estimator.weights
    assert min(right) > 0.5 and max(right) < 2


def test_draws_go_where_what_counts_varies() -> None:
    draws = torch.randn(4, 6, 30, 3, generator=torch.Generator().manual_seed(0))
    even, uneven = (Pilot(DenoisingGap(weights=weights), draws).allocated().allocation for weights in (None, (1.0, 3.0)))
    assert max(even) < 1.4 * min(even)
    assert min(uneven[2:]) > 2 * max(uneven[:2])
