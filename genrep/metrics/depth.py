"""Depth: distances in metres, and which of two objects lies before the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from genrep.types import IGNORE

CLOSE = 1.25
"""The factor within which a depth counts as right."""


@dataclass(frozen=True)
class DepthErrors:
    """Of each image with known depth, over its known pixels."""

    abs_rel: Float[Tensor, " m"]
    """Mean of |found - true| / true."""
    rmse_m: Float[Tensor, " m"]
    delta1: Float[Tensor, " m"]
    """Share of pixels within a factor of `CLOSE`."""


def depth_errors(found: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"]) -> DepthErrors:
    """Errors of depth from inverse depths in 1 / metre, NaN where unknown.

    Source: Eigen et al. 2014, arXiv:1406.2283, section 4; averaged over images, at the resolution of the arguments.
    """
    known = truth.isfinite()
    rows = known.flatten(1).any(1)
    known, num = known[rows], known[rows].sum((1, 2))
    found_m, true_m = 1 / found[rows].double(), 1 / torch.where(known, truth[rows], 1.0).double()
    apart = (found_m - true_m).abs() * known
    factor = torch.maximum(found_m / true_m, true_m / found_m)
    return DepthErrors(
        abs_rel=(apart / true_m).sum((1, 2)) / num,
        rmse_m=(apart.square().sum((1, 2)) / num).sqrt(),
        delta1=((factor < CLOSE) & known).sum((1, 2)) / num,
    )


def fitted(nearness: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Inverse depth from a nearness without scale or origin: in each image the line through the truth, by least squares over its known pixels, and nothing
    farther than what is farthest in all of them.

    Source: Ranftl et al. 2020, arXiv:1907.01341, section 5.
    """
    known = truth.isfinite()
    x, y = nearness.double(), torch.where(known, truth, 0.0).double()
    num = known.sum((1, 2), keepdim=True).clamp(min=1)
    x_mean, y_mean = ((of * known).sum((1, 2), keepdim=True) / num for of in (x, y))
    apart = (x - x_mean) * known
    spread = apart.square().sum((1, 2), keepdim=True)
    slope = torch.where(spread > 0, (apart * y).sum((1, 2), keepdim=True) / spread, 0.0)
    farthest = truth[known].amin() if bool(known.any()) else truth.new_ones(())
    return (y_mean + slope * (x - x_mean)).clamp(min=float(farthest)).to(nearness)


def right_order(found: Float[Tensor, "b h w"], instance_mask: UInt8[Tensor, "b h w"]) -> Bool[Tensor, " p"]:
    """For each pair of objects that touch, of all images: whether the later one, which lies before the other, was found nearer on average.

    Args:
        found: larger is nearer.
        instance_mask: of layered objects.
    """
    mask = torch.where(instance_mask == IGNORE, 0, instance_mask.long())
    num_images, num = len(mask), 1 + int(mask.amax()) if mask.numel() else 1
    image = torch.arange(num_images)[:, None, None].expand_as(mask)
    place = (image * num + mask).flatten()
    total, count = (
        torch.zeros(num_images * num, dtype=torch.float64).index_add(0, place, of.flatten()) for of in (found.double(), torch.ones_like(found).double())
    )
    nearness = (total / count).view(num_images, num)
    touching = torch.zeros(num_images, num, num, dtype=torch.bool)
    for here, there in (((slice(None), slice(-1)), (slice(None), slice(1, None))), ((..., slice(-1)), (..., slice(1, None)))):
        touching[image[here], mask[here], mask[there]] = True
    of, far, near = (touching | touching.mT).triu(1)[:, 1:].nonzero(as_tuple=True)
    return nearness[of, near] > nearness[of, far + 1]
