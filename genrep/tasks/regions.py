"""A second look at a few boxes: what lies in them is brought to one size and place, then recognised.

An object of 11 pixels in a corner and one of 28 in the middle look alike there, so what is learnt of one serves the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from genrep.boxes import to_xyxy_px
from genrep.layers import GroupNorm, StandardConv2d, wide
from genrep.tasks.base import mean_where, place_losses
from genrep.types import IGNORE, UNLABELLED, Batch, Features, FeatureSpec

CROP = 16
"""Side of a crop, in samples."""
CONTEXT = 1.25
"""Side of what is looked at, in sides of the box: what covers an object tells what is hidden."""
STEP = 0.2
"""How far an output of 1 moves a side, in sides of the box."""
REACH = 0.4
"""How far from where its mask ends a side can lie, in sides of the box: none leaves what was looked at far behind."""
SAME = 0.6
"""Tokens whose boxes overlap by more (IoU) speak of one object."""
DEEP, AFTER = 96, CROP // 4
"""Channels and side of a crop after its convolutions."""
NUM_SEEN = 2 * DEEP * AFTER**2
"""Numbers that are known of an object: its crop, and the same seen through its mask."""
NOT_HERE = -8.0
"""Logit of an object's mask outside what was looked at."""


@dataclass(frozen=True)
class RegionOutput:
    """Of m proposed boxes per image: what was proposed, where was looked at last and the refined boxes, in pixels [b m 4], logits of
    class [b m k] and presence [b m], mask logits on the image [b m h w], which proposals exist at all [b m], and what was seen of each [b m s]."""

    proposals_xyxy_px: Tensor
    looked_at_xyxy_px: Tensor
    exists: Tensor
    class_logits: Tensor
    objectness: Tensor
    boxes_xyxy_px: Tensor
    mask_logits: Tensor
    seen: Tensor

    def owner_logits(self) -> Float[Tensor, "b m h w"]:
        """Whose each pixel is, against a logit of 0 for nobody's: a mask counts as much as its object is there."""
        return self.mask_logits + F.logsigmoid(self.objectness)[:, :, None, None]

    def match(self, batch: Batch) -> Int[Tensor, "b m"]:
        """The object that each proposal overlaps most, before or after it moved, if by more than half; else -1.

        Before or after: the first look learns of its mistakes only in this way.
        """
        truth = to_xyxy_px(batch.boxes_cxcywh, (batch.image.shape[-2], batch.image.shape[-1]))
        iou = torch.maximum(box_iou(self.proposals_xyxy_px, truth), box_iou(self.looked_at_xyxy_px, truth)) * (batch.object_labels != UNLABELLED)[:, None]
        best, slot = iou.max(-1)
        return torch.where((best > 0.5) & self.exists, slot, UNLABELLED)


