"""What generation knows of the objects of scenes: whether their classes' likelihoods name them, and where several objects are alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure, plain
from genrep.metrics.base import bootstrap
from genrep.model import GenRep
from genrep.posteriors import DenoisingGap
from genrep.posteriors.calibration import fit_object_calibration
from genrep.training.distillation import cross_fitted
from genrep.training.object_likelihoods import object_log_likelihoods, object_scores
from genrep.types import Batch

BUDGET, BATCH = 8, 10
"""Evaluations per class of an object's posterior; scenes at a time."""

Right = Bool[Tensor, " r"]


def object_figures(model: GenRep, test: ArrayDataset, *, num: int, progress: Callable[[str], None]) -> list[Figure]:
    """How many objects their posterior and the detection head know, each at its true place and with the rest of its image as it is.

    All classes are candidates. The posterior is calibrated by the labels of one half of the images and measured on the other, both ways.

    Args:
        test: images of several objects, of which the first `num` are used; at least two of them, so that there are two halves.
    Returns:
        accuracies, 0 to 1, of the posterior and the head: of all objects and, where there are any, of those whose class another object of their image has.
    Source: the likelihood of an object's pixels with its class replaced (`posteriors/objects.py`).
    """
    progress("trained model: objects of scenes")
    batch = test.batch(torch.arange(num))
    scene, alike, posterior, head = _known(model, batch)
    how = f"{len(scene)} objects of {num} test images at their true places, {BUDGET} evaluations per class, interval over images; calibrated on the other half"
    kinds = {"objects": torch.ones_like(alike), "objects alike to another of their image": alike}
    return [
        plain(f"{kind}: accuracy of the {name}", bootstrap(_share(right, which, scene, num), num), "0 to 1", f"{how}; {int(which.sum())} of them")
        for kind, which in kinds.items()
        if bool(which.any())
        for name, right in (("posterior", posterior), ("head", head))
    ]


@torch.no_grad()
def _known(model: GenRep, batch: Batch) -> tuple[Int[Tensor, " r"], Right, Right, Right]:
    """Each object's image; whether another of its image is of its class; whether the posterior and the head name it rightly."""
    parts = list(_likelihoods(model, batch))
    row, slot, truth, candidates, area, log_lik, scores = (torch.cat([part[i].cpu() for part in parts]) for i in range(7))
    same = (batch.object_labels[row] == batch.object_labels[row, slot][:, None]).sum(1) > 1
    _, log_posterior = cross_fitted(
        row,
        len(batch),
        lambda rows: fit_object_calibration(log_lik[rows], truth[rows], area=area[rows], classes=candidates[rows], num_classes=scores.shape[1]),
        lambda found, rows: found.log_posterior(log_lik[rows], area[rows], candidates[rows]),
    )
    return row, same, log_posterior.argmax(1) == truth, scores.argmax(1) == batch.object_labels[row, slot]


def _likelihoods(model: GenRep, batch: Batch) -> Iterator[tuple[Tensor, ...]]:
    for start in range(0, len(batch), BATCH):
        some = batch.rows(slice(start, start + BATCH)).to(model.device)
        scores = object_scores(model, some)
        estimator, num = DenoisingGap(budget=BUDGET), scores.shape[2]
        found = object_log_likelihoods(model, some, scores, estimator=estimator, index=some.index, seed=0, num_candidates=num)
        yield found.row + start, found.slot, found.truth, found.candidates, found.area, found.log_lik, scores[found.row, found.slot]


def _share(right: Right, which: Right, scene: Int[Tensor, " r"], num: int) -> Callable[[Int[Tensor, " n"]], float]:
    """The share of some objects that are right, by images: objects of one image are not drawn apart."""
    hits, all_of = (torch.zeros(num, dtype=torch.float64).index_add_(0, scene, values.double()) for values in (right & which, which))

    def share(rows: Int[Tensor, " n"]) -> float:
        return float(hits[rows].sum() / all_of[rows].sum().clamp(min=1))

    return share
