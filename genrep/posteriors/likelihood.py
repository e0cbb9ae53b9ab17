"""How likely an image is, absolutely: -log p(x0 | y) by three roads that must meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.layers import widest
from genrep.parametrization import u_from_x0
from genrep.posteriors.base import eps_error_maps
from genrep.randomness import SampleGenerator
from genrep.registry import lookup
from genrep.schedules import Schedule, expand
from genrep.types import DenoiseCandidates

LOGSNR_MIN, LOGSNR_MAX = -8.0, 7.0
"""Ends of integral, chain and flow, nats."""


@dataclass(frozen=True)
class NegativeLogLikelihood:
    """-log p(x0 | y) in nats, summed over dimensions, and the standard error of its random draws; both [b]."""

    nats: Tensor
    standard_error: Tensor
    dimensions: int
    """Of x0."""

    def bits_per_dimension(self) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Bits per dimension of pixel values 0 to 255, each as likely as the density at it times the width of a value, 2 / 255; and their standard error."""
        per_nat = 1 / (self.dimensions * math.log(2))
        return self.nats * per_nat + math.log2(255 / 2), self.standard_error * per_nat


def describe(
    denoise: DenoiseCandidates,
    x0: Float[Tensor, "b c h w"],
    candidates: Float[Tensor, "b m k"],
    *,
    schedule: Schedule,
    generator: SampleGenerator,
    num_draws: int,
    num_steps: int | None,
    num_ends: int = 1,
    logsnr: tuple[float, float] = (LOGSNR_MAX, LOGSNR_MIN),
) -> tuple[Float[Tensor, "d b m"], Float[Tensor, "e b m"]]:
    """What it takes to describe an image under each candidate, nats: the steps of a chain, and the image given the chain's clean end, an estimate per draw.

        steps = sum_i 1/2 (snr_(i-1) - snr_i) E|x0 - x0_hat(x_i, y)|^2,   rest = E[-log N(x0; x0_hat(x_0, y), I / snr_0)]

    x_i stands at logsnr falling evenly from x_0 to the chain's noisy end; of infinitely many steps the sum is 1/2 Integral E|eps - eps_hat|^2 over
    logsnr. What is left, the description of the noisy end, is the same for every candidate.

    Args:
        num_draws: pairs of evaluations, eps and -eps, which the candidates share; one pair in each of as many equal parts of the chain.
        num_steps: None: infinitely many.
        num_ends: pairs of evaluations at the clean end. There the error is near |eps|^2, which a pair does not make less random.
        logsnr: clean and noisy end, nats.
    Source: Kingma et al. 2021, arXiv:2107.00630, equations (11) to (18).
    """
    clean_end, length = logsnr[0], logsnr[0] - logsnr[1]

    def error(place: Float[Tensor, "b 1"]) -> Float[Tensor, "b m"]:
        """|eps - eps_hat|^2 at a part of the way to the noisy end, mean over eps and -eps."""
        eps = generator.normal(1, *x0.shape[1:]).to(x0.dtype)
        level = clean_end - length * place
        both = [eps_error_maps(denoise, x0, candidates, logsnr=level, eps=sign * eps, schedule=schedule) for sign in (1, -1)]
        return torch.stack(both).mean(0).sum((-2, -1))

    draws = []
    for i in range(num_draws):
        place = (i + generator.uniform(1).to(x0.dtype)) / num_draws
        if num_steps is not None:
            place = ((place * num_steps).floor().clamp(max=num_steps - 1) + 1) / num_steps
        draws.append(error(place))
    factor = length if num_steps is None else num_steps * math.expm1(length / num_steps)
    ends = torch.stack([error(x0.new_zeros(len(x0), 1)) for _ in range(num_ends)])
    return torch.stack(draws) * (factor / 2), ends / 2 + x0[0].numel() / 2 * (math.log(2 * math.pi) - clean_end)


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
    """By the variational bound (`describe`): of a chain of `num_steps`, or of infinitely many, when an exact denoiser makes it an equality, up to the ends.

    Args:
        num_draws: pairs of evaluations, at least 2; a quarter as many, at least 2, go to the clean end besides.
    Returns:
        with a standard error by differences of neighbouring strata, which takes for noise what rises or falls from one to the next.
    Raises:
        ValueError: fewer than two draws, or fewer steps than draws.
    """
    if num_draws < 2 or (num_steps is not None and num_steps < num_draws):
        raise ValueError(f"`num_draws` must be at least 2 and at most `num_steps`; found {num_draws} draws and {num_steps} steps.")
    num_ends = max(2, num_draws // 4)
    steps, ends = describe(denoise, x0, y[:, None], schedule=schedule, generator=generator, num_draws=num_draws, num_steps=num_steps, num_ends=num_ends)
    noisy_end = math.exp(LOGSNR_MIN) / 2 * x0.flatten(1).square().sum(1)
    variance = steps.diff(dim=0).square().mean(0) / (2 * num_draws) + ends.var(0) / num_ends
    return NegativeLogLikelihood((steps.mean(0) + ends.mean(0)).squeeze(1) + noisy_end, variance.sqrt().squeeze(1), x0[0].numel())


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
    """By the probability-flow ODE (`flow_log_likelihood`).

    Args:
        num_steps: of Heun's method, two evaluations each.
        num_probes: of the divergence, at least 2; each is a flow of its own.
    Raises:
        ValueError: fewer than two probes.
    """
    if num_probes < 2:
        raise ValueError(f"`num_probes` must be at least 2; found {num_probes}.")
    logsnr = (LOGSNR_MAX, LOGSNR_MIN)
    each = [flow_log_likelihood(denoise, x0, y[:, None], schedule=schedule, generator=generator, num_steps=num_steps, logsnr=logsnr) for _ in range(num_probes)]
    found = -torch.cat(each, dim=1)
    return NegativeLogLikelihood(found.mean(1), found.std(1) / num_probes**0.5, x0[0].numel())


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
    steps = torch.linspace(*logsnr, num_steps + 1, dtype=widest(x0.device), device=x0.device)
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


METHODS: dict[str, Callable[..., NegativeLogLikelihood]] = {
    "integral": nll_by_description,
    "bound": partial(nll_by_description, num_steps=1000),
    "flow": nll_by_flow,
}
"""Every method by name; `bound` is that of the chain of 1,000 steps."""


def measuring(method: str, options: Mapping[str, int]) -> Callable[..., NegativeLogLikelihood]:
    """A method with some of its options, such as `num_draws`.

    Raises:
        ValueError: an unknown method, or options that it does not take.
    """
    found = lookup(METHODS, method, "method")
    taken = [name for name in signature(found).parameters if name.startswith("num_")]
    if wrong := [name for name in options if name not in taken]:
        raise ValueError(f"method `{method}` has no option `{wrong[0]}`; it takes {', '.join(taken)}.")
    return partial(found, **options)
