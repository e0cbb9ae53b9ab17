"""Against the schedulers of diffusers: the same denoiser, the same noise, the same grid."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from genrep.parametrization import eps_from_x0, u_from_x0
from genrep.randomness import SampleGenerator
from genrep.samplers import DPMSolver, Euler, Heun, Sampler, UniPC
from genrep.schedules import CosineVP, RectifiedFlow, Schedule
from tests.doubles import ClassGaussians

diffusers = pytest.importorskip("diffusers")


def double(schedule: Schedule) -> ClassGaussians:
    means = torch.tensor([0.3, -0.8, 1.5, 0.0]).reshape(1, 1, 2, 2)
    return ClassGaussians(means, means.abs() + 0.1, schedule)


def noise() -> Tensor:
    return SampleGenerator(0, torch.arange(5)).normal(1, 2, 2)


def ours(denoise: ClassGaussians, num_steps: int) -> Tensor:
    return Euler(num_steps=num_steps)(denoise, noise(), torch.ones(5, 1), schedule=denoise.schedule, generator=SampleGenerator(0, torch.arange(5)))


def test_euler_in_rectified_flow_is_flow_match_euler() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
    scheduler.set_timesteps(sigmas=[1 - i / 10 for i in range(10)])
    denoise, xt = double(RectifiedFlow()), noise()
    for sigma, timestep in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        t = sigma.expand(5)
        u = u_from_x0(denoise(xt, t, torch.ones(5, 1)).x0_hat, xt, t, denoise.schedule)
        xt = scheduler.step(u, timestep, xt).prev_sample
    torch.testing.assert_close(ours(denoise, 10), xt, rtol=1e-4, atol=1e-4)


def test_euler_in_the_cosine_schedule_is_ddim() -> None:
    """Their index i is our t = (i + 1) / 1000; betas are set so that their alphas_cumprod is our alpha^2 on that grid, short of t = 1."""
    schedule = CosineVP()
    t_grid = torch.linspace(0, 0.999, 1000, dtype=torch.float64)
    alpha2 = schedule.alpha(t_grid) ** 2
    betas = torch.cat([1 - alpha2[1:] / alpha2[:-1], torch.full((1,), 0.999, dtype=torch.float64)])
    scheduler = diffusers.DDIMScheduler(trained_betas=betas.tolist(), clip_sample=False)
    scheduler.set_timesteps(10)
    denoise, xt = double(schedule), noise()
    times = [(int(i) + 1) / 1000 for i in scheduler.timesteps] + [0.0]
    for t, timestep in zip(times[:-1], scheduler.timesteps, strict=True):
        at = torch.full((5,), t)
        eps = eps_from_x0(denoise(xt, at, torch.ones(5, 1)).x0_hat, xt, at, schedule)
        xt = scheduler.step(eps, timestep, xt).prev_sample
    with mock.patch.object(Euler, "times", lambda self, schedule, start: torch.tensor(times, dtype=torch.float64)):
        torch.testing.assert_close(ours(denoise, 10), xt, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("cls", "scheduler"),
    [(DPMSolver, diffusers.DPMSolverMultistepScheduler), (UniPC, diffusers.UniPCMultistepScheduler)],
    ids=["dpm_solver", "unipc"],
)
def test_multistep_samplers_in_rectified_flow_are_those_of_diffusers(cls: type[Sampler], scheduler: Any) -> None:
    """On their grid, but from t = .999: at 1 they take sigma = 1 - 1e-6, we a bound on the log-SNR. In double, as alpha is small there."""
    theirs = scheduler(prediction_type="flow_prediction", use_flow_sigmas=True, final_sigmas_type="zero", solver_order=2)
    theirs.set_timesteps(10)
    theirs.sigmas = torch.cat([torch.tensor([0.999]), theirs.sigmas[1:]]).double()
    denoise, xt, y = double(RectifiedFlow()), noise().double(), torch.ones(5, 1)
    for sigma, timestep in zip(theirs.sigmas, theirs.timesteps, strict=False):
        t = sigma.expand(5)
        xt = theirs.step(u_from_x0(denoise(xt, t, y).x0_hat, xt, t, denoise.schedule), timestep, xt).prev_sample
    with mock.patch.object(cls, "times", lambda self, schedule, start: theirs.sigmas):
        mine = cls()(denoise, noise().double(), y, schedule=denoise.schedule, generator=SampleGenerator(0, torch.arange(5)))
    torch.testing.assert_close(mine, xt, rtol=1e-6, atol=1e-6)


def test_heun_in_rectified_flow_is_flow_match_heun() -> None:
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
    scheduler.set_timesteps(10)
    denoise, xt = double(RectifiedFlow()), noise()
    for sigma, timestep in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        t = sigma.expand(5)
        u = u_from_x0(denoise(xt, t, torch.ones(5, 1)).x0_hat, xt, t, denoise.schedule)
        xt = scheduler.step(u, timestep, xt).prev_sample
    times = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1:-1:2], scheduler.sigmas[-1:]]).double()
    with mock.patch.object(Heun, "times", lambda self, schedule, start: times):
        mine = Heun()(denoise, noise(), torch.ones(5, 1), schedule=denoise.schedule, generator=SampleGenerator(0, torch.arange(5)))
    torch.testing.assert_close(mine, xt, rtol=1e-4, atol=1e-4)
