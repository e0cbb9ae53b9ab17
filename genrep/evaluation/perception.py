"""What the model sees in test images, as figures and as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.boxes import one_per_place
from genrep.datasets.base import ArrayDataset
from genrep.metrics.base import bootstrap, bootstrap_mean, wilson
from genrep.metrics.classification import confidence_auroc, confusion_matrix, expected_calibration_error, negative_log_likelihood, reliability, top1
from genrep.metrics.depth import depth_errors, fitted, right_order
from genrep.metrics.detection import average_precision, judged, score_calibration_error
from genrep.metrics.multilabel import average_precisions, mean_average_precision, set_f1
from genrep.metrics.segmentation import pixel_confusion, segmentation
from genrep.model import GenRep
from genrep.processes import gathered, part, together
from genrep.types import IGNORE, UNLABELLED, Batch, Detections, Perception

Figures = dict[str, float]
Tables = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """Figures for eval.json, tables for eval_details.json, and a line for each thing that could not be measured."""

    figures: Figures = field(default_factory=dict)
    tables: Tables = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """Test images of one set and what the model sees in them."""

    name: str
    truth: Batch
    perception: Perception
    layered: bool = False
    """Whether its depth is the order of its objects."""
    relative: bool = False
    """Whether depth is seen without scale and origin."""

    def first(self, num: int) -> Seen:
        """The first `num` images, or all of fewer."""
        each = {of.name: getattr(self.perception, of.name) for of in fields(self.perception)}
        perception = Perception(**{name: None if found is None else found[:num] for name, found in each.items()})
        return replace(self, truth=self.truth.rows(slice(num)), perception=perception)


def see(model: GenRep, dataset: ArrayDataset, *, batch_size: int = 250) -> Seen:
    """Every image of a set through the heads; each process looks at its part of them, and knows all."""
    truth = dataset.batch(torch.arange(len(dataset)))
    seen = look(model, truth.image, batch_size=batch_size)
    return Seen(dataset.name, truth, seen, layered=dataset.layered, relative=model.config.depth == "relative")


def look(model: GenRep, image: Float[Tensor, "b 3 h w"], *, batch_size: int = 250) -> Perception:
    """What the heads see in images, of which each process looks at its part."""
    mine = model.perceive(image[part(len(image))], batch_size=batch_size)
    return of_all(mine) if together() else mine


def of_all(mine: Perception) -> Perception:
    """What all processes saw, each in its own images, in their order."""
    maps = (mine.class_log_probs, mine.semantic_mask, mine.inv_depth, mine.presence)
    log_probs, mask, depth, presence = (None if values is None else gathered(values) for values in maps)
    return Perception(log_probs, None if mine.detections is None else _objects_of_all(mine.detections), mask, depth, presence)


def _objects_of_all(mine: list[Detections]) -> list[Detections]:
    counts = gathered(torch.tensor([len(found.scores) for found in mine])).tolist()
    boxes, scores, labels = (gathered(torch.cat([getattr(found, name) for found in mine])).split(counts) for name in ("boxes_xyxy_px", "scores", "labels"))
    return [Detections(*found) for found in zip(boxes, scores, labels, strict=True)]


def measure_classification(seen: Seen, class_names: Sequence[str]) -> Measured:
    """Top-1 with its interval, calibration error, likelihood, how well confidence tells right from wrong; accuracy by class, confusion, reliability bins."""
    if len(class_names) < 2:
        return Measured(notes=[f"classification on {seen.name}: not measured, there is one class only."])
    known = seen.truth.label != UNLABELLED
    if seen.perception.class_log_probs is None or not bool(known.any()):
        return Measured(notes=[_missing("classification", seen, seen.perception.class_log_probs is None, "labels of single images")])
    log_probs, labels = seen.perception.class_log_probs[known].float(), seen.truth.label[known]
    figures = top1(log_probs, labels).named("top1") | {
        "ece": expected_calibration_error(log_probs, labels),
        "nll": negative_log_likelihood(log_probs, labels),
        "auroc": confidence_auroc(log_probs, labels),
    }
    confusion = confusion_matrix(log_probs.argmax(1), labels, num_classes=len(class_names))
    tables = {
        "set": seen.name,
        "n": len(labels),
        "confusion": confusion.tolist(),
        "per_class": {name: accuracy_of_row(confusion, k) for k, name in enumerate(class_names)},
        "reliability": asdict(reliability(log_probs, labels)),
    }
    return Measured(_finite(figures), tables)


def accuracy_of_row(confusion: Tensor, row: int) -> dict[str, float] | None:
    """Share of a label's images that were recognised, with its interval; None without such images."""
    num = int(confusion[row].sum())
    return wilson(int(confusion[row, row]), num).named("accuracy") if num else None


def measure_multilabel(seen: Seen, class_names: Sequence[str]) -> Measured:
    """Mean average precision over classes with its interval, F1 of the class sets, calibration error over all classes; AP by class.

    In sets of images of one class each it asks nothing that classification does not.
    """
    present, known = seen.truth.class_sets
    present, probs = present[known], seen.perception.presence
    if probs is None or not bool((present.sum(1) != 1).any()):
        return Measured(notes=[_missing("multilabel", seen, probs is None, "images of several classes")])
    probs = probs[known].float()
    figures = bootstrap(lambda rows: mean_average_precision(probs[rows], present[rows]), len(probs), num_resamples=200).named("map")
    figures |= bootstrap_mean(set_f1(probs > 0.5, present)).named("f1")
    figures["ece"] = score_calibration_error(probs.flatten(), present.flatten())
    per_class = dict(zip(class_names, average_precisions(probs, present).tolist(), strict=True))
    tables = {"set": seen.name, "n": len(probs), "per_class": {name: {"ap": ap} for name, ap in per_class.items() if math.isfinite(ap)}}
    return Measured(_finite(figures), tables)


