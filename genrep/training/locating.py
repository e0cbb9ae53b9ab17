"""Where the teacher finds objects in images without annotations, and of which of them it is sure."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from genrep.datasets.base import class_counts, painted
from genrep.lessons import Located
from genrep.tasks import ObjectTargets
from genrep.types import IGNORE, UNLABELLED, Batch, SeenObjects


def locate(batch: Batch, rows: Int[Tensor, " m"], objects: SeenObjects) -> tuple[Located, ObjectTargets]:
    """The batch, in which what is seen in some images stands as their annotations, and the classes that are sure.

    An image in which nothing is seen, or more than a batch has slots for, stays as it is, as does one of which a mask, a depth or some object is known.

    Args:
        rows: which images were looked at.
    """
    num, slots, num_classes = (objects.labels != UNLABELLED).sum(1), batch.object_labels.shape[1], batch.classes.shape[1]
    known = (batch.semantic_mask[rows] != IGNORE) | batch.inv_depth[rows].isfinite()
    fits = (num > 0) & (num <= slots) & ~known.flatten(1).any(1) & (batch.slots[rows] == UNLABELLED).all(1)
    rows, found = rows[fits], SeenObjects(*(getattr(objects, each.name)[fits] for each in fields(SeenObjects)))
    labels = _slots(found.labels, slots, UNLABELLED)
    told = {
        "classes": class_counts(batch.label[rows], labels, num_classes),
        "object_labels": labels,
        "boxes_cxcywh": _slots(found.boxes_cxcywh, slots, 0.0),
        "has_objects": torch.ones_like(rows, dtype=torch.bool),
        "instance_mask": found.instance_mask,
        "semantic_mask": painted(found.instance_mask, labels, num_classes),
    }
    seen = replace(batch, **{name: (old := getattr(batch, name)).index_copy(0, rows, new.to(old)) for name, new in told.items()})
    row, slot = torch.nonzero(_slots(found.sure, slots, False), as_tuple=True)
    every = torch.arange(num_classes, device=rows.device).expand(len(row), -1)
    sure = ObjectTargets(rows[row], slot, every, F.one_hot(labels[row, slot], num_classes).to(batch.classes))
    return Located(seen, torch.zeros_like(batch.has_objects).index_fill(0, rows, True)), sure


def _slots(values: Tensor, num: int, empty: float) -> Tensor:
    """The first `num` of an image's objects, of which some may be missing."""
    values = values[:, :num]
    return torch.cat([values, values.new_full((len(values), num - values.shape[1], *values.shape[2:]), empty)], 1)
