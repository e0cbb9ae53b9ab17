"""The teacher as it was when it saw validation images best; kept beside the last one, and as much part of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from genrep.config import TrainConfig
from genrep.layers import precise
from genrep.metrics.classification import top1
from genrep.metrics.depth import depth_errors, fitted, right_order
from genrep.metrics.detection import average_precision
from genrep.metrics.multilabel import mean_average_precision
from genrep.metrics.segmentation import pixel_confusion, segmentation
from genrep.model import GenRep
from genrep.processes import agreed
from genrep.types import IGNORE, UNLABELLED, Batch, Perception


def _classification(seen: Perception, val: Batch, model: GenRep) -> float:
    """Top-1 of images with one label."""
    del model
    known = val.label != UNLABELLED
    return top1(_there(seen.class_log_probs)[known], val.label[known]).value


def _multilabel(seen: Perception, val: Batch, model: GenRep) -> float:
    """Mean over classes of average precision."""
    del model
    present, known = val.class_sets
    return mean_average_precision(_there(seen.presence)[known].float(), present[known])


def _detection(seen: Perception, val: Batch, model: GenRep) -> float:
    """AP, mean over IoU .50:.05:.95."""
    del model
    return average_precision(_there(seen.detections), [val]).ap


def _segmentation(seen: Perception, val: Batch, model: GenRep) -> float:
    """Mean IoU, background included."""
    return segmentation(pixel_confusion(_there(seen.semantic_mask), val.semantic_mask, num_values=model.denoiser.num_classes + 1)).miou


def _depth(seen: Perception, val: Batch, model: GenRep) -> float:
    """Share of pixels within 25 %; of relative depth, of touching objects in the right order, or where none touch, of pixels once a line was laid through the
    truth."""
    found, known = _there(seen.inv_depth), _has_depth(val)
    if model.config.depth == "metric":
        return float(depth_errors(found, val.inv_depth).delta1.mean())
    ordered = right_order(found[known], val.instance_mask[known])
    return float(precise(ordered).mean() if len(ordered) else depth_errors(fitted(found, val.inv_depth), val.inv_depth).delta1.mean())


def _has_depth(val: Batch) -> Tensor:
    return val.inv_depth.isfinite().flatten(1).any(1)


def _there(found: Any) -> Any:
    assert found is not None, "the model has the head"
    return found


FIGURES: Mapping[str, tuple[Callable[[Batch], Tensor], Callable[[Perception, Batch, GenRep], float]]] = {
    "classification": (lambda val: val.label != UNLABELLED, _classification),
    "multilabel": (lambda val: val.class_sets[1], _multilabel),
    "detection": (lambda val: val.has_objects, _detection),
    "segmentation": (lambda val: val.semantic_mask != IGNORE, _segmentation),
    "depth": (_has_depth, _depth),
}
"""By task: where images are annotated for it, and its figure, from 0 to 1."""


def measured(model: GenRep, val: Batch, tasks: Sequence[str]) -> dict[str, float]:
    """The figure of each of these tasks; of several processes, what the first one finds."""
    seen = model.perceive(val.image)
    found = {task: agreed(FIGURES[task][1](seen, val, model)) for task in tasks}
    return {task: value for task, value in found.items() if math.isfinite(value)}


@dataclass
class Best:
    """The best teacher so far.

    Args:
        config: `best_by`, the figure that decides (None: none is kept), and how often it is looked at.
    """

    config: TrainConfig
    step: int = 0
    """Of the run; 0: there is none."""
    score: float = 0.0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Its state, on the CPU."""
    tasks: tuple[str, ...] = ()
    """Those that decide; none: nothing is looked at."""

    def settle(self, tasks: Sequence[str], val: Batch) -> list[str]:
        """Find out which tasks decide: those of `tasks` that validation images are annotated for, or the one that is named.

        Returns:
            a line where a best model was asked for and there can be none.
        Raises:
            ValueError: one task is named, and it cannot decide.
        """
        by, known = self.config.best_by, [task for task in tasks if task in FIGURES and bool(FIGURES[task][0](val).any())]
        if by not in (None, "mean", *known):
            raise ValueError(f"`train.best_by` is {by}; this run can be judged by {', '.join(known) or 'nothing'}. Name one of these, `mean`, or none.")
        self.tasks = () if by is None else tuple(known) if by == "mean" else (by,)
        return [] if self.tasks or by is None else ["no best model is kept: no validation image is annotated for what the run learns"]

    def is_due(self, step: int, num_steps: int) -> bool:
        """Whether to look after so many steps of a stage: as often as `validations` says, evenly, and at its end."""
        num = self.config.validations
        return bool(self.tasks) and step in {math.ceil(num_steps * part / num) for part in range(1, num + 1)}

    def look(self, teacher: GenRep, val: Batch, step: int) -> dict[str, Any]:
        """Measure, and keep the teacher if it is better than all before.

        Returns:
            the event: the figure of each task, and whether this is the best.
        """
        figures = measured(teacher, val, self.tasks)
        score = sum(figures.values()) / max(1, len(figures))
        if is_best := not self.step or score > self.score:
            self.step, self.score = step, score
            self.tensors = {name: value.detach().to("cpu", copy=True) for name, value in teacher.state_dict().items()}
        return {"event": "validation", "step": step, **figures, "is_best": is_best}

    def to_dict(self) -> dict[str, Any]:
        """Where it stands, without the tensors, as plain json values."""
        return {"step": self.step, "score": self.score}
