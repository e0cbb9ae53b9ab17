"""What every guided denoiser promises, on Gaussians: Bayes' rule exactly, what is known kept, no evaluation that is not needed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genrep.randomness import SampleGenerator
from genrep.samplers import SAMPLERS, Ancestral, Sampler
from genrep.samplers.guidance import SMALLEST_ALPHA, ClassifierFreeGuidance, Inpainting, PerceptionGuidance
from genrep.schedules import SCHEDULES, Schedule
from genrep.types import Denoised
from tests.doubles import ClassGaussians

every_sampler = pytest.mark.parametrize("sampler", [cls(num_steps=8) for cls in SAMPLERS.values()], ids=SAMPLERS)
every_schedule = pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=SCHEDULES)


def two_classes(schedule: Schedule) -> ClassGaussians:
    means = torch.tensor([-1.0, 2.0]).double().reshape(2, 1, 1, 1)
    return ClassGaussians(means, torch.ones_like(means), schedule)


def sampled(sampler: Sampler, denoise: object, schedule: Schedule, num: int, *shape: int) -> Tensor:
    generator = SampleGenerator(3, torch.arange(num))
    xt = generator.normal(*shape).double()
    return sampler(denoise, xt, torch.ones(num, 1).double(), schedule=schedule, generator=generator)


def test_guidance_extrapolates_in_one_call_and_is_free_at_scale_one() -> None:
    base, calls = two_classes(SCHEDULES["flow"]()), []

    def counting(xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        calls.append(len(xt))
        return base(xt, t, y)

    xt, t, y = torch.zeros(3, 1, 1, 1).double(), torch.full((3,), 0.5).double(), torch.tensor([[0.0, 1.0]]).double().expand(3, 2)
    conditional, null = base(xt, t, y).x0_hat, base(xt, t, torch.zeros_like(y)).x0_hat
    torch.testing.assert_close(ClassifierFreeGuidance(counting, 1.0)(xt, t, y).x0_hat, conditional, rtol=0, atol=0)
    torch.testing.assert_close(ClassifierFreeGuidance(counting, 2.5)(xt, t, y).x0_hat, null + 2.5 * (conditional - null))
    torch.testing.assert_close(ClassifierFreeGuidance(counting, 0.0)(xt, t, y).x0_hat, null)
    assert calls == [3, 6, 6]


def test_outside_its_interval_guidance_is_free_and_inside_it_is_whole() -> None:
    base, calls = two_classes(SCHEDULES["flow"]()), []

    def counting(xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        calls.append(len(xt))
        return base(xt, t, y)

    xt, y = torch.zeros(2, 1, 1, 1).double(), torch.tensor([[0.0, 1.0]]).double().expand(2, 2)
    some, whole = ClassifierFreeGuidance(counting, 3.0, (0.3, 0.7)), ClassifierFreeGuidance(base, 3.0)
    for times, guided in ((0.2, 0.2), [False, False]), ((0.3, 0.7), [True, True]), ((0.5, 0.8), [True, False]):
        t = torch.tensor(times).double()
        expected = torch.where(torch.tensor(guided)[:, None, None, None], whole(xt, t, y).x0_hat, base(xt, t, y).x0_hat)
        torch.testing.assert_close(some(xt, t, y).x0_hat, expected)
    assert calls == [2, 4, 4]
    for interval in ((0.5, 0.5), (0.7, 0.3), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match=r"two increasing times in \[0, 1\]"):
            ClassifierFreeGuidance(base, 2.0, interval)
    with pytest.raises(ValueError, match="guidance must be a finite number; found nan"):
        ClassifierFreeGuidance(base, float("nan"))


@every_schedule
def test_what_perception_says_is_weighed_by_bayes_rule(schedule: Schedule) -> None:
    """Exact where its log-probability is linear in the clean image: x0 ~ N(m, v) becomes N(m + v a, v)."""
    means, variances, slope = torch.tensor([[[[0.3, -0.8]]]]).double(), torch.tensor([[[[0.25, 1.5]]]]).double(), torch.tensor([1.2, -0.7]).double()
    base, shifted = ClassGaussians(means, variances, schedule), ClassGaussians(means + variances * slope, variances, schedule)
    guided = PerceptionGuidance(base, lambda x0: (slope * x0).flatten(1).sum(1), schedule, 1.0)
    xt, y = torch.randn(5, 1, 1, 2, generator=torch.Generator().manual_seed(0)).double(), torch.ones(5, 1).double()
    for logsnr in (7.0, 0.8, -4.0):
        t = schedule.t_of_logsnr(torch.full((5,), logsnr).double())
        assert (schedule.alpha(t) > SMALLEST_ALPHA).all()
        torch.testing.assert_close(guided(xt, t, y).x0_hat, shifted(xt, t, y).x0_hat)
    free = PerceptionGuidance(base, lambda x0: (slope * x0).flatten(1).sum(1), schedule, 0.0)
    torch.testing.assert_close(free(xt, t, y).x0_hat, base(xt, t, y).x0_hat)


@every_schedule
def test_perception_moves_the_samples(schedule: Schedule) -> None:
    means = torch.zeros(1, 1, 1, 1).double()
    base = ClassGaussians(means, torch.full_like(means, 0.5), schedule)
    guided = PerceptionGuidance(base, lambda x0: 2.0 * x0.flatten(1).sum(1), schedule, 1.0)
    found = sampled(Ancestral(num_steps=100, grid="logsnr"), guided, schedule, 4000, 1, 1, 1)
    assert found.mean() == pytest.approx(1.0, abs=0.06) and found.var() == pytest.approx(0.5, abs=0.06)
    assert not found.requires_grad


@every_schedule
@every_sampler
def test_what_is_known_stays_and_the_rest_is_made(sampler: Sampler, schedule: Schedule) -> None:
    """Dimensions are independent here, so what is hidden comes out as it would alone."""
    means = torch.tensor([[[[0.3, -0.8, 1.0, 0.0]]]]).double()
    base, known = ClassGaussians(means, torch.full_like(means, 0.3), schedule), torch.full((3, 1, 1, 4), 0.7).double()
    hidden = torch.tensor([1.0, 0.0, 1.0, 0.0]).expand(3, 1, 1, 4)
    found, free = (sampled(sampler, denoise, schedule, 3, 1, 1, 4) for denoise in (Inpainting(base, known, hidden), base))
    torch.testing.assert_close(found, torch.where(hidden > 0, free, known))
