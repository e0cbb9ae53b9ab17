"""The variational bound of the discrete chain: what a class saves in describing the image step by step."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from genrep.posteriors.base import PosteriorEstimator, require_candidates, require_range
from genrep.posteriors.likelihood import describe
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates


@dataclass(frozen=True, kw_only=True)
class VariationalBound(PosteriorEstimator):
    """Log-likelihoods from below: minus what it takes to describe the image along a chain of `num_steps` (`likelihood.describe`).

    For many steps it becomes the integral of the denoising gap, plus the description of the image given the chain's clean end.

    Args:
        budget: denoiser evaluations per candidate, even and at least 4: a pair for the clean end, the others for steps from equal parts of the
            chain. The candidates of an image share steps and noise.
        num_steps: of the chain.
        logsnr_min, logsnr_max: its ends, nats.
    Raises:
        ValueError: empty range, a budget that is odd or below 4, more pairs than steps.
    Source: Kingma et al. 2021, arXiv:2107.00630, equations (11) to (15).
    """

    budget: int = 64
    num_steps: int = 1000
    logsnr_min: float = -8.0
    logsnr_max: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range(self.logsnr_min, self.logsnr_max)
        if self.budget % 2 or not 4 <= self.budget <= 2 * self.num_steps + 2:
            raise ValueError(f"`budget` must be even, at least 4 and at most 2 * `num_steps` + 2; found {self.budget} for {self.num_steps} steps.")

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
        draws, ends = self.budget // 2 - 1, (self.logsnr_max, self.logsnr_min)
        steps, (rest,) = describe(denoise, x0, candidates, schedule=schedule, generator=generator, num_draws=draws, num_steps=self.num_steps, logsnr=ends)
        return -(steps - steps.mean(2, keepdim=True)).mean(0) - (rest - rest.mean(1, keepdim=True))
