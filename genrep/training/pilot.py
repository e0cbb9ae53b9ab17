"""A pilot run of the denoising gap: at which noise levels a denoiser tells classes apart, and where it should therefore draw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.layers import precise
from genrep.posteriors import DenoisingGap
from genrep.posteriors.calibration import minimised, scale_of
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import DenoiseCandidates

STEP = 0.3
"""How far the log of a weight strays from that of the part before: standard deviation of the random walk that weights are believed to be."""


@dataclass(frozen=True)
class Pilot:
    """Log-likelihoods of the parts of a range, several draws of each.

    log_lik: [p d b m] nats: of part p by draw d, up to a constant per draw and image.
    """

    estimator: DenoisingGap
    log_lik: Tensor

    def allocated(self) -> DenoisingGap:
        """The estimator with its draws where they matter.

        A part of the range gets draws in proportion to the standard deviation, over draws, of what it adds to the difference between the two
        candidates that fit an image best, or of a fifth of the mean over the parts if that is more (Neyman's allocation, with a floor: the
        pilot is small). Where no candidate differs from another the estimator stays as it is.

        Source: Neyman 1934, doi:10.2307/2342192, on strata of unequal spread.
        """
        num_parts, num_draws = self.log_lik.shape[:2]
        counted = self.log_lik * _per_part(self.estimator.weights, num_parts).to(self.log_lik)[:, None, None, None]
        best = counted.mean(1).sum(0).topk(2, dim=1).indices
        difference = counted.gather(3, best.expand(num_parts, num_draws, -1, -1)).diff(dim=3).squeeze(3)
        deviation = difference.var(1).mean(1).sqrt()
        if not bool(deviation.mean() > 0):
            return self.estimator
        return replace(self.estimator, allocation=tuple(torch.maximum(deviation, 0.2 * deviation.mean()).div(deviation.mean()).tolist()))

    def weighted(self, labels: Int[Tensor, " b"]) -> Pilot:
        """The pilot of the estimator that counts the parts as they serve to recognise these labels.

        The weights w_p, and a bias per class that is not kept, maximise the likelihood of the labels under softmax_k(sum_p w_p l_pk + b_k), times a
        random walk's of log w_p over the parts. An optimal denoiser's weights are equal. A trained one errs most where it was trained least, and
        what it says at those noise levels is mostly its own error.

        Args:
            labels: which candidate each image is.
        Source: Clark and Jaini 2023, arXiv:2303.15233, weigh noise levels by a curve that falls with noise and is the same for all models.
        Deviates: the curve is fitted to the model.
        """
        num = self.log_lik.shape[0]
        parts = precise(self.log_lik.mean(1))
        scale = scale_of(parts.sum(0))

        def logits(theta: Tensor) -> Tensor:
            return torch.einsum("p,pbm->bm", theta[:num].clamp(-20, 20).exp() * scale, parts) + theta[num:]

        def doubt(theta: Tensor) -> Tensor:
            """-log of the walk's density, per image."""
            return theta[:num].diff().square().sum() / (2 * STEP**2 * len(labels))

        start = torch.zeros(num + parts.shape[2], dtype=parts.dtype, device=parts.device)
        found = minimised(logits, labels, start, doubt=doubt)[:num].softmax(0) * num
        return Pilot(replace(self.estimator, weights=tuple(found.tolist())), self.log_lik)


def run_pilot(
    estimator: DenoisingGap,
    denoise: DenoiseCandidates,
    x0: Float[Tensor, "b c h w"],
    candidates: Float[Tensor, "b m k"],
    *,
    schedule: Schedule,
    generator: SampleGenerator,
    num_parts: int = 15,
    num_draws: int = 8,
) -> Pilot:
    """A pilot run on some images.

    Args:
        x0, candidates: not those that the estimator will be judged by.
        generator: one stream per image, of length b.
        num_parts: equal parts of the range.
        num_draws: of each part and image, at least 2: the pilot costs num_parts * num_draws pairs (single draws without `antithetic`) per candidate.
    Raises:
        ValueError: fewer than two candidates or draws.
    """
    if num_draws < 2:
        raise ValueError(f"`num_draws` must be at least 2 to have a spread; found {num_draws}.")
    edges = torch.linspace(estimator.logsnr_min, estimator.logsnr_max, num_parts + 1).tolist()
    one = replace(estimator, budget=2 if estimator.antithetic else 1, rounds=1, allocation=None, weights=None)
    parts = [replace(one, logsnr_min=low, logsnr_max=high) for low, high in pairwise(edges)]
    draws = [torch.stack([part(denoise, x0, candidates, schedule=schedule, generator=generator) for _ in range(num_draws)]) for part in parts]
    return Pilot(estimator, torch.stack(draws))


def _per_part(weights: tuple[float, ...] | None, num: int) -> Float[Tensor, " p"]:
    """Weights in the middle of each of `num` equal parts."""
    given = torch.tensor(weights or (1.0,))
    return given[((torch.arange(num) + 0.5) / num * len(given)).long()]
