"""Multi-label classification: average precision by class, by torchmetrics, and how well sets of classes agree."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def average_precisions(probs: Float[Tensor, "n k"], present: Bool[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """By class: images in the order of its probability, precision at each that has it, the mean; nan where none has it."""
    from torchmetrics.functional.classification import binary_average_precision

    num = present.shape[1]
    return torch.stack([binary_average_precision(probs[:, k], present[:, k].long()) if present[:, k].any() else probs.new_tensor(math.nan) for k in range(num)])


def mean_average_precision(probs: Float[Tensor, "n k"], present: Bool[Tensor, "n k"]) -> float:
    """The mean over the classes that some image has."""
    return float(average_precisions(probs, present).double().nanmean())


def set_f1(found: Bool[Tensor, "n k"], wanted: Bool[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """2 |found and wanted| / (|found| + |wanted|) of sets of classes; 1 where both are empty."""
    sizes = found.sum(1) + wanted.sum(1)
    return torch.where(sizes == 0, 1.0, 2 * (found & wanted).sum(1) / sizes.clamp(min=1))
