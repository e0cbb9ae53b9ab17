"""Generation -> perception, step by step: what the heads are taught of the images of a batch, where a gate is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from genrep.lessons import Lessons, Located
from genrep.objective import ObjectiveConfig
from genrep.posteriors.gate import Gate
from genrep.posteriors.placebos import as_unsure, shuffled, smoothed
from genrep.processes import first_rows, gathered
from genrep.randomness import SampleGenerator
from genrep.tasks.base import ObjectTargets
from genrep.training.distillation import Teacher
from genrep.training.locating import locate
from genrep.training.object_likelihoods import object_scores, shortlisted
from genrep.types import IGNORE, UNLABELLED, Batch, Seen

SURE = 0.9
"""Where only the number of objects and their places are asked for, any confidence will do."""


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

    Images of one object are taught by their posterior, whether they are annotated or not; objects among others, too, where the teacher sees them if they are
    not. With self-training unannotated images and objects of whose class the teacher's heads are sure are taught that, all of them, and posteriors are for
    the other unannotated ones.

    Args:
        num: 0: nothing new is found.
        memory: of the posteriors of images.
        which: the images' places in it.
    Returns:
        None while no gate is open and there is no self-training, which then costs nothing, and where nobody can be taught.
    """
    state, own = teacher.teaching, teacher.config.self_training
    num = teacher.config.distil_images if num is None else num
    rows, probs = positions.new_zeros(0), batch.classes[:0]
    objects: list[ObjectTargets] = []
    look = cache(partial(_look, teacher, batch))
    found = _located(teacher, batch, look()) if own or (num and state.teaches_objects) else None
    located, sure = (found[0].batch, found[1]) if found else (batch, None)
    if state.teaches_images or own:
        asked, remembered = (num, memory) if state.teaches_images else (0, None)
        rows, probs = _images(teacher, batch, look, positions, asked, remembered, positions if which is None else which)
        objects.append(_only_objects(located, rows, probs))
    if sure and own:
        objects.append(_besides(sure, rows))
    if num and state.teaches_objects:
        objects.append(_object_targets(teacher, located, first_rows(_to_be_asked(located, found if own else None), num), positions))
    lessons = Lessons(rows, probs, tuple(objects), found[0] if found else None)
    return lessons if any(lessons.num) else None


def _besides(targets: ObjectTargets, rows: Int[Tensor, " r"]) -> ObjectTargets:
    """Those in other images: the only object of one of these has the image's own target."""
    others = ~torch.isin(targets.row, rows)
    return ObjectTargets(*(getattr(targets, each.name)[others] for each in fields(ObjectTargets)))


def _located(teacher: Teacher, batch: Batch, look: _Look) -> tuple[Located, ObjectTargets] | None:
    """Where the teacher finds objects in images without annotations, and those that it is sure of; None of one that locates nothing."""
    if "detection" not in teacher.model.heads:
        return None
    if look.seen is None or look.seen.objects is None:
        none = batch.label[:0]
        return Located(batch, torch.zeros_like(batch.has_objects)), ObjectTargets(none, none, none[:, None], batch.classes[:0, :1])
    return locate(batch, torch.nonzero(batch.unannotated).squeeze(1), look.seen.objects)


def _to_be_asked(batch: Batch, found: tuple[Located, ObjectTargets] | None) -> Bool[Tensor, " b"]:
    """In which images posteriors may be asked for: those of several objects; with self-training those in which some were found of which it is not sure."""
    there = batch.object_labels != UNLABELLED
    several = there.sum(1) > 1
    if found is None:
        return several
    located, sure = found
    return several & located.rows & there.index_put((sure.row, sure.slot), torch.zeros_like(sure.row, dtype=torch.bool)).any(1)


def _images(
    teacher: Teacher, batch: Batch, look: Callable[[], _Look], positions: Tensor, num: int, memory: Memory | None, which: Int[Tensor, " b"]
) -> tuple[Int[Tensor, " r"], Float[Tensor, "r k"]]:
    """Rows with a target, and it: posteriors that are remembered, classes that the head is sure of, and `num` new posteriors of the rest."""
    memory = memory or Memory(0, batch.classes.shape[1], visits=0)
    known, probs = memory.recall(which)
    own, unknown = teacher.config.self_training, batch.unannotated
    if num or own:
        sure = look().sure & ~known
        probs = torch.where(sure[:, None], one_hot(look().label.clamp(min=0), probs.shape[1]).to(probs), probs)
        known = known | sure
        fresh = first_rows(look().alone & ~known & (unknown | (not own)), num)
        found = _image_targets(teacher, batch.rows(fresh), positions[fresh]) if len(fresh) else probs[:0]
        memory.keep(which[fresh], found)
        known, probs = known.index_fill(0, fresh, True), probs.index_copy(0, fresh, found.to(probs))
    rows = torch.nonzero(known).squeeze(1)
    return rows, probs[rows]


@dataclass(frozen=True)
class _Look:
    """Who may be taught as an image of one object, and of whose class the teacher's head is sure, with self-training."""

    alone: Bool[Tensor, " b"]
    sure: Bool[Tensor, " b"]
    label: Int[Tensor, " b"]
    """The head's favourite where it is sure."""
    seen: Seen | None = None
    """In the images without annotations, if there are any."""


