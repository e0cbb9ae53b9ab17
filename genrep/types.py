"""What travels between the parts: batches, conditions, predictions. No behaviour, no files, no device choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

IGNORE = 255
"""Mask value of a pixel without a label (the whole mask, where an image has none)."""

UNLABELLED = -1
"""Class index of an image, or of an unused object slot, without a label."""


NOTHING_KNOWN: Mapping[str, float] = {
    "label": UNLABELLED,
    "classes": 0,
    "has_classes": 0,
    "object_labels": UNLABELLED,
    "ignored_labels": UNLABELLED,
    "boxes_cxcywh": 0,
    "has_objects": 0,
    "semantic_mask": IGNORE,
    "instance_mask": IGNORE,
    "inv_depth": float("nan"),
}
"""What stands for each annotation of an image of which nothing is known."""


def without(annotations: Mapping[str, Tensor], where: Bool[Tensor, " b"]) -> dict[str, Tensor]:
    """Annotations by name, [b ...] each, of which nothing is known in some rows."""
    return {name: value.masked_fill(where.view(-1, *(1,) * (value.ndim - 1)), NOTHING_KNOWN[name]) for name, value in annotations.items()}


def unsure(present: Bool[Tensor, "b k"], ignored_labels: Int[Tensor, "b n"]) -> Bool[Tensor, " b"]:
    """Whether something that is ignored is of a class that nothing else in the image is of.

    >>> unsure(torch.tensor([[True, False]] * 3), torch.tensor([[-1], [0], [1]])).tolist()
    [False, False, True]
    """
    return ~pad(present, (1, 0), value=True).gather(1, ignored_labels + 1).all(1)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images and whatever is known of them; a missing annotation means unlabelled, never "none there".

    Classes are counted from 0 everywhere but in `semantic_mask`, where 0 is the background and class c is c + 1.
    """

    image: Float[Tensor, "b 3 h w"]
    """RGB pixels in [-1, 1]."""
    index: Int[Tensor, " b"]
    """Which sample of its set each row is."""
    label: Int[Tensor, " b"]
    """The one class of the image; -1: unlabelled, or several classes."""
    classes: Float[Tensor, "b k"]
    """How many objects there are of each class, at least; a row of zeros: unknown, or none. It is also the condition `y` of the denoiser, zeros being null."""
    has_classes: Bool[Tensor, " b"]
    """Whether it is known, without its objects, which classes the image holds: all of them, or none; a label or objects say it, too."""
    object_labels: Int[Tensor, "b n"]
    """Class of each object in order of painting (far to near); -1: none in this slot."""
    ignored_labels: Int[Tensor, "b n"]
    """Class of what lies in a slot's box where that is no object, but a crowd or something hard to make out: whoever finds it there is neither right nor
    wrong; -1: none in this slot."""
    boxes_cxcywh: Float[Tensor, "b n 4"]
    """Tight around the visible part, normalised by (width, height); zeros in empty slots."""
    has_objects: Bool[Tensor, " b"]
    """Whether the objects of the image are annotated, all of them: what is no object, nor ignored, is none."""
    semantic_mask: UInt8[Tensor, "b h w"]
    """0 background, c + 1 class c, 255 unlabelled."""
    instance_mask: UInt8[Tensor, "b h w"]
    """0 background, j + 1 the visible part of object j, 255 unlabelled."""
    inv_depth: Float[Tensor, "b h w"]
    """1 / metre; or, of sets that only know what lies before what, some number that grows towards the viewer. NaN: unknown."""

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def unannotated(self) -> Bool[Tensor, " b"]:
        """Images of which neither classes nor objects are known."""
        return (self.label == UNLABELLED) & ~self.has_objects & ~self.has_classes

    @property
    def slots(self) -> Int[Tensor, "b n"]:
        """Class of what lies in each box, an object or something ignored; -1: nothing."""
        return torch.maximum(self.object_labels, self.ignored_labels)

    @property
    def class_sets(self) -> tuple[Bool[Tensor, "b k"], Bool[Tensor, " b"]]:
        """Which classes each image holds, and of which images that is known: those with classes, a label, annotated objects, or a mask without gaps; but
        not those in which something ignored is of a class of its own."""
        mask, num = self.semantic_mask.flatten(1).long(), self.classes.shape[1]
        painted = torch.zeros(len(mask), max(IGNORE, num) + 1, dtype=torch.bool, device=mask.device).scatter_(1, mask, True)[:, 1 : num + 1]
        doubtful = unsure(self.classes > 0, self.ignored_labels)
        told = (self.label != UNLABELLED) | self.has_classes | self.has_objects & ~doubtful
        return torch.where(told[:, None], self.classes > 0, painted), told | (mask != IGNORE).all(1) & ~doubtful

    @property
    def single(self) -> Bool[Tensor, " b"]:
        """Images with a label that hold one object, as far as is known: a posterior of the image is one of its class."""
        return (self.label != UNLABELLED) & (self.classes.sum(1) == 1)

    def rows(self, where: Int[Tensor, " m"] | Bool[Tensor, " b"] | slice) -> Batch:
        """Some rows of the batch, by index, by truth value or by slice."""
        return Batch(**{f.name: getattr(self, f.name)[where] for f in fields(self)})

    def without(self, where: Bool[Tensor, " b"]) -> Batch:
        """The same images, of some of which nothing is known."""
        changed: dict[str, Any] = without({name: getattr(self, name) for name in NOTHING_KNOWN}, where)
        return replace(self, **changed)

    @staticmethod
    def cat(batches: list[Batch]) -> Batch:
        """Batches of equal image size and slot count, one after the other."""
        return Batch(**{f.name: torch.cat([getattr(b, f.name) for b in batches]) for f in fields(Batch)})


