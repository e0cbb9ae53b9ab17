"""Multi-label image classification: which classes are in the picture at all."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.layers import wide
from genrep.tasks.base import Fuse, Task, mean_where
from genrep.types import Batch, Features, FeatureSpec, Objects, Seen

LEAST = 1e-4
"""What objects say of a class is no nearer to no, or yes, than this."""


def classes_by_any(objects: Objects) -> Float[Tensor, "b k"]:
    """Logit of the probability that at least one object is of the class, each being there as far as some pixel is its own, and of a class by chance."""
    owner = F.pad(objects.owner_logits, (0, 0, 0, 0, 1, 0)).softmax(1)[:, 1:].amax((2, 3))
    absent = (1 - owner[..., None] * objects.class_logits.softmax(-1)).prod(1)
    return torch.logit(1 - absent, eps=LEAST)


class MultiLabel(Task[Tensor, Tensor]):
    """Each class looks at the fused map by itself: the mean of what it reads, where it attends; plus whether one of the image's objects is of it.

        logits = sum over places of softmax(attention) * evidence + classes by any

    The objects are those of a task before this one; without them the last summand is missing.

    `forward`: logits [b k]. `loss`: -log p(class set), nats, class by class, over the images of which it is known (`Batch.class_sets`).
    `results`: probability that the class is in the image, [b k].

    Source: attention by class as in Zhu and Wu 2021, arXiv:2108.02456.
    """

    def __init__(self, spec: FeatureSpec, num_classes: int, width: int = 128) -> None:
        super().__init__()
        self.fuse = Fuse(spec, width)
        self.attend = nn.Conv2d(width, num_classes, 1)
        self.read = nn.Conv2d(width, num_classes, 1)
        assert self.read.bias is not None
        nn.init.constant_(self.read.bias, -math.log(max(1, num_classes - 1)))  # one class in an image, to begin with

    def forward(self, features: Features) -> Float[Tensor, "b k"]:
        fused = self.fuse(features)
        weight, evidence = (wide(of(fused)).flatten(2) for of in (self.attend, self.read))
        logits = (weight.softmax(-1) * evidence).sum(-1)
        return logits if features.objects is None else logits + classes_by_any(features.objects)

    def loss(self, output: Float[Tensor, "b k"], batch: Batch) -> dict[str, Tensor]:
        present, known = batch.class_sets
        error = F.binary_cross_entropy_with_logits(output, present.to(output), reduction="none").sum(1)
        return {"multilabel": mean_where(error, known)}

    def results(self, output: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        return self.confidence.of_scores(output.sigmoid())

    def tensors(self, output: Float[Tensor, "b k"]) -> dict[str, Tensor]:
        return {"presence": self.results(output)}

    def seen(self, output: Float[Tensor, "b k"], confidence: float) -> Seen:
        """One object of each class that is there, as far as it is known: sure where every class is in, or out."""
        prob = self.results(output)
        there, sure = prob > 0.5, (torch.maximum(prob, 1 - prob) > confidence).all(1)
        return Seen((there & sure[:, None]).float(), there.sum(1))

    def distil_image(self, output: Float[Tensor, "b k"], rows: Int[Tensor, " r"], probs: Float[Tensor, "r k"]) -> Float[Tensor, " r"]:
        """Of images of one object the posterior of its class is, class by class, that it is there."""
        rest = (1 - probs).clamp(min=0)
        entropy = -torch.xlogy(probs, probs) - torch.xlogy(rest, rest)  # torch's own refuses to be computed in bfloat16 on a GPU
        return (F.binary_cross_entropy_with_logits(output[rows], probs, reduction="none") - entropy).sum(1)
