"""What perception is taught beside annotations, and what a head loses by it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genrep.processes import total
from genrep.tasks import ObjectTargets, Task
from genrep.types import Batch


@dataclass(frozen=True)
class Located:
    """Images of which nothing was known, with the objects that the teacher finds in them: places for what lessons say of objects, and nothing else."""

    batch: Batch
    """All images, these as the teacher sees them."""
    rows: Bool[Tensor, " b"]
    """Which these are."""


@dataclass(frozen=True)
class Lessons:
    """What perception is taught in a step beside annotations: targets without gradient."""

    image_rows: Int[Tensor, " r"]
    image_probs: Float[Tensor, "r k"]
    objects: tuple[ObjectTargets, ...]
    located: Located | None = None

    @cached_property
    def num(self) -> list[Tensor]:
        """How many are taught in all processes: images, then objects of each kind."""
        return list(total(torch.tensor([len(self.image_rows), *(len(targets.row) for targets in self.objects)], device=self.image_rows.device)))


def distillation(head: Task[Any, Any], output: Any, batch: Batch, lessons: Lessons) -> Tensor:
    """KL(p || q) of one head, mean over what is taught.

    Args:
        batch: in which the objects are that lessons speak of.
    """
    taught = [head.distil_image(output, lessons.image_rows, lessons.image_probs)]
    taught += [head.distil_objects(output, batch, targets) for targets in lessons.objects]
    parts = [of_one.sum() / num.clamp(min=1) for of_one, num in zip(taught, lessons.num, strict=True) if of_one is not None]
    return sum(parts, batch.image.new_zeros(()))
