"""The paper's estimator: the reverse chain of each class as a mixture of Gaussian kernels, evaluated at the image."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.layers import widest
from genrep.parametrization import reverse_kernel
from genrep.posteriors.base import PosteriorEstimator, require_candidates, require_noise
from genrep.posteriors.tweedie import Belief, tweedie
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates


@dataclass(frozen=True, kw_only=True)
class ReverseChain(PosteriorEstimator):
    """Log-likelihoods from the kernels along one reverse chain per condition, burnt in and thinned.

        p(x0 | y) ~= mean over kept states xt of N(x0; mu(xt, x0_hat), var_base)

    Args:
        budget: steps of all chains of a condition, each one denoiser evaluation; a chain walks a uniform grid from `start` to just above 0.
        chains: how many per condition; the mixture is over all of them.
        kernel: `step`: the reverse kernel, as above. `posterior`: what a state says of the clean sample, N(x0; x0_hat, Cov[x0 | xt]), whose mean over
            the states of any time is p(x0 | y) itself.
        spread: with `posterior`, the variance of x0 given xt along every dimension, one number per kept step (`measured` finds them); None: the full
            covariance, from a Jacobian per kept state (`tweedie`).
        burn_in: the first states, which are dropped.
        thinning: of the others every thinning-th is kept.
        start: time at which the chain starts. 1: from noise; then it does not depend on the image, and one chain per distinct
            condition, a bank, serves the whole batch and leaves `generator` alone. Below 1: from the image noised to that time.
        noise: `shared`: the chains of all candidates see the same noise; `independent`: each sees its own.
        seed: which bank; another seed refreshes it. Only where `start` is 1.
    Raises:
        ValueError: nothing left to keep, `start` outside (0, 1], unknown `noise` or `kernel`, a `seed` that would be ignored, chains of unequal length,
            a posterior at pure noise, a spread of another length.
    Source: the paper's equations (1) to (3) and its algorithm.
    Deviates: runs a chain for every candidate, not only for the true class, as Bayes' rule needs them all; thins by step
        number modulo `thinning`, where the algorithm tests the number of steps; divides by the number of kept states; leaves out
        the kernel to t = 0, whose variance is zero; `start` and `noise` are options, as the paper leaves them open.
        With `step`, states being noised data, this is the density of noised data at a clean point, not that of clean data; and
        one chain sees few of the images of a class. `DenoisingGap` is better at a fiftieth of the cost.
    """

    budget: int = 200
    chains: int = 1
    kernel: Literal["step", "posterior"] = "step"
    spread: tuple[float, ...] | None = None
    burn_in: int = 50
    thinning: int = 2
    start: float = 1.0
    noise: Literal["shared", "independent"] = "shared"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chains < 1 or self.budget % self.chains:
            raise ValueError(f"`chains` must be at least 1 and divide `budget`; found {self.chains} chains and {self.budget} steps.")
        if not 0 <= self.burn_in < self._num_steps or self.thinning < 1:
            raise ValueError(
                f"`burn_in` must be at least 0 and below a chain's {self._num_steps} steps, `thinning` at least 1; found {self.burn_in} and {self.thinning}."
            )
        if self.kernel not in ("step", "posterior"):
            raise ValueError(f"`kernel` must be `step` or `posterior`; found `{self.kernel}`.")
        if self.kernel == "posterior" and self.start == 1 and self.burn_in == 0:
            raise ValueError("`burn_in` must be at least 1 with `kernel` posterior and `start` 1: pure noise says nothing of the clean sample.")
        if self.spread is not None and (self.kernel == "step" or len(self.spread) != len(self._kept) or min(self.spread) <= 0):
            raise ValueError(f"`spread` needs `kernel` posterior and a variance above 0 for each of {len(self._kept)} kept steps; found {len(self.spread)}.")
        if not 0 < self.start <= 1:
            raise ValueError(f"`start` must be a time in (0, 1]; found {self.start}.")
        require_noise(self.noise)
        if self.seed and self.start < 1:
            raise ValueError(f"`seed` chooses a bank, and there is none with `start` below 1; found seed {self.seed}. Change the generator's seed.")

    @property
    def _num_steps(self) -> int:
        return self.budget // self.chains

    @property
    def _kept(self) -> range:
        return range(self.burn_in, self._num_steps, self.thinning)

    def _times(self, like: Tensor) -> Float[Tensor, " steps_and_end"]:
        return torch.linspace(self.start, 0, self._num_steps + 2, dtype=widest(like.device), device=like.device)[:-1].to(like.dtype)

    def __call__(
        self,
        denoise: DenoiseCandidates,
        x0: Float[Tensor, "b c h w"],
        candidates: Float[Tensor, "b m k"],
        *,
        schedule: Schedule,
        generator: SampleGenerator,
    ) -> Float[Tensor, "b m"]:
        require_candidates(candidates)
        if self.start == 1:
            return self._from_bank(denoise, x0, candidates, schedule)
        num = candidates.shape[1]
        t = torch.full((len(x0),), self.start, dtype=x0.dtype, device=x0.device)

        def draw() -> Tensor:
            if self.noise == "shared":
                return generator.normal(self.chains, *x0.shape[1:]).to(x0.dtype).repeat(1, num, 1, 1, 1)
            return generator.normal(num * self.chains, *x0.shape[1:]).to(x0.dtype)

        return self._log_mixture(denoise, x0, candidates, first=schedule.noised(x0[:, None], t, draw()), draw=draw, schedule=schedule)

    def _from_bank(self, denoise: DenoiseCandidates, x0: Tensor, candidates: Tensor, schedule: Schedule) -> Tensor:
        """Chains of each distinct condition of the batch, [b m]."""
        conditions, which = candidates.flatten(0, 1).unique(dim=0, return_inverse=True)
        index = _identities(conditions) if self.noise == "independent" else torch.zeros(len(conditions), dtype=torch.int64, device=x0.device)
        each_chain = index[:, None] * self.chains + torch.arange(self.chains, device=x0.device)
        bank = SampleGenerator(self.seed, each_chain.flatten(), "reverse chain")

        def draw() -> Tensor:
            return bank.normal(*x0.shape[1:]).to(x0.dtype)[None]

        log_lik = self._log_mixture(denoise, x0, conditions[None], first=draw(), draw=draw, schedule=schedule)
        return log_lik.gather(1, which.reshape(len(x0), -1))

    def _log_mixture(
        self,
        denoise: DenoiseCandidates,
        x0: Float[Tensor, "b c h w"],
        conditions: Float[Tensor, "r n k"],
        *,
        first: Float[Tensor, "r m c h w"],
        draw: Callable[[], Tensor],
        schedule: Schedule,
    ) -> Float[Tensor, "b n"]:
        """log of the mean of the kept states' densities at x0; r is b, or 1 where the chains serve all images; m = n * chains, a condition's side by side."""
        times = self._times(x0)
        each, xt, found = conditions.repeat_interleave(self.chains, 1).flatten(0, 1), first, []
        samples = x0[:, None] if len(first) == 1 else x0.repeat_interleave(first.shape[1], 0)[None]
        for step, (now, then) in enumerate(pairwise(times)):
            t, s, flat = now.expand(len(each)), then.expand(len(each)), xt.flatten(0, 1)
            kernel = reverse_kernel(schedule, t, s)
            if self.kernel == "posterior" and step in self._kept:
                density = self._belief(denoise, flat, t, each, schedule, step)
                mu = kernel.mean(flat, density.mean)
            else:
                mu = kernel.mean(flat, denoise(flat, t, each[:, None]).squeeze(1))
                density = Belief(mu, kernel.var[:, None])
            if step in self._kept:
                found.append(density.log_density(samples).reshape(len(x0), -1, self.chains))
            xt = mu.reshape(first.shape) + kernel.var[0].sqrt() * draw()
        return torch.stack(found).logsumexp((0, 3)) - math.log(len(found) * self.chains)

    def _belief(self, denoise: DenoiseCandidates, xt: Tensor, t: Tensor, y: Tensor, schedule: Schedule, step: int) -> Belief:
        """What the states of a kept step say of the clean sample."""
        if self.spread is None:
            return tweedie(denoise, xt, t, y, schedule)
        return Belief(denoise(xt, t, y[:, None]).squeeze(1), torch.full_like(t, self.spread[self._kept.index(step)])[:, None])


def measured(
    chain: ReverseChain, denoise: DenoiseCandidates, x0: Float[Tensor, "b c h w"], y: Float[Tensor, "b k"], *, schedule: Schedule, generator: SampleGenerator
) -> ReverseChain:
    """The chain with its `spread`: the mean squared error of x0_hat per dimension at each kept time, on images of known condition.

    Args:
        generator: one stream per image, of length b.
    """
    times, spread = chain._times(x0), []
    for step in chain._kept:
        t = times[step].expand(len(x0))
        xt = schedule.noised(x0, t, generator.normal(*x0.shape[1:]).to(x0.dtype))
        spread.append(float((x0 - denoise(xt, t, y[:, None]).squeeze(1)).square().mean()))
    return replace(chain, kernel="posterior", spread=tuple(spread))


def _identities(conditions: Float[Tensor, "n k"]) -> Int[Tensor, " n"]:
    """A number per condition that does not depend on its place or its company."""
    numbers = [zlib.crc32(row.numpy().tobytes()) for row in conditions.float().cpu()]
    return torch.tensor(numbers, device=conditions.device)
