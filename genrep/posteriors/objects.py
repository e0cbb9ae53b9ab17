"""Posteriors of objects: what else could this one be, the rest of the image being as it is?"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from genrep.boxes import cells_inside
from genrep.types import IGNORE, Batch


def replace_class(classes: Float[Tensor, "r k"], label: Int[Tensor, " r"], candidates: Int[Tensor, "r m"]) -> Float[Tensor, "r m k"]:
    """For an object of class `label` in an image that holds `classes`: what it holds with that object replaced by one of each candidate.

    The candidate that is the object's own class gives back exactly `classes`.

    Args:
        classes: how many objects of each class, at least one of `label`.
        candidates: class indices.

    >>> two_a_and_b = torch.tensor([[2.0, 1.0, 0.0]])
    >>> replace_class(two_a_and_b, torch.tensor([0]), torch.tensor([[0, 2]])).tolist()
    [[[2.0, 1.0, 0.0], [1.0, 1.0, 1.0]]]
    """
    num = classes.shape[1]
    return (classes - one_hot(label, num))[:, None] + one_hot(candidates, num)


def region_of(batch: Batch, row: Int[Tensor, " r"], slot: Int[Tensor, " r"]) -> Float[Tensor, "r h w"]:
    """What objects `slot` of images `row` cover, 1 or 0: their masks, in images without masks their boxes."""
    mask = batch.instance_mask[row]
    inside = cells_inside(batch.boxes_cxcywh[row, slot], (mask.shape[1], mask.shape[2]))
    has_masks = (mask != IGNORE).flatten(1).any(1)
    return torch.where(has_masks[:, None, None], (mask == slot[:, None, None] + 1).to(inside), inside)


def object_log_likelihood(maps: Float[Tensor, "r m h w"], region: Float[Tensor, "r h w"]) -> Float[Tensor, "r m"]:
    """l_jk: the log-likelihood maps of each candidate, summed over the pixels of the object; nats, up to a constant per object.

    Args:
        maps: of the object's image under each candidate (`DenoisingGap.maps`).
        region: 1 on the object, else 0 (`region_of`).
    """
    return torch.einsum("rmhw,rhw->rm", maps, region.to(maps))
