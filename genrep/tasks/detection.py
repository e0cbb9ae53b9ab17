"""Object detection: every place of the token grid answers whether it lies in the middle of an object, of which class, and how far its
sides are; the best answers may be looked at again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou

from genrep.boxes import to_cxcywh, to_xyxy_px
from genrep.layers import wide
from genrep.tasks.base import Fuse, ObjectTargets, Task, place_losses, shortlist_kl
from genrep.tasks.regions import SAME, RegionOutput, Regions, propose, region_losses
from genrep.types import IGNORE, UNLABELLED, Batch, Detections, Features, FeatureSpec, Objects, Seen, SeenObjects

MOST_SEEN = 8
"""Objects per image that `Detection.seen` tells apart without a second look."""
LEAST_SCORE = 0.02
"""A detection of a lower score is none."""
ABSENT = 0.1
"""A place of a higher objectness may be an object."""


@dataclass(frozen=True)
class DetectionOutput:
    """Per token: class logits [b n k], objectness logit [b n], box [b n 4] in pixels (x0 y0 x1 y1). The second look, if there is one."""

    class_logits: Tensor
    objectness: Tensor
    boxes_xyxy_px: Tensor
    regions: RegionOutput | None = None


class Detection(Task[DetectionOutput, list[Detections]]):
    """A dense, anchor-free head on the token grid, whose `num_proposals` best boxes are recognised again at one size (`regions`).

    A token is matched to the object nearest to it (in units of the object's size) whose middle part covers it; objectness
    learns the IoU of the token's own box, the class is a softmax of its own at matched tokens, boxes learn by complete IoU.

    Source: Tian et al. 2019 (FCOS), arXiv:1904.01355; IoU-aware scores after Zhang et al. 2021, arXiv:2008.13367.
    """

    glimpses = True
    centres_px: Tensor

    def __init__(self, spec: FeatureSpec, num_classes: int, width: int = 128, num_proposals: int = 0) -> None:
        super().__init__()
        self.stride, self.image_size = spec.tap_stride, spec.image_size
        self.fuse = Fuse(spec, width, scan=True)
        self.tower = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.SiLU())
        self.read = nn.Conv2d(width, num_classes + 5, 1)
        self.num_proposals, self.overlap = num_proposals, 0.5 if num_proposals else SAME
        self.regions = Regions(spec, num_classes) if num_proposals else None
        nn.init.constant_(self.read.bias[num_classes : num_classes + 1], -3.0)  # type: ignore[index]
        height, wide = (size // self.stride for size in self.image_size)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(wide), indexing="ij")
        self.register_buffer("centres_px", (torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * self.stride, persistent=False)

    def forward(self, features: Features) -> DetectionOutput:
        fused = self.fuse(features)
        tokens = fused + self.tower(fused)
        read = wide(self.read(tokens)).flatten(2).transpose(1, 2)
        class_logits, objectness, sides = read.split([read.shape[-1] - 5, 1, 4], dim=-1)
        reach = F.softplus(sides + 1) * self.stride
        boxes = torch.cat([self.centres_px - reach[..., :2], self.centres_px + reach[..., 2:]], dim=-1)
        dense = DetectionOutput(class_logits, objectness.squeeze(-1), boxes)
        return dense if self.regions is None else replace(dense, regions=self._look_again(self.regions, features, dense))

    def _look_again(self, regions: Regions, features: Features, dense: DetectionOutput) -> RegionOutput:
        best, exists = propose(dense.objectness, dense.boxes_xyxy_px, num=self.num_proposals)
        boxes, objectness = dense.boxes_xyxy_px.detach().gather(1, best[..., None].expand(-1, -1, 4)), dense.objectness.gather(1, best)
        return regions(features, boxes, exists, objectness, twice=True)

    def offer(self, output: DetectionOutput) -> Objects | None:
        """The proposals as they are, without gradient: what other tasks would have them be disturbs what they learn of themselves."""
        if output.regions is None:
            return None
        return Objects(*(found.detach() for found in (output.regions.class_logits, output.regions.owner_logits(), output.regions.seen)))

    def match(self, batch: Batch) -> Int[Tensor, "b n"]:
        """The object slot each token is matched to, -1 for none. Every object has at least one."""
        boxes = to_xyxy_px(batch.boxes_cxcywh, self.image_size)
        centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        offset = (self.centres_px[None, :, None] - centre[:, None]).abs()
        exists = (batch.object_labels != UNLABELLED)[:, None]
        distance = (offset / size.clamp(min=1)[:, None]).amax(-1).masked_fill(~exists, torch.inf)
        middle = (offset < torch.maximum(size * 0.25, size.new_tensor(self.stride * 0.75))[:, None]).all(-1)
        nearest = distance == distance.amin(1, keepdim=True)
        best, slot = distance.masked_fill(~(middle | nearest), torch.inf).min(-1)
        return _with_rescued(torch.where(best.isfinite(), slot, UNLABELLED), distance)

    def loss(self, output: DetectionOutput, batch: Batch) -> dict[str, Tensor]:
        slot = self.match(batch)
        presence, classes, extent = place_losses(output.objectness, output.class_logits, output.boxes_xyxy_px, slot, batch, centres_px=self.centres_px)
        terms = {"objectness": presence, "object_class": classes, "box": 2 * extent}
        return {**terms, **region_losses(output.regions, batch)} if output.regions else terms

    def results(self, output: DetectionOutput, max_objects: int = 100, floor: float = LEAST_SCORE) -> list[Detections]:
        """Best first, suppressed per class; score = objectness times class probability, as a probability to be right (IoU .5) where a model is finished."""
        found = []
        for box, score in zip(*self._scored(output), strict=True):
            which, label = torch.nonzero(score > floor, as_tuple=True)
            box, score = box[which], score[which, label]
            keep = batched_nms(box, score, label, self.overlap)[:max_objects]
            found.append(Detections(box[keep], self.confidence.of_scores(score[keep]), label[keep]))
        return found

    def tensors(self, output: DetectionOutput) -> dict[str, Tensor]:
        boxes, scores = self._scored(output)
        return {"boxes_xyxy_px": boxes, "scores": torch.where(scores > LEAST_SCORE, self.confidence.of_scores(scores), 0)}

    def _scored(self, output: DetectionOutput) -> tuple[Float[Tensor, "b n 4"], Float[Tensor, "b n k"]]:
        """Boxes of tokens and proposals, and how sure each class is to be there.

        Of each token only its best class counts, of each proposal every class: a token has neighbours that may think otherwise. Where boxes were looked at
        again, tokens speak of the rest alone.
        """
        dense, regions = (self.confidence.of_object * output.class_logits).softmax(-1), output.regions
        dense = output.objectness.sigmoid()[..., None] * dense * (dense == dense.amax(-1, keepdim=True))
        boxes, scores = output.boxes_xyxy_px, dense
        if regions is not None:
            again = regions.objectness.sigmoid()[..., None] * (self.confidence.of_object * regions.class_logits).softmax(-1)
            covered = (box_iou(boxes, regions.proposals_xyxy_px) * regions.exists[:, None]).amax(-1) > SAME
            boxes, scores = torch.cat([regions.boxes_xyxy_px, boxes], 1), torch.cat([again, dense.masked_fill(covered[..., None], 0)], 1)
        height, width = self.image_size
        return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height])), scores

    def seen(self, output: DetectionOutput, confidence: float) -> Seen:
        """An object is where a place thinks more of its box than not, and no place that overlaps it thinks more of its own.

        Where all the places that are looked at are objects there may be more of them, and where some may or may not be another one: there it is not sure.
        """
        look = output.regions or output
        best, exists = propose(look.objectness, look.boxes_xyxy_px, num=max(1, self.num_proposals or MOST_SEEN), overlap=0.5)
        objectness = look.objectness.gather(1, best).sigmoid() * exists
        there, doubtful = objectness > 0.5, (objectness > ABSENT) & (objectness <= 0.5)
        probs = look.class_logits.softmax(-1)
        prob, label = probs.gather(1, best[..., None].expand(-1, -1, probs.shape[-1])).max(-1)
        sure = there.any(1) & ~there.all(1) & ((prob > confidence) | ~there).all(1) & ~doubtful.any(1)
        classes = (F.one_hot(label, probs.shape[-1]) * (there & sure[:, None])[..., None]).sum(1).float()
        return Seen(classes, there.sum(1), self._located(output, best, torch.where(there, label, UNLABELLED), there & (prob > confidence)))

    def _located(self, output: DetectionOutput, best: Int[Tensor, "b m"], labels: Int[Tensor, "b m"], sure: Bool[Tensor, "b m"]) -> SeenObjects:
        """The places `best` as objects, where they have a label."""
        there, (height, width) = labels != UNLABELLED, self.image_size
        boxes = (output.regions or output).boxes_xyxy_px.gather(1, best[..., None].expand(-1, -1, 4))
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
        mask = torch.full((len(labels), height, width), IGNORE, dtype=torch.uint8, device=labels.device)
        if output.regions:
            owner = output.regions.owner_logits().gather(1, best[..., None, None].expand(-1, -1, height, width))
            mask = F.pad(owner.masked_fill(~there[..., None, None], -torch.inf), (0, 0, 0, 0, 1, 0)).argmax(1).to(torch.uint8)
        return SeenObjects(labels, sure, to_cxcywh(boxes, self.image_size) * there[..., None], mask)

    def object_logits(self, output: DetectionOutput, batch: Batch) -> Float[Tensor, "b n k"]:
        """What the head says of each annotated object: mean class logits of the proposals matched to it, of its tokens where there is none."""
        of_tokens = _mean_of(output.class_logits, self.match(batch), batch.object_labels.shape[1])
        if output.regions is None:
            return of_tokens
        slot = output.regions.match(batch)
        proposed = (slot[:, None] == torch.arange(of_tokens.shape[1], device=slot.device)[None, :, None]).any(-1)
        return torch.where(proposed[..., None], _mean_of(output.regions.class_logits, slot, of_tokens.shape[1]), of_tokens)

    def distil_objects(self, output: DetectionOutput, batch: Batch, targets: ObjectTargets) -> Float[Tensor, " r"]:
        return shortlist_kl(self.object_logits(output, batch)[targets.row, targets.slot], targets)


def _mean_of(logits: Float[Tensor, "b m k"], slot: Int[Tensor, "b m"], num: int) -> Float[Tensor, "b n k"]:
    """Mean logits of the places matched to each of `num` objects."""
    place = (slot[:, None] == torch.arange(num, device=slot.device)[None, :, None]).to(logits.dtype)
    return torch.einsum("bnm,bmk->bnk", place, logits) / place.sum(-1, keepdim=True).clamp(min=1)


def _with_rescued(slot: Int[Tensor, "b n"], distance: Float[Tensor, "b n o"]) -> Int[Tensor, "b n"]:
    """A matching in which each object that has no token takes the nearest one that is free or that its owner can spare."""
    for j in range(distance.shape[-1]):
        owned = (slot[..., None] == torch.arange(distance.shape[-1], device=slot.device)).sum(1)
        row = torch.nonzero((owned[:, j] == 0) & distance[:, 0, j].isfinite()).squeeze(1)
        kept = (slot[row] >= 0) & (owned[row].gather(1, slot[row].clamp(min=0)) == 1)
        slot[row, distance[row, :, j].masked_fill(kept, torch.inf).argmin(1)] = j
    return slot
