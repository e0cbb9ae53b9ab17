"""Single-label classification: accuracy, likelihood, calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genrep.metrics.base import Estimate, wilson


def top1(log_probs: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Estimate:
    """Share of images whose most probable class is the label."""
    return wilson(int((log_probs.argmax(1) == labels).sum()), len(labels))


def negative_log_likelihood(log_probs: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Mean of -log q(label), nats."""
    return float(torch.nn.functional.nll_loss(log_probs.double(), labels))


def expected_calibration_error(log_probs: Float[Tensor, "n k"], labels: Int[Tensor, " n"], *, num_bins: int = 15) -> float:
    """Mean of |accuracy - confidence| over equal-width confidence bins, weighted by count; in [0, 1].

    Source: Guo et al. 2017, arXiv:1706.04599, eq. (3), as torchmetrics computes it.
    """
    from torchmetrics.functional.classification import multiclass_calibration_error

    return float(multiclass_calibration_error(log_probs.exp(), labels, num_classes=log_probs.shape[1], n_bins=num_bins, norm="l1"))


def auroc(score: Float[Tensor, " n"], positive: Bool[Tensor, " n"]) -> float:
    """Share of the pairs of a positive and a negative in which the positive has the higher score, ties half; .5 is chance, nan without a pair."""
    from torchmetrics.functional.classification import binary_auroc

    if bool(positive.all()) or not bool(positive.any()):
        return math.nan
    ranks = torch.searchsorted(score.sort().values, score).float() / len(score)  # scores outside [0, 1] would be squashed by a sigmoid, ties apart
    return float(binary_auroc(ranks, positive.long()))


def confidence_auroc(log_probs: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """How well confidence, the highest probability, tells right answers from wrong ones: `auroc`; nan where all are right, or none.

    Source: Hendrycks and Gimpel 2017, arXiv:1610.02136.
    """
    confidence, predicted = log_probs.max(1)
    return auroc(confidence, predicted == labels)


@dataclass(frozen=True)
class Reliability:
    """What a reliability diagram shows, one entry per confidence bin; empty bins have 0 everywhere."""

    confidence: list[float]
    accuracy: list[float]
    count: list[int]


def reliability(log_probs: Float[Tensor, "n k"], labels: Int[Tensor, " n"], *, num_bins: int = 15) -> Reliability:
    """Mean confidence and accuracy in equal-width bins of the top probability."""
    confidence, predicted = log_probs.double().exp().max(1)
    bins = (confidence * num_bins).long().clamp(0, num_bins - 1)
    count = torch.bincount(bins, minlength=num_bins)
    mean_confidence, accuracy = (
        torch.bincount(bins, weights=value, minlength=num_bins) / count.clamp(min=1) for value in (confidence, (predicted == labels).double())
    )
    return Reliability(mean_confidence.tolist(), accuracy.tolist(), count.tolist())


def confusion_matrix(predicted: Int[Tensor, "*n"], labels: Int[Tensor, "*n"], *, num_classes: int) -> Int[Tensor, "k k"]:
    """Counts by (label, prediction)."""
    flat = labels.long().flatten() * num_classes + predicted.long().flatten()
    return torch.bincount(flat, minlength=num_classes**2).view(num_classes, num_classes)
