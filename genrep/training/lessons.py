"""Generation -> perception, step by step: what the heads are taught of the images of a batch, where a gate is open."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genrep.objective import Lessons
from genrep.posteriors import DenoisingGap
from genrep.posteriors.gate import Gate
from genrep.posteriors.placebos import PLACEBOS
from genrep.processes import first_rows, gathered
from genrep.randomness import SampleGenerator
from genrep.tasks.base import ObjectTargets
from genrep.training.distillation import Teacher, object_scores, shortlisted
from genrep.types import IGNORE, UNLABELLED, Batch

SURE = 0.9
"""Where only the number of objects is asked for, any confidence will do."""


class Memory(nn.Module):
    """Posteriors of images, each for as many further visits as it keeps: what a lesson found once serves again at no cost.

    Args:
        num_images: of the training stream.
        visits: how often a posterior serves after it was found; 0: never.
    """

    probs: Tensor
    left: Tensor

    def __init__(self, num_images: int, num_classes: int, *, visits: int) -> None:
        super().__init__()
        self.visits = visits
        num = num_images if visits else 0
        self.register_buffer("probs", torch.zeros(num, num_classes, dtype=torch.float16))
        self.register_buffer("left", torch.zeros(num, dtype=torch.uint8))

    def recall(self, which: Int[Tensor, " b"]) -> tuple[Bool[Tensor, " b"], Float[Tensor, "b k"]]:
        """Which of the images have a posterior, and it, zeros where there is none; this visit counts, as do the other processes' images'."""
        if not self.visits:
            return torch.zeros_like(which, dtype=torch.bool), self.probs.new_zeros(len(which), self.probs.shape[1]).float()
        known, everyone = self.left[which] > 0, gathered(which)
        self.left[everyone[self.left[everyone] > 0]] -= 1
        return known, self.probs[which].float() * known[:, None]

    def keep(self, which: Int[Tensor, " r"], probs: Float[Tensor, "r k"]) -> None:
        """The posteriors of these images, just found, and of what the other processes have found."""
        if self.visits:
            everyone = gathered(which)
            self.probs[everyone], self.left[everyone] = gathered(probs.to(self.probs.dtype)), self.visits


@torch.no_grad()
def give_lessons(
    teacher: Teacher,
    batch: Batch,
    positions: Int[Tensor, " b"],
    *,
    num: int | None = None,
    memory: Memory | None = None,
    which: Int[Tensor, " b"] | None = None,
) -> Lessons | None:
    """Targets for `num` of the images of all processes (default: what the configuration says), of either kind, and for those that are remembered.

    Images of one object are taught by their posterior, whether they are annotated or not; objects among others where they are annotated.

    Args:
        num: 0: nothing new is found.
        memory: of the posteriors of images.
        which: the images' places in it.
    Returns:
        None while no gate is open, which then costs nothing, and where nobody can be taught.
    """
    config, state = teacher.config, teacher.teaching
    num = config.distil_images if num is None else num
    if config.lesson == "own":
        return _own(teacher, batch, num) if num else None
    if state.image_weight <= 0 and state.object_weight <= 0:
        return None
    rows, probs = positions.new_zeros(0), batch.classes[:0]
    objects: list[tuple[ObjectTargets, float]] = []
    if state.image_weight > 0 and state.calibration:
        rows, probs = _images(teacher, batch, positions, num, memory, positions if which is None else which)
        objects.append((_only_objects(batch, rows, probs), state.image_weight))
    if num and state.object_weight > 0 and state.object_calibration:
        several = first_rows((batch.object_labels != UNLABELLED).sum(1) > 1, num)
        objects.append((_object_targets(teacher, batch, several, positions), state.object_weight))
    return _unless_empty(Lessons(rows, probs, state.image_weight, tuple(objects)))


def _unless_empty(lessons: Lessons) -> Lessons | None:
    """Where nobody is taught in any process, nothing."""
    return lessons if any(lessons.num) else None


def _images(
    teacher: Teacher, batch: Batch, positions: Tensor, num: int, memory: Memory | None, which: Int[Tensor, " b"]
) -> tuple[Int[Tensor, " r"], Float[Tensor, "r k"]]:
    """Rows with a posterior, and it: what is remembered, and `num` new ones of the rest."""
    memory = memory or Memory(0, batch.classes.shape[1], visits=0)
    known, probs = memory.recall(which)
    if num:
        fresh = first_rows(_of_one_object(teacher, batch) & ~known, num)
        found = _image_targets(teacher, batch.rows(fresh), positions[fresh]) if len(fresh) else probs[:0]
        memory.keep(which[fresh], found)
        known, probs = known.index_fill(0, fresh, True), probs.index_copy(0, fresh, found.to(probs))
    rows = torch.nonzero(known).squeeze(1)
    return rows, probs[rows]


def _own(teacher: Teacher, batch: Batch, num: int) -> Lessons | None:
    """Self-training: the classes of unannotated images that the teacher's head is sure of."""
    unknown, probs = batch.unannotated, teacher.model.perceive(batch.image).class_log_probs
    if probs is None:
        return None
    best, label = probs.exp().to(unknown.device).max(1)
    rows = first_rows(unknown & (best > (teacher.config.pseudo_confidence or 1.0)), num)
    return _unless_empty(Lessons(rows, torch.nn.functional.one_hot(label[rows], probs.shape[1]).float(), 1.0, ()))