@torch.no_grad()
def propose(
    objectness: Float[Tensor, "b n"], boxes_xyxy_px: Float[Tensor, "b n 4"], *, num: int, overlap: float = SAME
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """The best boxes of each image, best first, none overlapping a better one by more than `overlap` IoU; and whether there were as many.

    Batched, and of a fixed number, where `torchvision.ops.nms` takes one image at a time.

    >>> boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 7], [9, 9, 12, 12]]])
    >>> propose(torch.tensor([[2.0, 1.0, 0.0]]), boxes, num=3)
    (tensor([[0, 2, 0]]), tensor([[ True,  True, False]]))
    """
    iou = box_iou(boxes_xyxy_px, boxes_xyxy_px)
    left, found, exists = wide(objectness.detach()), [], []
    for _ in range(num):
        best, index = left.max(1)
        found.append(index)
        exists.append(best > -torch.inf)
        covered = iou.gather(1, index[:, None, None].expand(-1, 1, iou.shape[2])).squeeze(1) > overlap
        left = left.masked_fill(covered, -torch.inf).scatter(1, index[:, None], -torch.inf)
    return torch.stack(found, 1), torch.stack(exists, 1)


def crop(maps: Float[Tensor, "b c h w"], boxes_xyxy_px: Float[Tensor, "b m 4"], image_size: tuple[int, int], size: int) -> Float[Tensor, "bm c s s"]:
    """Bilinear samples on a regular grid over each box; zero outside the image. A sixth of the time of `roi_align` on a CPU."""
    height, width = image_size
    low, extent = boxes_xyxy_px[..., None, :2], boxes_xyxy_px[..., None, 2:] - boxes_xyxy_px[..., None, :2]
    step = ((torch.arange(size, device=maps.device) + 0.5) / size)[:, None]
    x, y = ((low + extent * step) / low.new_tensor([width, height]) * 2 - 1).unbind(-1)
    grid = torch.stack(torch.broadcast_tensors(x[:, :, None, :], y[:, :, :, None]), -1)
    maps = wide(maps)
    sampled = F.grid_sample(maps, grid.flatten(1, 2).to(maps.dtype), align_corners=False)
    return sampled.unflatten(2, (-1, size)).transpose(1, 2).flatten(0, 1)


def paste(crops: Float[Tensor, "b m s s"], boxes_xyxy_px: Float[Tensor, "b m 4"], image_size: tuple[int, int], outside: float) -> Float[Tensor, "b m h w"]:
    """The inverse of `crop`: every crop back in its place on the image, `outside` around it."""
    axes = [torch.arange(side, device=crops.device) + 0.5 for side in reversed(image_size)]
    low, high = boxes_xyxy_px[..., :2], boxes_xyxy_px[..., 2:]
    x, y = ((axes[i] - low[..., i, None]) / (high - low)[..., i, None].clamp(min=1) * 2 - 1 for i in range(2))
    grid = torch.stack(torch.broadcast_tensors(x[:, :, None, :], y[:, :, :, None]), -1).flatten(0, 1)
    crops = wide(crops)
    placed = F.grid_sample(crops.flatten(0, 1)[:, None], grid.to(crops.dtype), align_corners=False, padding_mode="border").squeeze(1)
    return torch.where((grid.abs() <= 1).all(-1), placed, outside).unflatten(0, boxes_xyxy_px.shape[:2])


def _convolution(before: int, after: int, size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(StandardConv2d(before, after, size, stride=stride), GroupNorm(8, after), nn.SiLU())


class Regions(nn.Module):
    """Crops of the stem's map become a mask, and, seen through that mask, a class and a better box.

    Each side goes to where the mask ends, and as much further, or less far, as the network says of it: every place of a mask learns from every object, a side
    from its own alone, so that masks are right long before sides are.

    Source: the two stages of He et al. 2017 (Mask R-CNN), arXiv:1703.06870.
    Deviates: there a box is regressed beside its mask, here the mask is where its sides begin.
    """

    def __init__(self, spec: FeatureSpec, num_classes: int, width: int = 128) -> None:
        super().__init__()
        self.image_size, self.num_classes = spec.image_size, num_classes
        self.level = max((i for i, stride in enumerate(spec.stem_strides) if 4 * stride <= spec.tap_stride), default=0)
        self.first = _convolution(spec.stem[self.level], 32, 3, 1)
        self.down = nn.Sequential(_convolution(32, 64, 4, 2), _convolution(64, DEEP, 4, 2))
        self.shape = nn.Conv2d(DEEP, 16, 1)
        self.whole = nn.Sequential(nn.Linear(DEEP * AFTER**2, width), nn.SiLU(), nn.Linear(width, 16))
        self.embed = nn.Conv2d(32, 16, 1)
        self.own = nn.Sequential(_convolution(32, 64, 4, 2), _convolution(64, DEEP, 4, 2))
        self.read = nn.Sequential(nn.Linear(NUM_SEEN, width), nn.SiLU(), nn.Linear(width, num_classes + 5))
        self.outline = nn.Parameter(torch.ones(4))
        """How much of the way to where the mask ends each side (left, top, right, bottom) goes; a network that learnt without has 0."""

    def forward(
        self, features: Features, proposals: Float[Tensor, "b m 4"], exists: Bool[Tensor, "b m"], objectness: Float[Tensor, "b m"], *, twice: bool = False
    ) -> RegionOutput:
        """What lies in the proposals; its objectness is added to the one given. Twice: what the first look says is only where to look again."""
        boxes = self._better(features, proposals) if twice else proposals
        mask, read, parts, seen = self._see(features, boxes)
        classes, present = read.split([self.num_classes, 1], -1)
        return RegionOutput(
            proposals_xyxy_px=proposals,
            looked_at_xyxy_px=boxes,
            exists=exists,
            class_logits=classes,
            objectness=(objectness + present.squeeze(-1)).masked_fill(~exists, -20.0),
            boxes_xyxy_px=_moved(boxes, parts),
            mask_logits=paste(mask, _around(boxes), self.image_size, NOT_HERE),
            seen=seen,
        )

    @torch.no_grad()
    def _better(self, features: Features, proposals: Float[Tensor, "b m 4"]) -> Float[Tensor, "b m 4"]:
        """The proposals, moved to where the objects in them seem to be."""
        return _moved(proposals, self._see(features, proposals)[2])

    def _see(
        self, features: Features, boxes: Float[Tensor, "b m 4"]
    ) -> tuple[Float[Tensor, "b m c c"], Float[Tensor, "b m r"], Float[Tensor, "b m 4"], Float[Tensor, "b m s"]]:
        """Mask logits on the crop; class logits and presence; how the box's sides move, in parts of its size; and what all but the mask is read from."""
        fine = self.first(crop(features.stem[self.level], _around(boxes), self.image_size, CROP))
        deep = self.down(fine)
        mask = torch.einsum("rchw,rc->rhw", self.embed(fine), self.whole(deep.flatten(1))) + F.pixel_shuffle(self.shape(deep), 4).squeeze(1)
        seen = torch.cat([deep, self.own(fine * mask.sigmoid()[:, None])], 1).flatten(1)
        read = wide(self.read(seen))
        parts = _bounded(read[:, -4:]) + self.outline * _outline(mask)
        mask, read, parts, seen = (each.unflatten(0, boxes.shape[:2]) for each in (mask, read[:, :-4], parts, seen))
        return mask, read, parts, seen


def _outline(mask: Float[Tensor, "r s s"]) -> Float[Tensor, "r 4"]:
    """How far inside each side of the box the mask ends, in parts of its size: the mean length of what is empty, each place being covered or not by chance."""
    ends = []
    for across in (1, 2):
        empty = F.logsigmoid(-wide(mask).amax(across))
        ends += [each.cumsum(1).exp().sum(1) for each in (empty, empty.flip(1))]
    left, right, top, bottom = (CONTEXT / CROP * end - (CONTEXT - 1) / 2 for end in ends)
    return torch.stack([left, top, -right, -bottom], 1)


def _around(boxes: Float[Tensor, "b m 4"]) -> Float[Tensor, "b m 4"]:
    """What is looked at: the box and its surroundings."""
    centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    return torch.cat([centre - CONTEXT / 2 * size, centre + CONTEXT / 2 * size], -1)


def _bounded(move: Float[Tensor, "r 4"]) -> Float[Tensor, "r 4"]:
    """What the network says of the sides, in parts of the box's size."""
    return REACH * torch.tanh(STEP / REACH * move)


def _moved(boxes: Float[Tensor, "b m 4"], parts: Float[Tensor, "b m 4"]) -> Float[Tensor, "b m 4"]:
    """Sides moved by parts of the box's size; what is left is a pixel wide at least."""
    low, high = (boxes + parts * (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)).split(2, dim=-1)
    return torch.cat([low, torch.maximum(high, low + 1)], dim=-1)


def region_losses(output: RegionOutput, batch: Batch) -> dict[str, Tensor]:
    """What every proposal learns of the object it is matched to, and whose each pixel is (mean over images with instance masks).

    Pixels of an object that several proposals match may be any of theirs; those of one without a proposal are nobody's.
    """
    slot = output.match(batch)
    low, high = output.looked_at_xyxy_px.split(2, dim=-1)
    presence, classes, extent = place_losses(output.objectness, output.class_logits, output.boxes_xyxy_px, slot, batch, centres_px=(low + high) / 2)
    mine = slot[:, :, None, None] == torch.where(batch.instance_mask == 0, -2, batch.instance_mask.long() - 1)[:, None]
    right = torch.cat([~mine.any(1, keepdim=True), mine], 1)
    log_owner = F.pad(output.owner_logits(), (0, 0, 0, 0, 1, 0)).log_softmax(1)
    labelled = batch.instance_mask != IGNORE
    missed = -log_owner.masked_fill(~right, -1e4).logsumexp(1) * labelled
    num_pixels = labelled.sum((1, 2))
    owner = mean_where(missed.sum((1, 2)) / num_pixels.clamp(min=1), num_pixels > 0)
    return {"region_objectness": presence, "region_class": classes, "region_box": 2 * extent, "owner": 2 * owner}
