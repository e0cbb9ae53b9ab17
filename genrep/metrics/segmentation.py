"""Semantic segmentation: intersection over union from one confusion matrix over the whole test set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genrep.types import IGNORE


def pixel_confusion(predicted: UInt8[Tensor, "b h w"], truth: UInt8[Tensor, "b h w"], *, num_values: int) -> Int[Tensor, "v v"]:
    """Pixel counts by (truth, prediction) where the truth is labelled; add them up over batches.

    Args:
        num_values: classes plus one, as 0 is the background.
    """
    labelled = truth != IGNORE
    flat = truth[labelled].long() * num_values + predicted[labelled].long()
    return torch.bincount(flat, minlength=num_values**2).view(num_values, num_values)


def intersection_over_union(confusion: Int[Tensor, "v v"]) -> Float[Tensor, " v"]:
    """IoU of each mask value, float64; NaN for one that neither truth nor prediction has."""
    hit = confusion.diagonal().double()
    return hit / (confusion.sum(0) + confusion.sum(1) - confusion.diagonal())


@dataclass(frozen=True)
class Segmentation:
    """Mean IoU over the values present, with and without the background, and the IoU of each value."""

    miou: float
    miou_foreground: float
    per_value: list[float | None]
    """Background first; None: neither in the truth nor predicted."""


def segmentation(confusion: Int[Tensor, "v v"]) -> Segmentation:
    """Figures of a confusion matrix over a whole set."""
    iou = intersection_over_union(confusion)
    per_value = [None if value != value else value for value in iou.tolist()]
    return Segmentation(float(iou.nanmean()), float(iou[1:].nanmean()), per_value)
