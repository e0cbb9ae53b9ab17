"""Semantic segmentation."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from genrep.tasks.base import ObjectTargets, mean_where, shortlist_kl
from genrep.tasks.dense import Dense
from genrep.types import IGNORE, Batch, Features, FeatureSpec, Objects


def classes_by_owner(objects: Objects) -> Float[Tensor, "b k h w"]:
    """Class logits of the objects, mixed at each pixel by whose it is; zero where it is nobody's."""
    owner = F.pad(objects.owner_logits, (0, 0, 0, 0, 1, 0)).softmax(1)[:, 1:]
    return torch.einsum("bmhw,bmk->bkhw", owner, objects.class_logits)


class Segmentation(Dense[Tensor]):
    """A map of logits (`dense.Dense`), plus what each pixel's object is.

        logits = map + classes by owner

    The objects are those of a task before this one; without them the last summand is missing.

    `forward`: logits [b 1+k h w], channel 0 the background. `loss`: cross-entropy over labelled pixels, averaged over images.
    `results`: class of each pixel, 0 background, c + 1 class c.
    """

    def __init__(self, spec: FeatureSpec, num_classes: int, width: int = 128) -> None:
        super().__init__(spec, 1 + num_classes, width)

    def forward(self, features: Features) -> Float[Tensor, "b c h w"]:
        logits = self.map(features)
        return logits if features.objects is None else logits + F.pad(classes_by_owner(features.objects), (0, 0, 0, 0, 1, 0))

    def loss(self, output: Float[Tensor, "b c h w"], batch: Batch) -> dict[str, Tensor]:
        mask = batch.semantic_mask.long()
        labelled = mask != IGNORE
        error = F.cross_entropy(output, torch.where(labelled, mask, 0), reduction="none") * labelled
        num = labelled.sum((1, 2))
        return {"segmentation": mean_where(error.sum((1, 2)) / num.clamp(min=1), num > 0)}

    def results(self, output: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b h w"]:
        return output.argmax(1).to(torch.uint8)

    def tensors(self, output: Float[Tensor, "b c h w"]) -> dict[str, Tensor]:
        return {"semantic_mask": self.results(output)}

    def distil_objects(self, output: Float[Tensor, "b c h w"], batch: Batch, targets: ObjectTargets) -> Float[Tensor, " r"]:
        inside = batch.instance_mask[targets.row] == targets.slot[:, None, None] + 1
        which, y, x = torch.nonzero(inside, as_tuple=True)
        per_pixel = ObjectTargets(targets.row[which], targets.slot[which], targets.candidates[which], targets.probs[which])
        divergence = shortlist_kl(output[per_pixel.row, 1:, y, x], per_pixel)
        total = divergence.new_zeros(len(targets.row)).index_add(0, which, divergence)
        return total / inside.sum((1, 2)).clamp(min=1)
