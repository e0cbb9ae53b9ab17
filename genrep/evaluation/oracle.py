"""The oracle rig: a denoiser in closed form over real images, so that every estimate of p(y|x) can be held against the exact one.

The images are scikit-learn's 8 x 8 digits; the density of each class is a mixture of one Gaussian around each training digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.metrics.classification import expected_calibration_error, negative_log_likelihood
from genrep.posteriors import PosteriorEstimator
from genrep.posteriors.base import one_by_one
from genrep.randomness import SampleGenerator, permutation
from genrep.schedules import RectifiedFlow, Schedule, expand
from genrep.types import Denoised

NUM_TRAIN, NUM_VAL = 1_000, 300
BANDWIDTHS = tuple(0.02 * i for i in range(2, 31))
"""Standard deviations that are tried."""


@dataclass(frozen=True)
class KernelDensities:
    """x0 given class k is a mixture of N(point, bandwidth^2 I) over the points of the class, and `denoise` of that is exact.

    Args:
        points: of each class; classes may have different numbers of them.
    """

    points: tuple[Float[Tensor, "_ c h w"], ...]
    bandwidth: float
    schedule: Schedule

    def __call__(self, xt: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Float[Tensor, "b k"]) -> Denoised:
        """E[x0 | xt, y] (a `types.Denoise`); y is one class each."""
        label, mean = y.argmax(1), torch.empty_like(xt)
        alpha, sigma2 = expand(self.schedule.alpha(t), xt), expand(self.schedule.sigma(t), xt) ** 2
        var = alpha**2 * self.bandwidth**2 + sigma2
        for k in label.unique().tolist():
            rows = label == k
            weights = self._log_weights(xt[rows], alpha[rows].flatten(), var[rows].flatten(), k).softmax(1)
            mean[rows] = (weights @ self.points[k].flatten(1)).reshape(-1, *xt.shape[1:])
        return Denoised((alpha * self.bandwidth**2 * xt + sigma2 * mean) / var, torch.zeros_like(t))

    def log_likelihoods(self, x0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """log p(x0 | k), nats."""
        one, dimensions = x0.new_ones(len(x0)), x0[0].numel()
        known = -0.5 * (x0.flatten(1).square().sum(1) / self.bandwidth**2 + dimensions * math.log(2 * math.pi * self.bandwidth**2))
        mixed = [self._log_weights(x0, one, self.bandwidth**2 * one, k).logsumexp(1) - math.log(len(points)) for k, points in enumerate(self.points)]
        return known[:, None] + torch.stack(mixed, dim=1)

    def _log_weights(self, xt: Tensor, alpha: Float[Tensor, " b"], var: Float[Tensor, " b"], k: int) -> Float[Tensor, "b n"]:
        """log N(xt; alpha * points of class k, var I) up to a constant of xt."""
        points = self.points[k].flatten(1)
        alpha, var = alpha[:, None], var[:, None]
        return (alpha * (xt.flatten(1) @ points.T) - alpha**2 * points.square().sum(1) / 2) / var


@dataclass(frozen=True)
class Oracle:
    """The exact denoiser, and digits that it has not seen."""

    densities: KernelDensities
    images: Float[Tensor, "n 1 8 8"]
    """In [-1, 1], double."""
    labels: Int[Tensor, " n"]

    def exact(self) -> Float[Tensor, "n k"]:
        """log p(y | x) with a uniform prior."""
        return self.densities.log_likelihoods(self.images).log_softmax(1)

    def candidates(self) -> Float[Tensor, "n k k"]:
        """Every class for every image."""
        return torch.eye(len(self.densities.points), dtype=self.images.dtype).expand(len(self.images), -1, -1)

    def estimated(self, estimator: PosteriorEstimator, *, seed: int) -> Float[Tensor, "n k"]:
        """The same by an estimator, without calibration."""
        generator = SampleGenerator(seed, torch.arange(len(self.images)), "oracle")
        return estimator(one_by_one(self.densities), self.images, self.candidates(), schedule=self.densities.schedule, generator=generator).log_softmax(1)

    def first(self, num: int) -> Oracle:
        """With the first `num` images only."""
        return Oracle(self.densities, self.images[:num], self.labels[:num])


def load_oracle(*, test: bool = True) -> Oracle:
    """1,000 digits make the densities, 300 choose the bandwidth; the rest is the test set, which `test=False` leaves unseen for those 300.

    Raises:
        ValueError: scikit-learn, which carries the digits, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError("the oracle rig needs the digits that come with scikit-learn, which is not installed: pip install 'genrep[bench]'") from error
    data = load_digits()
    order = permutation(len(data.target), seed=0, epoch=0)
    images, labels = torch.from_numpy(data.images / 8 - 1)[order, None], torch.from_numpy(data.target)[order]
    points = tuple(images[:NUM_TRAIN][labels[:NUM_TRAIN] == k] for k in range(10))
    val = slice(NUM_TRAIN, NUM_TRAIN + NUM_VAL)
    bandwidth = max(BANDWIDTHS, key=lambda width: _log_likelihood(KernelDensities(points, width, RectifiedFlow()), images[val], labels[val]))
    rows = slice(NUM_TRAIN + NUM_VAL, None) if test else val
    return Oracle(KernelDensities(points, bandwidth, RectifiedFlow()), images[rows], labels[rows])


def _log_likelihood(densities: KernelDensities, images: Tensor, labels: Int[Tensor, " n"]) -> float:
    """Mean log p(x0 | y), nats."""
    return float(densities.log_likelihoods(images).gather(1, labels[:, None]).mean())


@dataclass(frozen=True)
class Scores:
    """How an estimate compares with the exact posterior, and with the labels."""

    kl: float
    """Mean KL(exact, estimate), nats."""
    agreement: float
    """Share of images with the exact posterior's favourite."""
    accuracy: float
    nll: float
    """Mean -log p(label | x), nats."""
    ece: float


def score(log_probs: Float[Tensor, "n k"], exact: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Scores:
    """An estimate of log p(y | x), nats, beside the exact one."""
    favourite = log_probs.argmax(1)
    return Scores(
        kl=float(torch.nn.functional.kl_div(log_probs, exact, log_target=True, reduction="batchmean")),
        agreement=float((favourite == exact.argmax(1)).double().mean()),
        accuracy=float((favourite == labels).double().mean()),
        nll=negative_log_likelihood(log_probs, labels),
        ece=expected_calibration_error(log_probs, labels),
    )
