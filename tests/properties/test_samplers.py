"""What every sampler promises, on Gaussians whose ODE and marginals are known exactly."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch
from torch import Tensor

from genrep.parametrization import reverse_kernel
from genrep.randomness import SampleGenerator
from genrep.samplers import GRIDS, SAMPLERS, Ancestral, Euler, Sampler
from genrep.schedules import SCHEDULES, Schedule
from genrep.types import Denoised
from tests.doubles import ClassGaussians

every_sampler = pytest.mark.parametrize("cls", SAMPLERS.values(), ids=SAMPLERS)
every_deterministic = pytest.mark.parametrize("cls", [cls for cls in SAMPLERS.values() if cls.order is not None])
every_schedule = pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=SCHEDULES)


def gaussian(schedule: Schedule) -> ClassGaussians:
    means = torch.tensor([0.3, -0.8, 1.5, 0.0], dtype=torch.float64).reshape(1, 1, 2, 2)
    variances = torch.tensor([0.25, 1.0, 0.04, 2.0], dtype=torch.float64).reshape(1, 1, 2, 2)
    return ClassGaussians(means, variances, schedule)


def run(sampler: Sampler, denoise: ClassGaussians, num: int) -> tuple[Tensor, Tensor, Tensor]:
    """(noise, condition, samples)."""
    generator = SampleGenerator(7, torch.arange(num))
    x1, y = generator.normal(1, 2, 2).double(), torch.ones(num, 1).double()
    return x1, y, sampler(denoise, x1, y, schedule=denoise.schedule, generator=generator)


def between(sampler: Sampler, times: Tensor, denoise: ClassGaussians, xt: Tensor) -> Tensor:
    """Along the ODE on a grid that need not end at 0."""
    y, generator = torch.ones(len(xt), 1).double(), SampleGenerator(0, torch.arange(len(xt)))
    with mock.patch.object(type(sampler), "times", lambda self, schedule, start, device=None: times):
        return sampler(denoise, xt, y, schedule=denoise.schedule, generator=generator)


def on_the_ode(denoise: ClassGaussians, x1: Tensor, t: Tensor) -> Tensor:
    """What is noise at time 1 is, at time t, the marginal's own standard score."""
    alpha, sigma = denoise.schedule.alpha(t), denoise.schedule.sigma(t)
    return alpha * denoise.means + (alpha**2 * denoise.variances + sigma**2).sqrt() * x1


@every_schedule
@every_deterministic
def test_reaches_its_order_on_an_exactly_solved_ode(cls: type[Sampler], schedule: Schedule) -> None:
    """Between two noise levels; a step to no noise at all is infinitely long in log-SNR, where no order holds."""
    denoise, errors = gaussian(schedule), []
    x1 = SampleGenerator(7, torch.arange(64)).normal(1, 2, 2).double()
    for num_steps in (64, 128):
        times = schedule.t_of_logsnr(torch.linspace(-5, 4, num_steps + 1).double())
        found = between(cls(num_steps=num_steps), times, denoise, on_the_ode(denoise, x1, times[:1]))
        errors.append((found - on_the_ode(denoise, x1, times[-1:])).square().mean().sqrt())
    assert cls.order == pytest.approx(math.log2(errors[0] / errors[1]), abs=0.2)
    assert errors[1] < 0.05


@every_schedule
@every_deterministic
@pytest.mark.parametrize("grid", GRIDS)
def test_carries_noise_to_data_on_every_grid(cls: type[Sampler], schedule: Schedule, grid: str) -> None:
    denoise = gaussian(schedule)
    x1, y, x0 = run(cls(num_steps=100, grid=grid), denoise, num=64)
    assert (x0 - denoise.ode_solution(x1, y)).square().mean().sqrt() < 0.06


@every_schedule
@pytest.mark.parametrize("start", [1.0, 0.6, 0.02])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_grid_falls_from_start_to_zero(grid: str, start: float, schedule: Schedule) -> None:
    for num_steps in (1, 2, 25):
        times = Euler(num_steps=num_steps, grid=grid).times(schedule, start)
        assert times[0] == start and times[-1] == 0 and len(times) == num_steps + 1
        assert (times.diff() < 0).all()


def test_grids_are_even_in_what_they_say() -> None:
    schedule = SCHEDULES["flow"]()
    assert (schedule.logsnr(Euler(num_steps=20, grid="logsnr").times(schedule)[1:-1]).diff().diff().abs() < 1e-6).all()
    times = Euler(num_steps=20, grid="karras").times(schedule)[1:-1]
    assert ((schedule.sigma(times) / schedule.alpha(times)).pow(1 / 7).diff().diff().abs() < 1e-9).all()


def test_what_no_sampler_takes() -> None:
    schedule = SCHEDULES["flow"]()
    with pytest.raises(ValueError, match=r"unknown grid `karas`; known: .* Did you mean `karras`\?"):
        Euler(grid="karas")
    for start in (0.0, 1.2, -1.0):
        with pytest.raises(ValueError, match=r"`start` must lie in \(0, 1\]"):
            Euler().times(schedule, start)


