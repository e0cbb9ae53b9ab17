"""Depth, metric or relative."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.layers import wide
from genrep.registry import lookup
from genrep.tasks.base import mean_where
from genrep.tasks.dense import Dense
from genrep.types import Batch, Features, FeatureSpec

KINDS = ("relative", "metric")
SMALLEST_SPREAD = 1e-3
APART = (1, 3)
"""How many pixels apart those are whose order counts."""
EVEN = 0.5
"""How far one factor on all depths of an image is forgiven: 0 not at all, 1 wholly."""


class Depth(Dense[Tensor]):
    """One number per pixel (`dense.Dense`): log(1 / depth) of a metric model, a nearness without scale or origin of a relative one.

        depth = map + sum over objects of what each owns of the pixel * how near it is

    The objects are those of a task before this one, which sees whether one of them is cut off by another; without them the last summand is missing.

    `loss`: of a metric model the scale-invariant logarithmic error; of a relative one the mean distance after both maps, the truth's and the head's, were
    brought to median 0 and mean distance 1, plus how far pixels `APART` are from being in the right order; averaged over images. `results`: 1 / metre;
    relative: 0 (farthest in the image) to 1 (nearest).

    Args:
        kind: relative or metric.
        of_objects: whether objects count, where there are any.
    Source: Eigen et al. 2014, arXiv:1406.2283, equation (4), lambda = .5; Ranftl et al. 2020, arXiv:1907.01341, equations (5) to (7); the order after
        Chen et al. 2016, arXiv:1604.03901, equation (2).
    Deviates: the first is the root of the mean, as in later work, so that one bad image does not outweigh the others; pairs are near ones in rows and
        columns instead of a few chosen by people.
    """

    def __init__(self, spec: FeatureSpec, num_classes: int, width: int = 128, *, kind: str = KINDS[0], of_objects: bool = True) -> None:
        del num_classes
        super().__init__(spec, 1, width)
        self.of_object = nn.Sequential(nn.Linear(spec.seen, width), nn.SiLU(), nn.Linear(width, 1)) if of_objects and spec.seen else None
        self.kind = lookup({name: name for name in KINDS}, kind, "kind of depth")

    def forward(self, features: Features) -> Float[Tensor, "b h w"]:
        found = self.map(features).squeeze(1)
        if self.of_object is None or features.objects is None:
            return found
        owner = F.pad(features.objects.owner_logits, (0, 0, 0, 0, 1, 0)).softmax(1)[:, 1:]
        return found + torch.einsum("bmhw,bm->bhw", owner, wide(self.of_object(features.objects.seen)).squeeze(-1))

    def loss(self, output: Float[Tensor, "b h w"], batch: Batch) -> dict[str, Tensor]:
        truth = batch.inv_depth.to(output)
        known = truth.isfinite()
        error = silog(output, truth, known) if self.kind == "metric" else misfit(output, truth, known) + disorder(output, truth)
        return {"depth": mean_where(error, known.flatten(1).any(1))}

    def results(self, output: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        if self.kind == "metric":
            return output.exp()
        low, high = output.amin((1, 2), keepdim=True), output.amax((1, 2), keepdim=True)
        return (output - low) / (high - low).clamp(min=SMALLEST_SPREAD)

    def tensors(self, output: Float[Tensor, "b h w"]) -> dict[str, Tensor]:
        return {"inv_depth": self.results(output)}


def silog(log_inv: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"], known: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """sqrt(mean of squares - EVEN * square of the mean) of the error of log depth, over known pixels; 0 where there are none."""
    error = (log_inv - torch.where(known, truth, 1.0).log()) * known
    num = known.sum((1, 2)).clamp(min=1)
    spread = error.square().sum((1, 2)) / num - EVEN * (error.sum((1, 2)) / num).square()
    return spread.clamp(min=1e-12).sqrt() * known.flatten(1).any(1)


def misfit(nearness: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"], known: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Mean distance of the two aligned maps over known pixels; 0 where there are none."""
    apart = (_aligned(nearness, known) - _aligned(torch.where(known, truth, 0.0), known)).abs()
    return (apart * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1)


def disorder(nearness: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """log(1 + e^-d), d by how much the nearer of two pixels was found nearer, mean over the pairs in rows and columns whose order is known; 0 without any."""
    total = num = nearness.new_zeros(len(nearness))
    for distance in APART:
        for dim in (1, 2):
            size = max(0, nearness.shape[dim] - distance)
            step, found = (of.narrow(dim, of.shape[dim] - size, size) - of.narrow(dim, 0, size) for of in (truth, nearness))
            pair = step.isfinite() & (step != 0)
            total = total + (F.softplus(-found * torch.where(pair, step, 0.0).sign()) * pair).sum((1, 2))
            num = num + pair.sum((1, 2))
    return total / num.clamp(min=1)


def _aligned(values: Float[Tensor, "b h w"], known: Bool[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Median 0 and mean distance from it 1, over known pixels."""
    median = values.masked_fill(~known, float("nan")).flatten(1).nanmedian(1).values.nan_to_num()[:, None, None]
    apart = (values - median) * known
    return apart / (apart.abs().sum((1, 2)) / known.sum((1, 2)).clamp(min=1)).clamp(min=SMALLEST_SPREAD)[:, None, None]
