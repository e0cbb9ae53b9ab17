"""Single-label image classification."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.layers import wide
from genrep.tasks.base import Fuse, Task, mean_where
from genrep.types import UNLABELLED, Batch, Features, FeatureSpec, Objects, Seen

NUM_QUERIES = 4


def classes_by_share(objects: Objects) -> Float[Tensor, "b k"]:
    """Class logits of the objects, mixed by the share of the image that each owns, of what is owned at all."""
    owner = F.pad(objects.owner_logits, (0, 0, 0, 0, 1, 0)).softmax(1)[:, 1:].sum((2, 3))
    return torch.einsum("bm,bmk->bk", owner / owner.sum(1, keepdim=True).clamp(min=1), objects.class_logits)


class Classification(Task[Tensor, Tensor]):
    """Attention pooling over the fused map, then a linear layer; plus what the image's objects are.

        logits = linear(pooled) + classes by share

    The objects are those of a task before this one; without them the last summand is missing.

    `forward`: logits [b k]. `loss`: cross-entropy over the images with one label. `results`: log-probabilities [b k].
    """

    def __init__(self, spec: FeatureSpec, num_classes: int, width: int = 128) -> None:
        super().__init__()
        self.fuse = Fuse(spec, width)
        self.score = nn.Conv2d(width, NUM_QUERIES, 1)
        self.classify = nn.Linear(NUM_QUERIES * width, num_classes)

    def forward(self, features: Features) -> Float[Tensor, "b k"]:
        fused = self.fuse(features)
        weight = self.score(fused).flatten(2).softmax(-1)
        pooled = weight @ fused.flatten(2).transpose(1, 2)
        logits = self.classify(pooled.flatten(1))
        return logits if features.objects is None else wide(logits) + classes_by_share(features.objects)

    def loss(self, output: Float[Tensor, "b k"], batch: Batch) -> dict[str, Tensor]:
        labelled = batch.label != UNLABELLED
        error = F.cross_entropy(wide(output), batch.label.clamp(min=0), reduction="none")
        return {"classification": mean_where(error, labelled)}

    def results(self, output: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        return self.confidence.of_classes(wide(output))

    def tensors(self, output: Float[Tensor, "b k"]) -> dict[str, Tensor]:
        return {"class_log_probs": self.results(output)}

    def seen(self, output: Float[Tensor, "b k"], confidence: float) -> Seen:
        prob, label = self.results(output).exp().max(1)
        return Seen(F.one_hot(label, output.shape[1]) * (prob > confidence).float()[:, None], torch.ones_like(label))

    def distil_image(self, output: Float[Tensor, "b k"], rows: Int[Tensor, " r"], probs: Float[Tensor, "r k"]) -> Float[Tensor, " r"]:
        return F.kl_div(wide(output[rows]).log_softmax(1), probs, reduction="none").sum(1)
