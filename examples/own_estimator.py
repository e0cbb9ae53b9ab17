"""A posterior estimator of your own: the denoising error at one noise level, the cheapest there is.

python examples/own_estimator.py train tiny --objective.posterior one_level --objective.posterior.logsnr -1 --out runs/one_level
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from genrep.cli.main import main
from genrep.parametrization import eps_error
from genrep.posteriors import POSTERIORS, PosteriorEstimator
from genrep.posteriors.base import require_candidates
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates


@dataclass(frozen=True, kw_only=True)
class OneLevel(PosteriorEstimator):
    """log p(x0 | y) ~ -1/2 |eps - eps_hat(xt, y)|^2 at one logsnr, mean over `budget` draws that all candidates share.

    Args:
        logsnr: the noise level in nats; the classes differ most where their coarse shapes just disappear.
    """

    logsnr: float = 0.0

    def __call__(
        self,
        denoise: DenoiseCandidates,
        x0: Float[Tensor, "b c h w"],
        candidates: Float[Tensor, "b m k"],
        *,
        schedule: Schedule,
        generator: SampleGenerator,
    ) -> Float[Tensor, "b m"]:
        """One noised image per draw, seen under every candidate."""
        require_candidates(candidates)
        t = schedule.t_of_logsnr(x0.new_full((len(x0),), self.logsnr))
        total = x0.new_zeros(candidates.shape[:2])
        for _ in range(self.budget):
            x0_hat = denoise(schedule.noised(x0, t, generator.normal(*x0.shape[1:]).to(x0.dtype)), t, candidates)
            total -= eps_error((x0[:, None] - x0_hat).square().sum((2, 3, 4)), t, schedule) / (2 * self.budget)
        return total


POSTERIORS["one_level"] = OneLevel

if __name__ == "__main__":
    sys.exit(main())
