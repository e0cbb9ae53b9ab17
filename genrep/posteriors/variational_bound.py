"""The variational bound of the discrete chain: what a class saves in describing the image step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.posteriors.base import PosteriorEstimator, eps_error_maps, require_candidates
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates


@dataclass(frozen=True, kw_only=True)
class VariationalBound(PosteriorEstimator):
    """Log-likelihoods from below: minus the divergences between the true and the learnt reverse kernels of a chain of `num_steps`.

        log p(x0 | y) >= - sum_i 1/2 (snr_(i-1) - snr_i) E|x0 - x0_hat(x_i, y)|^2 - 1/2 snr_0 E|x0 - x0_hat(x_0, y)|^2 + constant of the image

    x_i stands at logsnr falling evenly from `logsnr_max` (x_0) to `logsnr_min`. The last term is the description of the image given x_0. For
    many steps the sum becomes the integral of the denoising gap.

    Args:
        budget: denoiser evaluations per candidate, at least 2: one for the last term, the others for steps drawn from equal parts of the chain.
        num_steps: of the chain.
        logsnr_min, logsnr_max: its ends, nats.
        noise: `shared`: the candidates of an image see the same steps and noise; `independent`: each sees its own.
    Raises:
        ValueError: empty range, fewer steps than evaluations, a budget below 2, unknown `noise`.
    Source: Kingma et al. 2021, arXiv:2107.00630, equations (11) to (15).
    """

    budget: int = 1000
    num_steps: int = 1000
    logsnr_min: float = -8.0
    logsnr_max: float = 7.0
    noise: Literal["shared", "independent"] = "shared"
    decomposes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.logsnr_min < self.logsnr_max:
            raise ValueError(f"`logsnr_min` must be below `logsnr_max`; found {self.logsnr_min} and {self.logsnr_max}.")
        if not 2 <= self.budget <= self.num_steps + 1:
            raise ValueError(f"`budget` must be at least 2 and at most `num_steps` + 1; found {self.budget} for {self.num_steps} steps.")
        if self.noise not in ("shared", "independent"):
            raise ValueError(f"`noise` must be `shared` or `independent`; found `{self.noise}`.")

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
        num, width = 1 if self.noise == "shared" else candidates.shape[1], (self.logsnr_max - self.logsnr_min) / self.num_steps

        def centred_error(step: Tensor) -> Tensor:
            eps = generator.normal(num, *x0.shape[1:]).to(x0.dtype)
            error = eps_error_maps(denoise, x0, candidates, logsnr=self.logsnr_max - width * step, eps=eps, schedule=schedule).sum((-2, -1))
            return error - error.mean(1, keepdim=True)

        description = centred_error(x0.new_zeros(len(x0), num))
        divergences, num_draws = torch.zeros_like(description), self.budget - 1
        for i in range(num_draws):
            place = (i + generator.uniform(num).to(x0.dtype)) / num_draws
            divergences += centred_error((place * self.num_steps).floor().clamp(max=self.num_steps - 1) + 1)
        return -0.5 * (description + divergences * math.expm1(width) * self.num_steps / num_draws)
