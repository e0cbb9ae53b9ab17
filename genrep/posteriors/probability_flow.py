"""The probability-flow ODE: the image is carried to noise, and what its volume does on the way is its likelihood."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from genrep.posteriors.base import PosteriorEstimator, require_candidates, require_range
from genrep.posteriors.likelihood import flow_log_likelihood
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates


@dataclass(frozen=True, kw_only=True)
class ProbabilityFlow(PosteriorEstimator):
    """Log-likelihoods by the change of variables along the flow from data to noise.

        log p(x0 | y) = log N(x_end; 0, sigma_end^2 I) + Integral of div u dt + constant of the image

    See `likelihood.flow_log_likelihood`. Takes gradients through the denoiser: slow, to audit the other estimators.

    Args:
        budget: denoiser evaluations per candidate, even: two per step.
        logsnr_min, logsnr_max: ends of the flow, nats.
    Raises:
        ValueError: empty range, odd budget.
    Source: Song et al. 2021, arXiv:2011.13456, section 4.3 and appendix D.2; Grathwohl et al. 2019, arXiv:1810.01367.
    """

    budget: int = 100
    logsnr_min: float = -8.0
    logsnr_max: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range(self.logsnr_min, self.logsnr_max)
        if self.budget % 2:
            raise ValueError(f"`budget` must be even, as a step takes two evaluations; found {self.budget}.")

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
        ends = (self.logsnr_max, self.logsnr_min)
        return flow_log_likelihood(denoise, x0, candidates, schedule=schedule, generator=generator, num_steps=self.budget // 2, logsnr=ends)
