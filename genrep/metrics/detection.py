"""Object detection: COCO's average precision, computed by pycocotools through torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genrep.boxes import to_xyxy_px
from genrep.types import UNLABELLED, Batch, Detections


@dataclass(frozen=True)
class AveragePrecision:
    """COCO figures over objects of all sizes, at most 100 detections per image."""

    ap: float
    """Mean over IoU .50:.05:.95 and the classes present."""
    ap50: float
    """Mean over the classes present at IoU .50."""
    per_class_ap: dict[int, float]
    """By class index; classes without a true object are left out."""
    per_class_ap50: dict[int, float]
    precision50: dict[int, list[float]]
    """Precision at IoU .50 and recall 0, .01, ..., 1, by class index."""


def _truth(batch: Batch) -> list[dict[str, Tensor]]:
    size = batch.image.shape[-2:]
    used = batch.object_labels != UNLABELLED
    boxes = to_xyxy_px(batch.boxes_cxcywh, (size[0], size[1]))
    return [{"boxes": b[u], "labels": c[u]} for b, c, u in zip(boxes, batch.object_labels, used, strict=True)]


def _found(detections: Detections) -> dict[str, Tensor]:
    return {"boxes": detections.boxes_xyxy_px.float(), "scores": detections.scores.float(), "labels": detections.labels}


def average_precision(found: list[Detections], truth: Sequence[Batch]) -> AveragePrecision:
    """AP of what was found against the annotated objects; images whose objects are not annotated do not count.

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
        ap=float(result["map"]),
        ap50=float(result["map_50"]),
        per_class_ap={classes[i]: float(precision[:, :, i].mean()) for i in present},
        per_class_ap50={classes[i]: float(precision[0, :, i].mean()) for i in present},
        precision50={classes[i]: precision[0, :, i].tolist() for i in present},
    )