def _look(teacher: Teacher, batch: Batch) -> _Look:
    """At labelled images, and at unannotated ones as the teacher sees them."""
    alone, unknown, label = batch.single, batch.unannotated, batch.label
    sure, model, config = torch.zeros_like(unknown), teacher.model, teacher.config
    if not bool(unknown.any()):
        return _Look(alone, sure, label)
    features = model.clean_features(model.encode(batch.image[unknown]))
    if seen := model.seen(features, config.pseudo_confidence or SURE):
        alone = alone.masked_scatter(unknown, seen.num_objects == 1)
    log_probs = model.results(features).get("classification") if config.self_training else None
    if log_probs is not None:
        best, favourite = log_probs.max(1)
        sure = alone & sure.masked_scatter(unknown, best.exp() > (config.pseudo_confidence or 1.0))
        label = label.masked_scatter(unknown, favourite)
    return _Look(alone, sure, label, seen)


def _image_targets(teacher: Teacher, batch: Batch, positions: Int[Tensor, " r"]) -> Float[Tensor, "r k"]:
    """What head and posterior know together of the class of images of one object, or a placebo of it.

    Of a shortlist alone the posterior divides what the head, as sure as it should be, gives to it. Of others drawn at random each stands for as many: the
    loss is then an estimate of that of all classes, as their sum under the posterior is.
    """
    calibration, estimator, gate, config = teacher.teaching.calibration, teacher.config.posterior, teacher.teaching.image_gate, teacher.config
    assert calibration and estimator and gate
    estimator = calibration.tuned(estimator)
    log_head = teacher.model.perceive(batch.image).class_log_probs
    assert log_head is not None
    log_head = log_head.to(batch.image.device)
    favourite = torch.where(batch.label == UNLABELLED, log_head.argmax(1), batch.label)
    classes = _asked(log_head, config, SampleGenerator(teacher.seed, positions, "others"))
    log_lik = teacher.image_likelihoods(estimator, batch, positions, bf16=teacher.bf16, classes=classes).to(log_head)
    log_posterior = calibration.log_posterior(log_lik, log_head.new_zeros(log_head.shape[1]), budget=estimator.budget, classes=classes)
    if classes is None:
        return _taught(teacher, gate, log_head, log_posterior, favourite, positions)
    place, log_listed = (classes == favourite[:, None]).int().argmax(1), log_head.gather(1, classes)
    if (num_random := classes.shape[1] - config.distil_shortlist) > 0:
        stand_for = torch.ones_like(log_listed[0])
        stand_for[-num_random:] = (log_head.shape[1] - config.distil_shortlist) / num_random
        log_posterior = (log_posterior + stand_for.log()).log_softmax(1) - stand_for.log()
        return torch.zeros_like(log_head).scatter(1, classes, _taught(teacher, gate, log_listed, log_posterior, place, positions, stand_for))
    probs = gate.of_head(log_head).exp()
    among = _taught(teacher, gate, log_listed, log_posterior, place, positions)
    return probs.scatter(1, classes, among * probs.gather(1, classes).sum(1, keepdim=True).clamp(max=1))


def _asked(log_head: Float[Tensor, "r k"], config: ObjectiveConfig, generator: SampleGenerator) -> Int[Tensor, "r m"] | None:
    """Which classes the posterior is asked about: the head's favourites, then some of the others; None: all."""
    num, num_classes = config.distil_shortlist, log_head.shape[1]
    if not 0 < num < num_classes:
        return None
    order = log_head.argsort(1, descending=True)
    drawn = generator.uniform(num_classes - num).topk(min(config.distil_random, num_classes - num), dim=1).indices
    return torch.cat([order[:, :num], order[:, num:].gather(1, drawn)], 1)


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


def _taught(
    teacher: Teacher, gate: Gate, log_head: Tensor, log_posterior: Tensor, favourite: Tensor, entries: Tensor, stand_for: Tensor | None = None
) -> Float[Tensor, "r m"]:
    """The product of head and posterior, or what stands in for it."""
    lesson = teacher.config.lesson
    if lesson == "tempered":
        return gate.of_head(log_head, stand_for).exp()
    probs, generator = gate.product(log_head, log_posterior, stand_for).exp(), SampleGenerator(teacher.seed, entries, "placebo")
    if lesson == "smoothed":
        return smoothed(probs, favourite)
    return as_unsure(gate.product(log_head, shuffled(log_posterior, generator), stand_for), probs) if lesson == "shuffled" else probs


def _only_objects(batch: Batch, rows: Int[Tensor, " r"], probs: Float[Tensor, "r k"]) -> ObjectTargets:
    """Where an image's one label is also its one object's, the posterior of the image is that of the object."""
    alone = (batch.object_labels[rows] != UNLABELLED).sum(1) == 1
    slot = (batch.object_labels[rows] != UNLABELLED).int().argmax(1)
    every = torch.arange(probs.shape[1], device=rows.device).expand(len(rows), -1)
    return ObjectTargets(rows[alone], slot[alone], every[alone], probs[alone])