@every_schedule
@every_sampler
def test_one_step_gives_the_denoised_noise(cls: type[Sampler], schedule: Schedule) -> None:
    denoise = gaussian(schedule)
    x1, y, x0 = run(cls(num_steps=1), denoise, num=8)
    torch.testing.assert_close(x0, denoise(x1, torch.ones(8).double(), y).x0_hat)


@every_schedule
@every_sampler
def test_a_point_distribution_is_reached_from_any_step_count(cls: type[Sampler], schedule: Schedule) -> None:
    point = gaussian(schedule).means
    _, _, x0 = run(cls(num_steps=5), ClassGaussians(point, torch.zeros_like(point), schedule), num=8)
    torch.testing.assert_close(x0, point.expand(8, -1, -1, -1))


@every_schedule
@every_sampler
def test_a_sample_does_not_depend_on_its_batch(cls: type[Sampler], schedule: Schedule) -> None:
    denoise, sampler = gaussian(schedule), cls(num_steps=6)

    def sample(index: Tensor) -> Tensor:
        generator = SampleGenerator(3, index)
        x1 = generator.normal(1, 2, 2).double()
        return sampler(denoise, x1, torch.ones(len(index), 1).double(), schedule=schedule, generator=generator)

    together = sample(torch.tensor([4, 9, 2]))
    alone = torch.cat([sample(torch.tensor([i])) for i in (4, 9, 2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


@every_deterministic
def test_deterministic_samplers_leave_the_generator_alone(cls: type[Sampler]) -> None:
    denoise, generator = gaussian(SCHEDULES["flow"]()), SampleGenerator(0, torch.arange(2))
    cls(num_steps=3)(denoise, torch.zeros(2, 1, 2, 2).double(), torch.ones(2, 1).double(), schedule=denoise.schedule, generator=generator)
    torch.testing.assert_close(generator.normal(3), SampleGenerator(0, torch.arange(2)).normal(3), rtol=0, atol=0)


@every_schedule
def test_start_continues_from_a_partly_noised_image(schedule: Schedule) -> None:
    denoise, num_steps = gaussian(schedule), 400
    x1, t = SampleGenerator(1, torch.arange(4)).normal(1, 2, 2).double(), torch.full((1,), 0.6).double()
    y = torch.ones(4, 1).double()
    x0 = Euler(num_steps=num_steps)(denoise, on_the_ode(denoise, x1, t), y, schedule=schedule, generator=SampleGenerator(0, torch.arange(4)), start=0.6)
    torch.testing.assert_close(x0, denoise.ode_solution(x1, y), rtol=0, atol=0.02)


@every_schedule
def test_ancestral_has_the_marginal_of_the_data(schedule: Schedule) -> None:
    denoise, num = gaussian(schedule), 4000
    _, _, x0 = run(Ancestral(num_steps=200), denoise, num)
    std = denoise.variances[0].sqrt()
    assert ((x0.mean(0) - denoise.means[0]).abs() < 4 * std / num**0.5 + 0.02).all()
    assert ((x0.var(0) / denoise.variances[0] - 1).abs() < 4 * (2 / num) ** 0.5 + 0.02).all()


@every_schedule
def test_ancestral_with_the_exact_reverse_variance_needs_no_small_steps(schedule: Schedule) -> None:
    """var[xs | xt] = var_base + of_x0^2 Var[x0 | xt]: with this scale five steps have the marginal that 200 have without."""
    base, num, num_steps = ClassGaussians(torch.zeros(1, 1, 2, 2).double(), torch.full((1, 1, 2, 2), 0.5).double(), schedule), 20_000, 5

    def denoise(xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        alpha2, sigma2 = schedule.alpha(t) ** 2, schedule.sigma(t) ** 2
        var_x0 = 0.5 * sigma2 / (alpha2 * 0.5 + sigma2)
        kernel = reverse_kernel(schedule, t, (t - 1 / num_steps).clamp(min=0.0))
        last = t < 1.5 / num_steps
        log_scale = 0.5 * torch.log1p(kernel.of_x0**2 * var_x0 / kernel.var).where(~last, 0.0)
        return Denoised(base(xt, t, y).x0_hat, log_scale)

    generator = SampleGenerator(7, torch.arange(num))
    x1 = generator.normal(1, 2, 2).double()
    x0 = Ancestral(num_steps=num_steps)(denoise, x1, torch.ones(num, 1).double(), schedule=schedule, generator=generator)
    t = torch.tensor([1 / num_steps]).double()
    alpha2, sigma2 = schedule.alpha(t) ** 2, schedule.sigma(t) ** 2
    expected = alpha2 * 0.25 / (alpha2 * 0.5 + sigma2)  # the last step returns the mean, so Var[E[x0 | xt]] remains
    assert x0.var() == pytest.approx(expected.item(), rel=0.03)


@every_sampler
def test_refuses_no_steps(cls: type[Sampler]) -> None:
    with pytest.raises(ValueError, match="`num_steps` must be at least 1; found 0"):
        cls(num_steps=0)
