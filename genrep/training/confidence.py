"""How sure a finished model's heads may be: fitted on validation images, since a head that learnt a few labels by heart is surer than it should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genrep.layers import precise
from genrep.metrics.detection import judged
from genrep.model import GenRep
from genrep.posteriors.calibration import minimised, positive
from genrep.processes import agreed
from genrep.tasks import run_tasks
from genrep.tasks.confidence import LEAST_DOUBT, Confidence
from genrep.tasks.detection import Detection
from genrep.training.best import FIGURES
from genrep.types import UNLABELLED, Batch, Perception

LEAST = 2
"""Fewer annotated images, or detections in them, say nothing."""


def fit_classes(log_probs: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Confidence:
    """The slope that gives the labels the highest probability.

    Args:
        log_probs: of a head, nats, of images that it was not trained on.
        labels: true classes, 0 to k - 1.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    log_probs = precise(log_probs)
    theta = minimised(lambda theta: positive(theta[0]) * log_probs, labels, log_probs.new_zeros(1))
    return Confidence(slope=float(positive(theta[0])))


def fit_scores(scores: Float[Tensor, " d"], right: Bool[Tensor, " d"]) -> Confidence:
    """Slope and offset that make scores the probability to be right: a logistic regression whose slope is positive, so that the order stays.

    Args:
        scores: 0 to 1.
        right: whether what they are of is there.
    Source: Platt 1999, Probabilistic outputs for support vector machines.
    """
    logits = torch.logit(precise(scores), eps=LEAST_DOUBT)

    def of_right(theta: Tensor) -> Tensor:
        likely = positive(theta[0]) * logits + theta[1]
        return torch.stack([torch.zeros_like(likely), likely], 1)

    theta = minimised(of_right, right.long(), logits.new_zeros(2))
    return Confidence(slope=float(positive(theta[0])), offset=float(theta[1]))


def _classification(seen: Perception, val: Batch) -> tuple[Confidence, int]:
    assert seen.class_log_probs is not None
    known = val.label != UNLABELLED
    return fit_classes(seen.class_log_probs[known], val.label[known]), int(known.sum())


def _multilabel(seen: Perception, val: Batch) -> tuple[Confidence, int]:
    assert seen.presence is not None
    present, known = val.class_sets
    return fit_scores(seen.presence[known].flatten(), present[known].flatten()), int(known.sum())


def _detection(seen: Perception, val: Batch) -> tuple[Confidence, int]:
    assert seen.detections is not None
    scores, right = judged(seen.detections, val)
    return (fit_scores(scores, right) if len(scores) >= LEAST else Confidence()), len(scores)


FITS: Mapping[str, Callable[[Perception, Batch], tuple[Confidence, int]]] = {
    "classification": _classification,
    "multilabel": _multilabel,
    "detection": _detection,
}
"""By task: the fit, with the number of images or detections behind it."""


def as_in_training(model: GenRep) -> None:
    """Forget how sure the heads may be: while they learn they are as sure as they are."""
    for _, head in model.tasks():
        head.confidence = Confidence()


@torch.no_grad()
def objects_told(model: GenRep, val: Batch, *, batch_size: int = 64) -> tuple[Float[Tensor, "m k"], Int[Tensor, " m"]]:
    """log-probabilities (nats) that detection gives the classes of annotated objects, and their classes, on the CPU."""
    told, labels = [], []
    for rows in torch.arange(len(val)).split(batch_size):
        batch = val.rows(rows).to(model.device)
        exists = batch.object_labels != UNLABELLED
        for _, head, output in run_tasks(model.tasks(), model.clean_features(model.encode(batch.image))):
            if isinstance(head, Detection):
                told.append(head.object_logits(output, batch)[exists].log_softmax(-1).cpu())
                labels.append(batch.object_labels[exists].cpu())
    return torch.cat(told), torch.cat(labels)


def fit_confidence(model: GenRep, val: Batch) -> list[dict[str, Any]]:
    """Give the heads of a trained model the confidence that validation images leave them.

    Args:
        val: images, of which those count that are annotated for the task.
    Returns:
        one event per head that there is something to fit for; the others are as sure as they are.
    """
    as_in_training(model)
    heads = dict(model.tasks())
    tasks = [task for task in FITS if task in heads and int(FIGURES[task][0](val).sum()) >= LEAST]
    if "detection" in tasks:
        told, labels = objects_told(model, val)
        heads["detection"].confidence = Confidence(of_object=agreed(fit_classes(told, labels).slope) if len(labels) >= LEAST else 1.0)
    seen, judges, events = model.perceive(val.image) if tasks else None, val.to("cpu"), []
    for task in tasks:
        assert seen is not None
        found, num = FITS[task](seen, judges)
        found = replace(heads[task].confidence, slope=agreed(found.slope), offset=agreed(found.offset))
        heads[task].confidence = found
        events.append({"event": "confidence", "task": task, **found.to_dict(), "num": num})
    return events