def measure_detection(seen: Seen, class_names: Sequence[str]) -> Measured:
    """COCO AP and AP50, over all classes and by class, and precision at each recall; how far scores are from the share that is right (IoU .5)."""
    if seen.perception.detections is None or not bool(seen.truth.has_objects.any()):
        return Measured(notes=[_missing("detection", seen, seen.perception.detections is None, "annotated objects")])
    found = average_precision(seen.perception.detections, [seen.truth])
    per_class = {class_names[k]: {"ap": ap, "ap50": found.per_class_ap50[k]} for k, ap in found.per_class_ap.items()}
    curves = {class_names[k]: curve for k, curve in found.precision50.items()}
    tables = {"set": seen.name, "n": int(seen.truth.has_objects.sum()), "per_class": per_class, "precision50": curves}
    ece = score_calibration_error(*judged(seen.perception.detections, seen.truth))
    figures = {"ap": found.ap, "ap50": found.ap50, "ece": ece}
    return Measured(_finite(figures), tables)


def measure_segmentation(seen: Seen, class_names: Sequence[str]) -> Measured:
    """Mean IoU with and without background, IoU by class."""
    labelled = (seen.truth.semantic_mask != IGNORE).flatten(1).any(1)
    if seen.perception.semantic_mask is None or not bool(labelled.any()):
        return Measured(notes=[_missing("segmentation", seen, seen.perception.semantic_mask is None, "masks")])
    found = segmentation(pixel_confusion(seen.perception.semantic_mask, seen.truth.semantic_mask, num_values=len(class_names) + 1))
    tables = {"set": seen.name, "n": int(labelled.sum()), "per_class": dict(zip(("background", *class_names), found.per_value, strict=True))}
    figures = {"miou": found.miou, "miou_foreground": found.miou_foreground}
    return Measured(_finite(figures), tables)


def measure_depth(seen: Seen, class_names: Sequence[str]) -> Measured:
    """Of layered objects which of two that touch is nearer; of measured depth the usual errors, in the pixels of the model's images, of relative depth once a
    line was laid through the truth."""
    del class_names
    found, truth = seen.perception.inv_depth, seen.truth
    known = truth.inv_depth.isfinite().flatten(1).any(1)
    if found is None or not bool(known.any()):
        return Measured(notes=[_missing("depth", seen, found is None, "depth")])
    if not seen.layered:
        errors = depth_errors(fitted(found, truth.inv_depth) if seen.relative else found, truth.inv_depth)
        figures = {key: value for name, of in vars(errors).items() for key, value in bootstrap_mean(of).named(name).items()}
        return Measured(figures, {"set": seen.name, "n": int(known.sum())})
    right = right_order(found[known], truth.instance_mask[known])
    if not len(right):
        return Measured(notes=[f"depth on {seen.name}: not measured, no two objects touch."])
    return Measured(wilson(int(right.sum()), len(right)).named("order"), {"set": seen.name, "n": int(known.sum()), "pairs": len(right)})


MEASURES = {
    "classification": measure_classification,
    "multilabel": measure_multilabel,
    "detection": measure_detection,
    "segmentation": measure_segmentation,
    "depth": measure_depth,
}
"""What is measured, by task."""


def _finite(figures: Figures) -> Figures:
    """Without those of nothing: of no object, or of no class."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _missing(task: str, seen: Seen, no_head: bool, annotation: str) -> str:
    return f"{task} on {seen.name}: not measured, " + ("the model has no such head." if no_head else f"the set has no {annotation}.")


def agreement(seen: Seen) -> Tensor:
    """How well each image's mask was seen: correct pixels / pixels that are an object in truth or prediction, [b]; 1 without any; nan: no mask is known."""
    assert seen.perception.semantic_mask is not None
    truth, found = seen.truth.semantic_mask, seen.perception.semantic_mask
    objects = ((truth > 0) | (found > 0)) & (truth != IGNORE)
    right = (objects & (truth == found)).flatten(1).sum(1)
    total = objects.flatten(1).sum(1)
    known = (truth != IGNORE).flatten(1).any(1)
    return torch.where(total > 0, right / total.clamp(min=1), torch.where(known, 1.0, torch.nan))


def box_agreement(seen: Seen, *, min_score: float) -> Tensor:
    """How well each image's objects were seen: F1 of the best class of each place above a score, at IoU .5, [b]; 1 where none are and none is seen; nan: not
    annotated."""
    assert seen.perception.detections is not None
    found = [one_per_place(detections, min_score) for detections in seen.perception.detections]
    num_true = (seen.truth.object_labels != UNLABELLED).sum(1)
    num_right = torch.tensor([int(judged([one], seen.truth.rows(torch.tensor([i])))[1].sum()) for i, one in enumerate(found)])
    total = num_true + torch.tensor([len(one.scores) for one in found])
    return torch.where(seen.truth.has_objects, torch.where(total > 0, 2 * num_right / total.clamp(min=1), 1.0), torch.nan)
