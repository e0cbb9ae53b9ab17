"""The paper's estimator: the reverse chain of each class as a mixture of Gaussian kernels, evaluated at the image."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.parametrization import reverse_kernel
from genrep.posteriors.base import PosteriorEstimator, require_candidates, require_noise
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates


@dataclass(frozen=True, kw_only=True)
class ReverseChain(PosteriorEstimator):
    """Log-likelihoods from the kernels along one reverse chain per condition, burnt in and thinned.

        p(x0 | y) ~= mean over kept steps of N(x0; mu(xt, x0_hat), var_base)

    Args:
        budget: steps of the chain, each one denoiser evaluation, on a uniform grid from `start` to just above 0.
        burn_in: the first states, which are dropped.
        thinning: of the others every thinning-th is kept.
        start: time at which the chain starts. 1: from noise; then it does not depend on the image, and one chain per distinct
            condition, a bank, serves the whole batch and leaves `generator` alone. Below 1: from the image noised to that time.
        noise: `shared`: the chains of all candidates see the same noise; `independent`: each sees its own.
        seed: which bank; another seed refreshes it. Only where `start` is 1.
    Raises:
        ValueError: nothing left to keep, `start` outside (0, 1], unknown `noise`, a `seed` that would be ignored.
    Source: the paper's equations (1) to (3) and its algorithm.
    Deviates: runs a chain for every candidate, not only for the true class, as Bayes' rule needs them all; thins by step
        number modulo `thinning`, where the algorithm tests the number of steps; divides by the number of kept states; leaves out
        the kernel to t = 0, whose variance is zero; `start` and `noise` are options, as the paper leaves them open.
        What no option mends: states of the chain are noised data, so this is the density of noised data at a clean point, not
        that of clean data, and one chain sees few of the images of a class. `DenoisingGap` is better at a fiftieth of the cost.
    """

    budget: int = 200
    burn_in: int = 50
    thinning: int = 2
    start: float = 1.0
    noise: Literal["shared", "independent"] = "shared"
    seed: int = 0
    decomposes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.burn_in < self.budget or self.thinning < 1:
            raise ValueError(f"`burn_in` must be at least 0 and below `budget`, `thinning` at least 1; found {self.burn_in}, {self.budget}, {self.thinning}.")
        if not 0 < self.start <= 1:
            raise ValueError(f"`start` must be a time in (0, 1]; found {self.start}.")
        require_noise(self.noise)
        if self.seed and self.start < 1:
            raise ValueError(f"`seed` chooses a bank, and there is none with `start` below 1; found seed {self.seed}. Change the generator's seed.")

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
        num = 1 if self.noise == "shared" else candidates.shape[1]
        t = torch.full((len(x0),), self.start, dtype=x0.dtype, device=x0.device)

        def draw() -> Tensor:
            return generator.normal(num, *x0.shape[1:]).to(x0.dtype)

        first = schedule.noised(x0[:, None], t, draw()).expand(-1, candidates.shape[1], -1, -1, -1)
        return self._log_mixture(denoise, x0, candidates, first=first, draw=draw, schedule=schedule)

    def _from_bank(self, denoise: DenoiseCandidates, x0: Tensor, candidates: Tensor, schedule: Schedule) -> Tensor:
        """One chain per distinct condition of the batch, [b m]."""
        conditions, which = candidates.flatten(0, 1).unique(dim=0, return_inverse=True)
        index = _identities(conditions) if self.noise == "independent" else torch.zeros(len(conditions), dtype=torch.int64, device=x0.device)
        bank = SampleGenerator(self.seed, index, "reverse chain")

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
        first: Float[Tensor, "r n c h w"],
        draw: Callable[[], Tensor],
        schedule: Schedule,
    ) -> Float[Tensor, "b n"]:
        """log of the mean of the kept kernels at x0; r is b, or 1 where the chains serve all images."""
        times = torch.linspace(self.start, 0, self.budget + 2, dtype=torch.float64, device=x0.device)[:-1].to(x0.dtype)
        each, xt, kept = conditions.flatten(0, 1)[:, None], first, []
        for step, (now, then) in enumerate(pairwise(times)):
            t, s = now.expand(len(each)), then.expand(len(each))
            kernel, flat = reverse_kernel(schedule, t, s), xt.flatten(0, 1)
            mu = kernel.mean(flat, denoise(flat, t, each).flatten(0, 1)).reshape(first.shape)
            if step >= self.burn_in and (step - self.burn_in) % self.thinning == 0:
                kept.append(_log_normal(x0[:, None] - mu, kernel.var[:1]))
            xt = mu + kernel.var[0].sqrt() * draw()
        return torch.stack(kept).logsumexp(0) - math.log(len(kept))


def _log_normal(error: Float[Tensor, "b n c h w"], var: Float[Tensor, " 1"]) -> Float[Tensor, "b n"]:
    """log N(error; 0, var I), nats."""
    return -0.5 * (error.square() / var + (2 * math.pi * var).log()).flatten(2).sum(2)


def _identities(conditions: Float[Tensor, "n k"]) -> Int[Tensor, " n"]:
    """A number per condition that does not depend on its place or its company."""
    numbers = [zlib.crc32(row.numpy().tobytes()) for row in conditions.float().cpu()]
    return torch.tensor(numbers, device=conditions.device)
