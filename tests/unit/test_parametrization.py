"""Conversions round-trip in every schedule, and the reverse kernel is Gaussian conditioning."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genrep.parametrization import DATA_STD, PREDICTIONS, eps_error, eps_from_x0, reverse_kernel, u_error, u_from_x0, x0_from
from genrep.schedules import SCHEDULES, RectifiedFlow, Schedule, expand

every_schedule = pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=SCHEDULES)
TIMES = torch.linspace(0.02, 0.98, 33, dtype=torch.float64)


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    """(x0, eps), one row per time."""
    x0, eps = torch.randn(2, len(TIMES), 2, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x0, eps


def predictions(x0: Tensor, eps: Tensor, schedule: Schedule) -> dict[str, Tensor]:
    """What a perfect network of each kind says."""
    alpha, sigma = expand(schedule.alpha(TIMES), x0), expand(schedule.sigma(TIMES), x0)
    d_alpha, d_sigma = (expand(rate, x0) for rate in schedule.rates(TIMES))
    residual = (sigma * x0 - alpha * DATA_STD**2 * eps) / (DATA_STD * (alpha**2 * DATA_STD**2 + sigma**2).sqrt())
    return {"residual": residual, "u": d_alpha * x0 + d_sigma * eps, "v": alpha * eps - sigma * x0, "eps": eps, "x0": x0}


def test_the_residual_of_gaussian_data_has_unit_spread_and_nothing_to_do_with_the_input() -> None:
    schedule = RectifiedFlow()
    t = torch.full((1,), 0.4, dtype=torch.float64)
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    of_x0, of_eps = sigma / DATA_STD, -alpha * DATA_STD
    norm = (alpha**2 * DATA_STD**2 + sigma**2) ** 0.5
    of_x0, of_eps = of_x0 / norm, of_eps / norm
    x0, eps = (torch.tensor(value, dtype=torch.float64).view(1, 1, 1, 1) for value in (0.3, -1.1))
    xt = alpha * x0 + sigma * eps
    torch.testing.assert_close(x0_from(of_x0 * x0 + of_eps * eps, xt, t, kind="residual", schedule=schedule), x0)
    assert abs((of_x0 * DATA_STD) ** 2 + of_eps**2 - 1) < 1e-12
    assert abs(of_x0 * alpha * DATA_STD**2 + of_eps * sigma) < 1e-12


@every_schedule
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_every_kind_gives_back_the_clean_sample(kind: str, schedule: Schedule) -> None:
    x0, eps = pair()
    xt = schedule.noised(x0, TIMES, eps)
    torch.testing.assert_close(x0_from(predictions(x0, eps, schedule)[kind], xt, TIMES, kind=kind, schedule=schedule), x0)


@every_schedule
def test_back_from_the_clean_sample(schedule: Schedule) -> None:
    x0, eps = pair()
    xt, expected = schedule.noised(x0, TIMES, eps), predictions(x0, eps, schedule)
    torch.testing.assert_close(eps_from_x0(x0, xt, TIMES, schedule), eps)
    torch.testing.assert_close(u_from_x0(x0, xt, TIMES, schedule), expected["u"])


@every_schedule
def test_u_is_the_slope_of_the_path(schedule: Schedule) -> None:
    x0, eps = pair()
    h = 1e-6
    slope = (schedule.noised(x0, TIMES + h, eps) - schedule.noised(x0, TIMES - h, eps)) / (2 * h)
    torch.testing.assert_close(u_from_x0(x0, schedule.noised(x0, TIMES, eps), TIMES, schedule), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["u", "v", "x0"])
@pytest.mark.parametrize("t", [0.0, 1.0])
@every_schedule
def test_both_ends_are_regular_but_for_eps(kind: str, t: float, schedule: Schedule) -> None:
    x0, eps = pair()
    ends = torch.full_like(TIMES, t)
    alpha, sigma = expand(schedule.alpha(ends), x0), expand(schedule.sigma(ends), x0)
    d_alpha, d_sigma = (expand(rate, x0) for rate in schedule.rates(ends))
    says = {"u": d_alpha * x0 + d_sigma * eps, "v": alpha * eps - sigma * x0, "x0": x0}[kind]
    torch.testing.assert_close(x0_from(says, schedule.noised(x0, ends, eps), ends, kind=kind, schedule=schedule), x0)


def test_impossible_conversions_are_errors() -> None:
    x0, eps = pair()
    with pytest.raises(ValueError, match=r"`x0` cannot be had from `eps` where alpha\(t\) = 0"):
        x0_from(eps, eps, torch.ones_like(TIMES), kind="eps", schedule=RectifiedFlow())
    with pytest.raises(ValueError, match=r"`eps` cannot be had from `x0` where sigma\(t\) = 0"):
        eps_from_x0(x0, x0, torch.zeros_like(TIMES), RectifiedFlow())
    with pytest.raises(ValueError, match="`kind` must be one of residual, u, v, eps, x0; found `score`"):
        x0_from(x0, x0, TIMES, kind="score", schedule=RectifiedFlow())


@every_schedule
def test_error_identity(schedule: Schedule) -> None:
    """|eps - eps_hat|^2 = e^logsnr |x0 - x0_hat|^2, which in flow is (1 - t)^2 |u - u_hat|^2."""
    (x0, eps), (x0_hat, _) = pair(), pair(1)
    xt = schedule.noised(x0, TIMES, eps)
    expected = (eps - eps_from_x0(x0_hat, xt, TIMES, schedule)).square()
    torch.testing.assert_close(eps_error((x0 - x0_hat).square(), TIMES, schedule), expected)
    u_error2 = (u_from_x0(x0, xt, TIMES, schedule) - u_from_x0(x0_hat, xt, TIMES, schedule)).square()
    torch.testing.assert_close(u_error((x0 - x0_hat).square(), TIMES, schedule), u_error2)
    if isinstance(schedule, RectifiedFlow):
        torch.testing.assert_close(expand((1 - TIMES) ** 2, x0) * u_error2, expected)


@every_schedule
def test_reverse_kernel_is_gaussian_conditioning(schedule: Schedule) -> None:
    """xs = alpha_s x0 + sigma_s e and xt = (alpha_t / alpha_s) xs + noise, jointly Gaussian given x0."""
    t, s = TIMES[1:], TIMES[:-1]
    kernel = reverse_kernel(schedule, t, s)
    a, var_s, var_t = schedule.alpha(t) / schedule.alpha(s), schedule.sigma(s) ** 2, schedule.sigma(t) ** 2
    gain = a * var_s / var_t
    xt, x0 = torch.tensor(0.7).double(), torch.tensor(-0.4).double()
    mean = schedule.alpha(s) * x0 + gain * (xt - schedule.alpha(t) * x0)
    torch.testing.assert_close(kernel.of_xt * xt + kernel.of_x0 * x0, mean)
    torch.testing.assert_close(kernel.var, var_s - gain * a * var_s, rtol=1e-9, atol=1e-12)


@every_schedule
def test_reverse_kernel_keeps_the_marginal(schedule: Schedule) -> None:
    """Averaged over q(xt | x0), the kernel gives q(xs | x0)."""
    t, s = TIMES[1:], TIMES[:-1]
    kernel = reverse_kernel(schedule, t, s)
    torch.testing.assert_close(kernel.of_xt * schedule.alpha(t) + kernel.of_x0, schedule.alpha(s))
    torch.testing.assert_close(kernel.of_xt**2 * schedule.sigma(t) ** 2 + kernel.var, schedule.sigma(s) ** 2)


@every_schedule
def test_last_kernel_is_the_clean_sample(schedule: Schedule) -> None:
    kernel = reverse_kernel(schedule, TIMES, torch.zeros_like(TIMES))
    x0, eps = pair()
    torch.testing.assert_close(kernel.mean(schedule.noised(x0, TIMES, eps), x0), x0)
    assert (kernel.var == 0).all()


@every_schedule
def test_float32_kernels_stay_sane_on_fine_grids(schedule: Schedule) -> None:
    grid = torch.linspace(0, 1, 1001)
    kernel, exact = reverse_kernel(schedule, grid[1:], grid[:-1]), reverse_kernel(schedule, grid[1:].double(), grid[:-1].double())
    assert (kernel.var >= 0).all()
    torch.testing.assert_close(kernel.var.double(), exact.var, rtol=1e-2, atol=1e-6)
