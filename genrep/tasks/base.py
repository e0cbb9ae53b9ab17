"""What a perception task is: a head on the features, a criterion, a post-processor, in one file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any, ClassVar, Generic, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from genrep.boxes import paired_iou, to_xyxy_px
from genrep.layers import GroupNorm, Halving, Residual, wide
from genrep.processes import total
from genrep.tasks.confidence import Confidence
from genrep.types import UNLABELLED, Batch, Features, FeatureSpec, Objects, Seen

Output = TypeVar("Output")
Result = TypeVar("Result")

SCAN_WIDTH = 128
SCAN_DEPTH = 3
"""Residual blocks after which a place knows of an image of 8 x 8 places as a whole."""


@dataclass(frozen=True)
class ObjectTargets:
    """Posteriors of objects in a batch: what generation teaches perception where there is more than one object.

    Row r says of object `slot[r]` of image `row[r]`: its class is `candidates[r, i]` with probability `probs[r, i]`.
    """

    row: Tensor
    slot: Tensor
    candidates: Tensor
    probs: Tensor


class Task(nn.Module, ABC, Generic[Output, Result]):
    """A head with its loss and its post-processor. A head never sees a label or semantics, only features.

    Image-level and object-level posteriors from the diffusion model are taught by `distil`; a task that cannot use one of
    them returns None.
    """

    glimpses: ClassVar[bool] = False
    """Whether it reads the scan, so that it sees something without the trunk's blocks, too: features without taps."""
    overlap: float | None = None
    """IoU above which of two objects of a class only the better one is there."""
    confidence: Confidence = Confidence()
    """How sure `results` are; as the head itself is while it trains."""

    @abstractmethod
    def forward(self, features: Features) -> Output:
        """Raw output of the head."""

    @abstractmethod
    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Named terms, each a mean over the images that have the label it needs (zero where none has); of several processes, this one's part of it."""

    @abstractmethod
    def results(self, output: Output) -> Result:
        """What a user gets."""

    def tensors(self, output: Output) -> dict[str, Tensor]:
        """What `results` say, by name, as tensors whose shapes do not depend on the images, to be exported; of a task that has none nothing is.

        Of objects: `boxes_xyxy_px` [b n 4] and `scores` [b n k] of all that may be some, 0 where they cannot, to be suppressed by `overlap`.
        """
        del output
        return {}

    def offer(self, output: Output) -> Objects | None:
        """What the tasks after this one may see of its findings."""
        del output
        return None

    def seen(self, output: Output, confidence: float) -> Seen | None:
        """What the images hold; None of a task that does not say.

        Args:
            confidence: probability above which the task is sure of a class.
        """
        del output, confidence
        return None

    def distil_image(self, output: Output, rows: Tensor, probs: Tensor) -> Tensor | None:
        """KL(p || q), [r] nats, from the class posteriors `probs` [r k] of the images `rows` [r], which have one class each."""
        del output, rows, probs
        return None

    def distil_objects(self, output: Output, batch: Batch, targets: ObjectTargets) -> Tensor | None:
        """KL(p || q), [r] nats, from object posteriors over shortlists (q renormalised over the candidates)."""
        del output, batch, targets
        return None


def run_tasks(tasks: Iterable[tuple[str, Task[Any, Any]]], features: Features) -> Iterator[tuple[str, Task[Any, Any], Any]]:
    """Name, head and raw output of each task in turn; what one of them offers, the next ones see."""
    for name, task in tasks:
        output = task(features)
        features = replace(features, objects=task.offer(output) or features.objects)
        yield name, task, output


