"""Object detection: COCO's average precision, computed by pycocotools through torchmetrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import box_iou

from genrep.boxes import to_xyxy_px
from genrep.types import UNLABELLED, Batch, Detections


@dataclass(frozen=True)
class AveragePrecision:
    """COCO figures over objects of all sizes, at most 100 detections per image."""

    ap: float
    """Mean over IoU .50:.05:.95 and the classes present; nan where none is."""
    ap50: float
    """Mean over the classes present at IoU .50."""
    per_class_ap: dict[int, float]
    """By class index; classes without a true object are left out."""
    per_class_ap50: dict[int, float]
    precision50: dict[int, list[float]]
    """Precision at IoU .50 and recall 0, .01, ..., 1, by class index."""


def _truth(batch: Batch) -> list[dict[str, Tensor]]:
    size = batch.image.shape[-2:]
    used, crowd = batch.slots != UNLABELLED, (batch.ignored_labels != UNLABELLED).long()
    boxes = to_xyxy_px(batch.boxes_cxcywh, (size[0], size[1]))
    return [{"boxes": b[u], "labels": c[u], "iscrowd": i[u]} for b, c, i, u in zip(boxes, batch.slots, crowd, used, strict=True)]


def _found(detections: Detections) -> dict[str, Tensor]:
    return {"boxes": detections.boxes_xyxy_px.float(), "scores": detections.scores.float(), "labels": detections.labels}


def average_precision(found: list[Detections], truth: Sequence[Batch]) -> AveragePrecision:
    """AP of what was found against the annotated objects; images whose objects are not annotated do not count, nor do detections in what is ignored.

    Args:
        found: one entry per image, in the order of the batches.
    Source: Lin et al. 2014, arXiv:1405.0312.
    Raises:
        ValueError: as many detections as images are needed, and at least one image with annotated objects.
    """
    from torchmetrics.detection import MeanAveragePrecision

    annotated = torch.cat([batch.has_objects for batch in truth]).tolist()
    if len(found) != len(annotated) or not any(annotated):
        raise ValueError(
            f"`found` needs one entry per image, some with annotated objects; found {len(found)} for {sum(annotated)} annotated of {len(annotated)}."
        )
    targets = [target for batch in truth for target in _truth(batch)]
    metric = MeanAveragePrecision(backend="pycocotools", extended_summary=True)
    metric.warn_on_many_detections = False
    metric.update([_found(d) for d, known in zip(found, annotated, strict=True) if known], [t for t, known in zip(targets, annotated, strict=True) if known])
    result = metric.compute()
    classes = result["classes"].reshape(-1).tolist()
    precision = result["precision"][:, :, :, 0, -1].double()  # [iou recall class] over all sizes; -1 where no true object
    present = [i for i in range(len(classes)) if float(precision[0, 0, i]) >= 0]
    return AveragePrecision(
        ap=float(result["map"]) if present else math.nan,
        ap50=float(result["map_50"]) if present else math.nan,
        per_class_ap={classes[i]: float(precision[:, :, i].mean()) for i in present},
        per_class_ap50={classes[i]: float(precision[0, :, i].mean()) for i in present},
        precision50={classes[i]: precision[0, :, i].tolist() for i in present},
    )


def judged(found: Sequence[Detections], truth: Batch, *, iou: float = 0.5) -> tuple[Float[Tensor, " d"], Bool[Tensor, " d"]]:
    """Scores of the detections in annotated images, and which of them are right: the best first, each takes the object of its class that it overlaps most,
    by at least `iou`, and that no better one has taken, as COCO has it. Left out is what else lies, to that share of itself, in something ignored."""
    scores, right = [truth.boxes_cxcywh.new_zeros(0)], [truth.has_objects[:0]]
    for detections, true, known in zip(map(_found, found), _truth(truth), truth.has_objects.tolist(), strict=True):
        if known:
            hits = _right(detections, true, iou)
            counts = hits | ~_ignored(detections, true, iou)
            scores.append(detections["scores"][counts])
            right.append(hits[counts])
    return torch.cat(scores), torch.cat(right)


def _right(found: dict[str, Tensor], true: dict[str, Tensor], least: float) -> Bool[Tensor, " d"]:
    """Which detections of one image are right."""
    right = torch.zeros(len(found["labels"]), dtype=torch.bool)
    if not len(true["labels"]):
        return right
    overlap = box_iou(found["boxes"], true["boxes"]).masked_fill((found["labels"][:, None] != true["labels"]) | (true["iscrowd"] == 1), 0.0)
    for i in found["scores"].argsort(descending=True, stable=True).tolist():
        best, j = overlap[i].max(0)
        if best >= least:
            right[i], overlap[:, j] = True, 0.0
    return right


def _ignored(found: dict[str, Tensor], true: dict[str, Tensor], least: float) -> Bool[Tensor, " d"]:
    """Which detections of one image lie in something ignored of their class, by at least this share of themselves."""
    boxes, others = found["boxes"][:, None], true["boxes"]
    shared = (torch.minimum(boxes[..., 2:], others[:, 2:]) - torch.maximum(boxes[..., :2], others[:, :2])).clamp(min=0).prod(-1)
    inside = shared >= least * (boxes[..., 2:] - boxes[..., :2]).prod(-1).clamp(min=1e-9)
    return (inside & (found["labels"][:, None] == true["labels"]) & (true["iscrowd"] == 1)).any(1)


def score_calibration_error(scores: Float[Tensor, " d"], right: Bool[Tensor, " d"], *, num_bins: int = 15) -> float:
    """Mean of |share that is right - score| over equal-width bins of the score, weighted by count; in [0, 1]. nan without a detection.

    Source: Kueppers et al. 2020, arXiv:2004.13546, without the box, as torchmetrics computes it.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    return float(binary_calibration_error(scores, right.long(), n_bins=num_bins, norm="l1")) if len(scores) else float("nan")
