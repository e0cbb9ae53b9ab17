"""Boxes: one place for the two formats, and boxes from masks. Overlaps and suppression come from torchvision."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_convert, nms

from genrep.types import Detections


def to_xyxy_px(boxes_cxcywh: Float[Tensor, "*n 4"], size: tuple[int, int]) -> Float[Tensor, "*n 4"]:
    """Normalised centre and size to pixel corners of an image of (height, width)."""
    height, width = size
    scale = boxes_cxcywh.new_tensor([width, height, width, height])
    return box_convert(boxes_cxcywh, "cxcywh", "xyxy") * scale


def to_cxcywh(boxes_xyxy_px: Float[Tensor, "*n 4"], size: tuple[int, int]) -> Float[Tensor, "*n 4"]:
    """Pixel corners in an image of (height, width) to normalised centre and size."""
    height, width = size
    scale = boxes_xyxy_px.new_tensor([width, height, width, height])
    return box_convert(boxes_xyxy_px / scale, "xyxy", "cxcywh")


def one_per_place(found: Detections, min_score: float, *, overlap: float = 0.9) -> Detections:
    """What to show of an image: the detections of at least this score (0 to 1), and of an object that may be of several classes the likeliest.

    Args:
        overlap: IoU above which two boxes are one place, whatever their classes.
    """
    likely = found.scores >= min_score
    boxes, scores, labels = found.boxes_xyxy_px[likely].float(), found.scores[likely], found.labels[likely]
    kept = nms(boxes, scores.float(), overlap)
    return Detections(boxes[kept], scores[kept], labels[kept])


def cells_inside(boxes_cxcywh: Float[Tensor, "*n 4"], grid: tuple[int, int]) -> Float[Tensor, "*n gh gw"]:
    """1 where the centre of a grid cell lies in the box, else 0; the whole box's nearest cell where none does."""
    height, width = grid
    y = (torch.arange(height, device=boxes_cxcywh.device) + 0.5) / height
    x = (torch.arange(width, device=boxes_cxcywh.device) + 0.5) / width
    cx, cy, w, h = boxes_cxcywh.unbind(-1)
    dx = (x - cx[..., None]).abs() - w[..., None].clamp(min=1 / width) / 2
    dy = (y - cy[..., None]).abs() - h[..., None].clamp(min=1 / height) / 2
    return ((dy[..., :, None] <= 0) & (dx[..., None, :] <= 0)).float()


def paired_iou(a_xyxy_px: Float[Tensor, "n 4"], b_xyxy_px: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Intersection over union of box i of one list with box i of the other."""
    low, high = torch.maximum(a_xyxy_px[:, :2], b_xyxy_px[:, :2]), torch.minimum(a_xyxy_px[:, 2:], b_xyxy_px[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(1) for box in (a_xyxy_px, b_xyxy_px)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-9)
