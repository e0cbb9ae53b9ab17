"""How likely an image is, absolutely: -log p(x0 | y) by three roads that must meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.parametrization import u_from_x0
from genrep.posteriors.base import eps_error_maps
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule, expand
from genrep.types import DenoiseCandidates

LOGSNR_MIN, LOGSNR_MAX = -8.0, 7.0
"""Ends of integral, chain and flow, nats."""


@dataclass(frozen=True)
class NegativeLogLikelihood:
    """-log p(x0 | y) in nats, summed over dimensions, and the standard error of its random draws; both [b]."""

    nats: Tensor
    standard_error: Tensor


def nll_by_description(
    denoise: DenoiseCandidates,
    x0: Float[Tensor, "b c h w"],
    y: Float[Tensor, "b k"],
    *,
    schedule: Schedule,
    generator: SampleGenerator,
    num_draws: int = 64,
    num_steps: int | None = None,
) -> NegativeLogLikelihood:
    """The variational bound: of a chain of `num_steps`, or of infinitely many, when it is an integral of the denoising error.

        -log p(x0|y) <= 1/2 Integral over logsnr of E|eps - eps_hat|^2 + 1/2 snr_min |x0|^2 + E[-log N(x0; x0_hat, I / snr_max)]

    An equality for an exact denoiser, up to the ends of the range. Of a chain the error counts at the noisier end of each step, and by
    expm1(step) instead of the step.

    Args:
        num_draws: pairs of evaluations, eps and -eps, one pair in each of as many equal parts of the range; at least 2.
    Returns:
        with a standard error that ignores the strata, so is too large rather than too small.
    Raises:
        ValueError: fewer than two draws, or fewer steps than draws.
    Source: Kingma et al. 2021, arXiv:2107.00630, equations (11) to (18).
    """
    if num_draws < 2 or (num_steps is not None and num_steps < num_draws):
        raise ValueError(f"`num_draws` must be at least 2 and at most `num_steps`; found {num_draws} draws and {num_steps} steps.")
    condition, range_nats = y[:, None], LOGSNR_MAX - LOGSNR_MIN

    def error(logsnr: Float[Tensor, "b 1"]) -> Float[Tensor, " b"]:
        """|eps - eps_hat|^2, mean over eps and -eps."""
        eps = generator.normal(1, *x0.shape[1:]).to(x0.dtype)
        both = [eps_error_maps(denoise, x0, condition, logsnr=logsnr, eps=sign * eps, schedule=schedule) for sign in (1, -1)]
        return torch.stack(both).mean(0).sum((1, 2, 3))

    draws = []
    for i in range(num_draws):
        place = (i + generator.uniform(1).to(x0.dtype)) / num_draws
        if num_steps is not None:
            place = ((place * num_steps).floor().clamp(max=num_steps - 1) + 1) / num_steps
        draws.append(error(LOGSNR_MAX - range_nats * place))
    factor = range_nats if num_steps is None else num_steps * math.expm1(range_nats / num_steps)
    found = torch.stack(draws) * (factor / 2)
    last = error(torch.full_like(draws[0], LOGSNR_MAX)[:, None]) / 2 + x0[0].numel() / 2 * (math.log(2 * math.pi) - LOGSNR_MAX)
    first = math.exp(LOGSNR_MIN) / 2 * x0.flatten(1).square().sum(1)
    return NegativeLogLikelihood(found.mean(0) + first + last, found.std(0) / num_draws**0.5)


def nll_by_flow(
    denoise: DenoiseCandidates,
    x0: Float[Tensor, "b c h w"],
    y: Float[Tensor, "b k"],
    *,
    schedule: Schedule,
    generator: SampleGenerator,
    num_steps: int = 50,
    num_probes: int = 4,
) -> NegativeLogLikelihood:
    """By the probability-flow ODE, a mean over Hutchinson's probes (`flow_log_likelihood`).

    Raises:
        ValueError: fewer than two probes.
    """
    if num_probes < 2:
        raise ValueError(f"`num_probes` must be at least 2; found {num_probes}.")
    logsnr = (LOGSNR_MAX, LOGSNR_MIN)
    each = [flow_log_likelihood(denoise, x0, y[:, None], schedule=schedule, generator=generator, num_steps=num_steps, logsnr=logsnr) for _ in range(num_probes)]
    found = -torch.cat(each, dim=1)
    return NegativeLogLikelihood(found.mean(1), found.std(1) / num_probes**0.5)


def flow_log_likelihood(
    denoise: DenoiseCandidates,
    x0: Float[Tensor, "b c h w"],
    candidates: Float[Tensor, "b m k"],
    *,
    schedule: Schedule,
    generator: SampleGenerator,
    num_steps: int,
    logsnr: tuple[float, float],
) -> Float[Tensor, "b m"]:
    """log p(x0 | candidate) in nats, by the change of variables along the flow from alpha_start x0 to noise.

        d xt / dt = u(xt, t, y),   log p(x0 | y) = log N(x_end; 0, sigma_end^2 I) + Integral of div u dt + dimensions * ln alpha_start

    Heun's method in steps equal in logsnr; the divergence from one probe of signs per image, which all candidates share.

    Args:
        logsnr: where the flow starts and ends, nats.
    Source: Song et al. 2021, arXiv:2011.13456, section 4.3 and appendix D.2; Grathwohl et al. 2019, arXiv:1810.01367.
    """
    num, each = candidates.shape[1], candidates.flatten(0, 1)[:, None]
    probe = torch.where(generator.uniform(*x0.shape[1:]) < 0.5, -1.0, 1.0).to(x0).repeat_interleave(num, 0)
    steps = torch.linspace(*logsnr, num_steps + 1, dtype=torch.float64, device=x0.device)
    times = schedule.t_of_logsnr(steps).to(x0.dtype)[:, None].expand(-1, len(each))

    def slope(xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """u, and probe^T (du / dxt) probe."""
        with torch.enable_grad():
            here = xt.detach().requires_grad_()
            u = u_from_x0(denoise(here, t, each).squeeze(1), here, t, schedule)
            (back,) = torch.autograd.grad(u, here, probe)
        return u.detach(), (back * probe).flatten(1).sum(1)

    start = expand(schedule.alpha(times[0]), probe) * x0.detach().repeat_interleave(num, 0)
    end, volume = _heun(slope, start, times)
    alpha, sigma = schedule.alpha(times[0]), schedule.sigma(times[-1])
    noise = -0.5 * (end.flatten(1) / sigma[:, None]).square().sum(1)
    constant = x0[0].numel() * (alpha.log() - sigma.log() - 0.5 * math.log(2 * math.pi))
    return (noise + volume + constant).reshape(len(x0), num)


def _heun(slope: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], xt: Tensor, times: Float[Tensor, "s b"]) -> tuple[Tensor, Float[Tensor, " b"]]:
    """The end of the flow, and the integral of the divergence."""
    volume = xt.new_zeros(len(xt))
    for t, then in pairwise(times):
        length = then - t
        u, divergence = slope(xt, t)
        u2, divergence2 = slope(xt + expand(length, xt) * u, then)
        xt = xt + expand(length, xt) * (u + u2) / 2
        volume = volume + length * (divergence + divergence2) / 2
    return xt, volume