class Scan(nn.Module):
    """The stem's coarsest map drawn together to the token grid: halvings, then residual convolutions.

    What lies where is learnt here from far fewer images, and in a small part of the time, that the trunk's blocks need.
    """

    def __init__(self, spec: FeatureSpec, width: int = SCAN_WIDTH) -> None:
        super().__init__()
        halvings = (spec.tap_stride // spec.stem_strides[-1]).bit_length() - 1
        self.down = nn.Sequential(nn.SiLU(), *(Halving(a, b) for a, b in pairwise((spec.stem[-1], *(width,) * halvings))))
        self.around = nn.Sequential(*(Residual(width) for _ in range(SCAN_DEPTH)), GroupNorm(8, width))

    def forward(self, features: Features) -> Float[Tensor, "b d gh gw"]:
        return self.around(self.down(features.stem[-1]))


class Fuse(nn.Module):
    """The taps of the trunk as one map: concatenated, mixed by one linear layer per position, rectified. To it the scan, mixed likewise, is added
    where it is asked for and there is one; of a glimpse that is all."""

    def __init__(self, spec: FeatureSpec, width: int, *, scan: bool = False) -> None:
        super().__init__()
        self.mix = nn.Linear(sum(spec.taps), width)
        self.mix_scan = nn.Linear(spec.scan, width) if scan and spec.scan else None

    def forward(self, features: Features) -> Float[Tensor, "b d gh gw"]:
        seen = [_mixed(self.mix, features.taps)] if features.taps else []
        if self.mix_scan is not None:
            assert features.scan is not None
            seen.append(_mixed(self.mix_scan, (features.scan,)))
        return reduce(torch.add, seen)


def _mixed(mix: nn.Linear, maps: Sequence[Float[Tensor, "b _ gh gw"]]) -> Float[Tensor, "b d gh gw"]:
    return F.silu(mix(torch.cat([each.permute(0, 2, 3, 1) for each in maps], dim=-1))).permute(0, 3, 1, 2)


def mean_where(value: Float[Tensor, " b"], where: Tensor) -> Float[Tensor, ""]:
    """Mean of `value` over the rows of all processes that have a label, this process's part of it; 0 (with a gradient of 0) where none has."""
    weight = where.to(value.dtype)
    return (value * weight).sum() / total(weight.sum()).clamp(min=1)


def place_losses(
    objectness: Float[Tensor, "b n"],
    class_logits: Float[Tensor, "b n k"],
    boxes_xyxy_px: Float[Tensor, "b n 4"],
    slot: Int[Tensor, "b n"],
    batch: Batch,
    *,
    centres_px: Float[Tensor, "*b n 2"],
) -> tuple[Tensor, Tensor, Tensor]:
    """What places of an image (tokens, proposals) learn of the object `slot` they are matched to, -1 for none.

    Args:
        centres_px: (x, y) of the places: one that lies in something ignored, and is matched to none, may be an object or not.
    Returns:
        presence: cross-entropy of the objectness to the IoU of the place's own box, 0 where it is matched to none; summed over the
        places of annotated images. Class: cross-entropy. Extent: complete IoU loss. All three per place matched in any process.
    """
    row, place = torch.nonzero(slot >= 0, as_tuple=True)
    chosen, num = slot[row, place], total(objectness.new_tensor(len(row))).clamp(min=1)
    boxes, truth = boxes_xyxy_px[row, place], to_xyxy_px(batch.boxes_cxcywh[row, chosen], (batch.image.shape[-2], batch.image.shape[-1]))
    quality = torch.zeros_like(objectness)
    quality[row, place] = paired_iou(boxes.detach(), truth)
    presence = F.binary_cross_entropy_with_logits(objectness, quality, reduction="none")[
        batch.has_objects[:, None] & ((slot >= 0) | ~_ignored(centres_px, batch))
    ].sum()
    classes = F.cross_entropy(class_logits[row, place], batch.object_labels[row, chosen], reduction="sum")
    return presence / num, classes / num, complete_box_iou_loss(boxes, truth, reduction="sum") / num


def _ignored(centres_px: Float[Tensor, "*b n 2"], batch: Batch) -> Bool[Tensor, "b n"]:
    """Whether places lie in something that is ignored."""
    low, high = to_xyxy_px(batch.boxes_cxcywh, (batch.image.shape[-2], batch.image.shape[-1]))[:, None].split(2, dim=-1)
    inside = ((centres_px[..., None, :] > low) & (centres_px[..., None, :] < high)).all(-1)
    return (inside & (batch.ignored_labels != UNLABELLED)[:, None]).any(-1)


def shortlist_kl(logits: Float[Tensor, "r k"], targets: ObjectTargets) -> Float[Tensor, " r"]:
    """KL(p || q) in nats, q = softmax of the logits renormalised over each row's candidates."""
    log_q = wide(logits).gather(1, targets.candidates).log_softmax(1)
    return F.kl_div(log_q, targets.probs, reduction="none").sum(1)