def _of_one_object(teacher: Teacher, batch: Batch) -> Bool[Tensor, " b"]:
    """Labelled ones, and unannotated ones in which the teacher sees one object."""
    alone, unknown = batch.single, batch.unannotated
    if bool(unknown.any()):
        model = teacher.model
        seen = model.seen(model.clean_features(model.encode(batch.image[unknown])), SURE)
        alone = alone if seen is None else alone.masked_scatter(unknown, seen.num_objects == 1)
    return alone


def _image_targets(teacher: Teacher, batch: Batch, positions: Int[Tensor, " r"]) -> Float[Tensor, "r k"]:
    """What head and posterior know together of the class of images of one object, or a placebo of it."""
    calibration, estimator, gate = teacher.teaching.calibration, teacher.config.posterior, teacher.teaching.image_gate
    assert calibration and estimator and gate
    estimator = replace(estimator, **calibration.gap) if isinstance(estimator, DenoisingGap) else estimator
    log_lik = teacher.image_likelihoods(estimator, batch, positions, bf16=teacher.bf16).to(batch.image.device)
    log_posterior = calibration.log_posterior(log_lik, log_lik.new_zeros(log_lik.shape[1]), budget=estimator.budget)
    log_head = teacher.model.perceive(batch.image).class_log_probs
    assert log_head is not None
    log_head = log_head.to(log_posterior)
    favourite = torch.where(batch.label == UNLABELLED, log_head.argmax(1), batch.label)
    return _taught(teacher, gate, log_head, log_posterior, favourite, positions)


def _object_targets(teacher: Teacher, batch: Batch, rows: Int[Tensor, " m"], positions: Int[Tensor, " b"]) -> ObjectTargets:
    """The same of the objects of some images, over their shortlists."""
    calibration, gate = teacher.teaching.object_calibration, teacher.teaching.object_gate
    assert calibration and gate
    if not len(rows):
        return ObjectTargets(rows, rows, rows.new_zeros(0, 1), batch.classes.new_zeros(0, 1))
    part = batch.rows(rows)
    scores = object_scores(teacher.model, part)
    found = teacher.object_likelihoods(part, scores, positions[rows])
    log_posterior = calibration.log_posterior(found.log_lik, found.area, found.candidates)
    entries = positions[rows][found.row] * IGNORE + found.slot
    probs = _taught(teacher, gate, shortlisted(scores, found), log_posterior, found.truth, entries)
    return ObjectTargets(rows[found.row], found.slot, found.candidates, probs)


def _taught(teacher: Teacher, gate: Gate, log_head: Tensor, log_posterior: Tensor, favourite: Tensor, entries: Tensor) -> Float[Tensor, "r m"]:
    """The product of head and posterior, or what stands in for it."""
    lesson = teacher.config.lesson
    if lesson == "tempered":
        return gate.product(log_head, torch.zeros_like(log_posterior)).exp()
    probs = gate.product(log_head, log_posterior).exp()
    return PLACEBOS[lesson](probs, favourite, SampleGenerator(teacher.seed, entries, "placebo")) if lesson in PLACEBOS else probs


def _only_objects(batch: Batch, rows: Int[Tensor, " r"], probs: Float[Tensor, "r k"]) -> ObjectTargets:
    """Where an image's one label is also its one object's, the posterior of the image is that of the object."""
    alone = (batch.object_labels[rows] != UNLABELLED).sum(1) == 1
    slot = (batch.object_labels[rows] != UNLABELLED).int().argmax(1)
    every = torch.arange(probs.shape[1], device=rows.device).expand(len(rows), -1)
    return ObjectTargets(rows[alone], slot[alone], every[alone], probs[alone])
