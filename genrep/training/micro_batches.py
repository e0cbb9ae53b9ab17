"""A step on a part of its images at a time: less memory, the same gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from genrep.lessons import Lessons, Located
from genrep.model import GenRep
from genrep.processes import counted_by, total
from genrep.tasks import ObjectTargets
from genrep.training.graphs import Loss, Losses
from genrep.training.step_losses import StepLosses, Terms

P = ParamSpec("P")
Found = TypeVar("Found")


class MicroBatches:
    """The losses of a step in `num` parts, each its part of a mean over all images, so that gradients add up to that of the whole.

    What a mean divides by (annotated images, matched boxes) is counted over all parts first. As matches are known only after a pass of
    the network, perception's are made once more for that, without gradients.

    Args:
        model: which is trained.
        whole: of all images.
    Deviates: usual gradient accumulation averages the parts' own means, which is another loss where labels or boxes are uneven.
    """

    def __init__(self, model: GenRep, whole: StepLosses, num: int) -> None:
        self._model, self._whole = model, whole
        self._each = [whole] if num == 1 else [_some(whole, i, num) for i in range(num)]
        self._sums: dict[str, list[Tensor]] = {}

    def separate(self) -> dict[str, list[Loss[GenRep]]]:
        """All parts of each loss, each with a pass of the trunk."""
        return {job: [*self._of(job), *self._glimpses(job)] for job in self._whole.jobs}

    def together(self) -> tuple[dict[str, list[Loss[GenRep]]], list[Losses[GenRep]]]:
        """What each loss has for itself, and what all of them do in one pass of the trunk."""
        return {job: self._glimpses(job) for job in self._whole.jobs}, [self._told(self._whole.jobs, losses.all) for losses in self._each]

    def count(self) -> None:
        """What the means of all parts, in all processes, divide by; and what is taught, before several ask at once."""
        perceiving = [job for job in self._whole.jobs if job != "generation"]
        if perceiving and (len(self._each) > 1 or len(perceiving) > 1):
            self._whole.lessons()
        if len(self._each) == 1:
            return
        with torch.no_grad():
            self._sums = {job: self._added_up([losses.separate()[job] for losses in self._each]) for job in perceiving}
            for job in self._whole.glimpsing:
                self._sums[f"{job}, glimpsed"] = self._added_up([partial(losses.glimpsed, job) for losses in self._each])

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Without gradients, half precision and record."""
        with ExitStack() as stack:
            for losses in self._each:
                stack.enter_context(losses.measuring())
            self.count()
            yield

    @property
    def terms(self) -> Terms:
        """All that has been computed, for the record."""
        return {name: torch.stack([losses.terms[name] for losses in self._each]).sum(0) for name in self._each[0].terms}

    def _of(self, job: str) -> list[Loss[GenRep]]:
        return [self._told([job], losses.separate()[job]) for losses in self._each]

    def _glimpses(self, job: str) -> list[Loss[GenRep]]:
        return [self._told([f"{job}, glimpsed"], partial(losses.glimpsed, job)) for losses in self._each if job in losses.glimpsing]

    def _added_up(self, parts: Sequence[Loss[GenRep]]) -> list[Tensor]:
        """What the parts count, in the order in which each of them does."""
        counted = []
        for part in parts:
            found: list[Tensor] = []
            with counted_by(partial(_noted, found)):
                part(self._model)
            counted.append(found)
        return [total(torch.stack(each).sum(0)) for each in zip(*counted, strict=True)]

    def _told(self, whose: Sequence[str], part: Callable[P, Found]) -> Callable[P, Found]:
        """A part of some losses that is told the sums, where it would have counted."""
        if len(self._each) == 1:
            return part

        def told(*args: P.args, **options: P.kwargs) -> Found:
            sums = chain.from_iterable(self._sums.get(job, ()) for job in whose)
            with counted_by(lambda _: next(sums)):
                return part(*args, **options)

        return told


def _noted(found: list[Tensor], value: Tensor) -> Tensor:
    found.append(value)
    return value


def _some(whole: StepLosses, i: int, num: int) -> StepLosses:
    """The losses on one of `num` parts of their images; parts differ by one image at the most."""
    rows, glimpsed = (slice(size * i // num, size * (i + 1) // num) for size in (len(whole.drawn.batch), len(whole.seen.batch) if whole.seen else 0))
    seen = whole.seen and whole.seen.rows(glimpsed)
    return replace(whole, drawn=whole.drawn.rows(rows), seen=seen, teach=partial(_taught, whole, rows), found={})


def _taught(whole: StepLosses, rows: slice) -> Lessons | None:
    """What is taught of some of the images."""
    lessons = whole.teach()
    if lessons is None:
        return None
    here = _within(lessons.image_rows, rows)
    objects = tuple(_targets(targets, rows) for targets in lessons.objects)
    located = lessons.located and Located(lessons.located.batch.rows(rows), lessons.located.rows[rows])
    return Lessons(lessons.image_rows[here] - rows.start, lessons.image_probs[here], objects, located)


def _targets(targets: ObjectTargets, rows: slice) -> ObjectTargets:
    here = _within(targets.row, rows)
    return ObjectTargets(targets.row[here] - rows.start, targets.slot[here], targets.candidates[here], targets.probs[here])


def _within(row: Tensor, rows: slice) -> Tensor:
    return (row >= rows.start) & (row < rows.stop)
