"""Schedules: limits, slopes and inverses."""

from __future__ import annotations

import pytest
import torch

from genrep.schedules import SCHEDULES, CosineVP, LinearBetas, RectifiedFlow, Schedule, expand

every_schedule = pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=SCHEDULES)
INSIDE = torch.linspace(0.001, 0.999, 200, dtype=torch.float64)


@every_schedule
def test_goes_from_data_to_noise(schedule: Schedule) -> None:
    ends, left = torch.tensor([0.0, 1.0]).double(), isinstance(schedule, LinearBetas)
    torch.testing.assert_close(schedule.alpha(ends), torch.tensor([1.0, 0.0]).double(), rtol=0, atol=0.0064 * left)
    torch.testing.assert_close(schedule.sigma(ends), torch.tensor([0.0, 1.0]).double(), rtol=0, atol=3e-5 * left)
    torch.testing.assert_close(schedule.logsnr(ends), torch.tensor([20.0, -20.0]).double(), rtol=0, atol=10 * left)
    assert (schedule.alpha(INSIDE).diff() < 0).all() and (schedule.sigma(INSIDE).diff() > 0).all() and (schedule.logsnr(INSIDE).diff() < 0).all()


@every_schedule
def test_at_time_zero_the_sample_is_untouched_bit_for_bit(schedule: Schedule) -> None:
    x0, eps = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(schedule.noised(x0, torch.zeros(3), eps), x0, rtol=0, atol=0)


@every_schedule
def test_rates_are_the_slopes(schedule: Schedule) -> None:
    t = INSIDE.clone().requires_grad_()
    for value, rate in zip((schedule.alpha(t), schedule.sigma(t)), schedule.rates(INSIDE), strict=True):
        (slope,) = torch.autograd.grad(value.sum(), t)
        torch.testing.assert_close(rate, slope)


@every_schedule
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_time_and_logsnr_are_inverses(schedule: Schedule, dtype: torch.dtype, atol: float) -> None:
    logsnr = torch.linspace(-8, 7, 100, dtype=dtype)
    t = schedule.t_of_logsnr(logsnr)
    assert ((t > 0) & (t < 1)).all()
    torch.testing.assert_close(schedule.logsnr(t), logsnr, rtol=0, atol=atol)
    torch.testing.assert_close(2 * (schedule.alpha(t) / schedule.sigma(t)).log(), logsnr, rtol=0, atol=atol)


@pytest.mark.parametrize("schedule", [RectifiedFlow(), CosineVP()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_time_one_nothing_is_left_of_the_sample(schedule: Schedule, dtype: torch.dtype) -> None:
    assert float(schedule.alpha(torch.ones(1, dtype=dtype))) == 0 and float(schedule.sigma(torch.ones(1, dtype=dtype))) == 1


def test_families_are_what_they_are_called() -> None:
    alpha, sigma = SCHEDULES["cosine"]().alpha(INSIDE), SCHEDULES["cosine"]().sigma(INSIDE)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(INSIDE))
    torch.testing.assert_close(SCHEDULES["flow"]().alpha(INSIDE) + SCHEDULES["flow"]().sigma(INSIDE), torch.ones_like(INSIDE))


def test_flow_logsnr_has_the_slope_of_its_equation() -> None:
    t = INSIDE.clone().requires_grad_()
    (slope,) = torch.autograd.grad(SCHEDULES["flow"]().logsnr(t).sum(), t)
    torch.testing.assert_close(slope, -2 / (INSIDE * (1 - INSIDE)))


def test_linear_betas_keep_the_variance_and_begin_with_sigma_in_proportion_to_time() -> None:
    schedule, before = LinearBetas(), torch.linspace(0, 0.001, 5, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(INSIDE) ** 2 + schedule.sigma(INSIDE) ** 2, torch.ones_like(INSIDE))
    torch.testing.assert_close(schedule.sigma(before), before * 10, rtol=1e-3, atol=0)
    assert all(rate.isfinite().all() for rate in schedule.rates(before))
    assert float(schedule.t_of_logsnr(torch.tensor(-15.0))) == 1.0


@pytest.mark.parametrize("fields", [{"num_times": 1}, {"first": 0.0}, {"first": 0.02, "last": 0.01}, {"last": 1.0}])
def test_betas_that_are_none_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="`num_times` must be at least 2, and 0 < `first` < `last` < 1; found"):
        LinearBetas(**fields)  # type: ignore[arg-type]


def test_expand_multiplies_rows() -> None:
    assert expand(torch.tensor([2.0, 3.0]), torch.ones(2, 1, 4, 4)).shape == (2, 1, 1, 1)
