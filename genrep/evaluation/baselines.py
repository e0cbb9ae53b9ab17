"""What a figure must beat: logistic regression on pixels, fitted to the labels the run could see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from genrep.datasets.base import ArrayDataset
from genrep.types import UNLABELLED


@dataclass(frozen=True)
class LogisticRegression:
    """logits = weight (pixels - mean) + bias, pixels in [0, 1]."""

    weight: Tensor
    """[k d + 1], the bias last."""
    mean: Tensor
    varies: Tensor
    """[c h w] flattened: pixels that differ between training images; the others say nothing."""
    l2: float

    def __call__(self, pixels: Tensor) -> Int[Tensor, " b"]:
        """Most probable class of uint8 pixels [b c h w]."""
        return _logits(_rows(pixels)[:, self.varies] - self.mean, self.weight).argmax(1)


def _rows(pixels: Tensor) -> Tensor:
    return pixels.flatten(1).float().div_(255)


def _logits(rows: Tensor, weight: Tensor) -> Tensor:
    return (weight[:, :-1] @ rows.T).T + weight[:, -1]  # in this order the gradient is one fast product


def _minimise(rows: Tensor, labels: Tensor, start: Tensor, *, l2: float, num_iterations: int) -> Tensor:
    """The weights of least mean cross-entropy + l2 / 2 |W|^2, by L-BFGS from `start`."""
    weight = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weight], max_iter=num_iterations, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(_logits(rows, weight), labels) + l2 / 2 * weight[:, :-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach()


def fit_logistic_regression(train: ArrayDataset, val: ArrayDataset, *, l2_grid: Sequence[float] = (1e-3, 1e-4), num_iterations: int = 40) -> LogisticRegression:
    """Logistic regression on pixels; of the grid, in falling order and warm-started, the l2 with the best top-1 on `val`.

    Args:
        train: images without a label do not count.
    Raises:
        ValueError: no image has a label.
    """
    seen = train.label != UNLABELLED
    if not bool(seen.any()):
        raise ValueError(f"logistic regression needs labelled images; `{train.name}` shows none.")
    rows, labels = _rows(train.pixels[seen]), train.label[seen].long()
    varies = rows.amax(0) > rows.amin(0)
    rows = rows[:, varies]
    mean = rows.mean(0)
    rows -= mean
    weight, candidates = torch.zeros(len(train.class_names), rows.shape[1] + 1), []
    for l2 in l2_grid:
        weight = _minimise(rows, labels, weight, l2=l2, num_iterations=num_iterations)
        candidates.append(LogisticRegression(weight, mean, varies, l2))
    return max(candidates, key=lambda fitted: float((fitted(val.pixels) == val.label).double().mean()))
