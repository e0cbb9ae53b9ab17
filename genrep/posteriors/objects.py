"""Posteriors of objects: what else could this one be, the rest of the image being as it is?"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def replace_class(
    classes: Float[Tensor, "r k"], label: Int[Tensor, " r"], *, keep: Bool[Tensor, " r"], candidates: Int[Tensor, "r m"]
) -> Float[Tensor, "r m k"]:
    """For an object of class `label` in an image with class set `classes`: the set with that class replaced by each candidate.

    The candidate that is the object's own class gives back exactly `classes`.

    Args:
        classes: 0/1, with a 1 at `label`.
        keep: whether another object of the image has this class too, so that it stays.
        candidates: class indices.

    >>> set_ab = torch.tensor([[1.0, 1.0, 0.0]])
    >>> replace_class(set_ab, torch.tensor([0]), keep=torch.tensor([False]), candidates=torch.tensor([[0, 2]])).tolist()
    [[[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]]
    """
    rest = classes.scatter(1, label[:, None], keep[:, None].to(classes))
    sets = rest[:, None].repeat(1, candidates.shape[1], 1)
    return sets.scatter(2, candidates[:, :, None], 1.0)


def object_log_likelihood(maps: Float[Tensor, "r m h w"], region: Float[Tensor, "r h w"]) -> Float[Tensor, "r m"]:
    """l_jk: the log-likelihood maps of each candidate set, summed over the pixels of the object; nats, up to a constant per object.

    Args:
        maps: of the object's image under each candidate (`DenoisingGap.maps`).
        region: 1 on the object's mask, or its box where there is no mask, else 0.
    """
    return torch.einsum("rmhw,rhw->rm", maps, region.to(maps))