@dataclass(frozen=True)
class Denoised:
    """What a denoiser says of the clean sample; always float32 (float64 for closed forms)."""

    x0_hat: Float[Tensor, "b c h w"]
    """Estimate of E[x0 | xt, y]."""
    log_std_scale: Float[Tensor, " b"]
    """Log of the factor on the reverse kernel's standard deviation; 0: the base variance."""


@runtime_checkable
class Denoise(Protocol):
    """All that samplers see of a model: `denoise(xt [b c h w], t [b], y [b k]) -> Denoised`, t in [0, 1], y zeros = null."""

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor, /) -> Denoised: ...


@runtime_checkable
class DenoiseCandidates(Protocol):
    """All that posterior estimators see: `f(xt [b c h w], t [b], candidates [b m k]) -> x0_hat [b m c h w]`.

    A model may share work among the m candidates of an image; `posteriors.base.one_by_one` makes one from a `Denoise`.
    """

    def __call__(self, xt: Tensor, t: Tensor, candidates: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Objects:
    """Candidate objects of each image, as one task offers them to the next ones: findings, through which these teach it nothing."""

    class_logits: Float[Tensor, "b m k"]
    owner_logits: Float[Tensor, "b m h w"]
    """Whose each pixel is, against a logit of 0 for nobody's."""
    seen: Float[Tensor, "b m s"]
    """What a second look has of each."""


@dataclass(frozen=True)
class SeenObjects:
    """Objects that a task takes images to hold, the likeliest first."""

    labels: Int[Tensor, "b m"]
    """-1: none."""
    sure: Bool[Tensor, "b m"]
    """Whether the task is sure of the label."""
    boxes_cxcywh: Float[Tensor, "b m 4"]
    instance_mask: UInt8[Tensor, "b h w"]
    """As a batch's; 255 everywhere of a task that knows no masks."""


@dataclass(frozen=True)
class Seen:
    """What a task takes images to hold."""

    classes: Float[Tensor, "b k"]
    """How many objects of each class, where it is sure of all of them; else zeros."""
    num_objects: Int[Tensor, " b"]
    objects: SeenObjects | None = None
    """Of a task that locates them."""


@dataclass(frozen=True)
class Features:
    """What a noise-free (or lightly noised) pass offers to the perception heads; a glimpse has no taps."""

    taps: tuple[Float[Tensor, "b d gh gw"], ...]
    """Outputs of the tapped trunk blocks, early to late, on the token grid; normalised over channels."""
    stem: tuple[Float[Tensor, "b _ _ _"], ...]
    """Outputs of the stem's convolutions, fine to coarse, finer than the token grid."""
    scan: Float[Tensor, "b _ gh gw"] | None = None
    """The stem's maps drawn together to the token grid, without the blocks (`tasks.base.Scan`)."""
    objects: Objects | None = None
    """What a task before this one has found."""

    def rows(self, where: Int[Tensor, " m"] | Bool[Tensor, " b"]) -> Features:
        """Those of some images, as the trunk gave them."""
        return Features(tuple(tap[where] for tap in self.taps), tuple(each[where] for each in self.stem))


@dataclass(frozen=True)
class FeatureSpec:
    """What heads may count on: channels and stride (image pixels per cell) of each tap, stem map and the scan, and the image size."""

    image_size: tuple[int, int]
    taps: tuple[int, ...]
    tap_stride: int
    stem: tuple[int, ...]
    stem_strides: tuple[int, ...]
    scan: int = 0
    """0: there is no scan."""
    seen: int = 0
    """Numbers that a second look has of an object; 0: there is none."""


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, best first."""

    boxes_xyxy_px: Float[Tensor, "n 4"]
    """Pixels of the model input, (x0, y0, x1, y1)."""
    scores: Float[Tensor, " n"]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class Perception:
    """What the model sees in a batch of images; None where the model has no such head."""

    class_log_probs: Float[Tensor, "b k"] | None
    detections: list[Detections] | None
    semantic_mask: UInt8[Tensor, "b h w"] | None
    inv_depth: Float[Tensor, "b h w"] | None = None
    """1 / metre; of a model of relative depth 0 (farthest in the image) to 1 (nearest)."""
    presence: Float[Tensor, "b k"] | None = None
    """Probability that the class is in the image at all."""

    @staticmethod
    def cat(parts: list[Perception]) -> Perception:
        """Perceptions of consecutive batches by one model as one."""

        def joined(pick: Callable[[Perception], Any], by: Callable[[list[Any]], Any]) -> Any:
            values = [pick(part) for part in parts]
            return None if not values or values[0] is None else by(values)

        return Perception(
            class_log_probs=joined(lambda p: p.class_log_probs, torch.cat),
            detections=joined(lambda p: p.detections, lambda lists: list(chain.from_iterable(lists))),
            semantic_mask=joined(lambda p: p.semantic_mask, torch.cat),
            inv_depth=joined(lambda p: p.inv_depth, torch.cat),
            presence=joined(lambda p: p.presence, torch.cat),
        )
