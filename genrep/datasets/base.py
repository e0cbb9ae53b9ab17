"""What a data set is: samples by index, as a batch. Also the common in-memory form for small images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

from genrep.randomness import permutation
from genrep.types import IGNORE, NOTHING_KNOWN, UNLABELLED, Batch, unsure, without

MOST_CLASSES = IGNORE - 1
"""That a mask can tell apart, besides the background."""


class Dataset(ABC):
    """Samples by index; sample i is always the same."""

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    """(height, width) in pixels."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        """The samples with these indices, in this order."""


@dataclass(frozen=True, kw_only=True)
class ArrayDataset(Dataset):
    """A set of small images held as bytes; batches are cut by fancy indexing.

    Shapes are those of `types.Batch`; pixels are uint8 0..255 and become [-1, 1] in `batch`.
    """

    name: str
    class_names: tuple[str, ...]
    pixels: UInt8[Tensor, "n c h w"]
    """c = 1 (grey) or 3."""
    label: Int[Tensor, " n"]
    object_labels: Int[Tensor, "n o"]
    boxes_cxcywh: Float[Tensor, "n o 4"]
    has_objects: Bool[Tensor, " n"]
    instance_mask: UInt8[Tensor, "n h w"]
    semantic_mask: UInt8[Tensor, "n h w"]
    ignored_labels: Int[Tensor, "n o"] | None = None
    """None: nothing is ignored."""
    sources: Int[Tensor, "n o"] | None = None
    """Which picture of its split each object was cut from, where the set is composed of pictures; -1: empty slot."""
    inv_depth: Float[Tensor, "n h w"] | None = None
    """1 / metre; NaN: unknown."""
    classes: UInt8[Tensor, "n k"] | None = None
    """Which classes a sample holds, as 0/1, where that is known without its objects; None: of no sample."""
    has_classes: Bool[Tensor, " n"] | None = None
    """Of which samples it is."""
    layered: bool = False
    """Whether objects lie one over the other in the order of their slots, so that the instance mask tells relative depth."""

    @property
    def image_size(self) -> tuple[int, int]:  # type: ignore[override]
        return self.pixels.shape[-2], self.pixels.shape[-1]

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        def of(array: Tensor) -> Tensor:
            return array.index_select(0, indices)  # many times quicker than `array[indices]`

        image = of(self.pixels).float().div_(127.5).sub_(1.0)
        label, objects, instance_mask = of(self.label).long(), of(self.object_labels).long(), of(self.instance_mask)
        return Batch(
            image=image.expand(-1, 3, -1, -1),
            index=indices,
            label=label,
            classes=self._counts(label, objects, indices),
            has_classes=torch.zeros(len(indices), dtype=torch.bool) if self.has_classes is None else of(self.has_classes),
            object_labels=objects,
            ignored_labels=torch.full_like(objects, UNLABELLED) if self.ignored_labels is None else of(self.ignored_labels).long(),
            boxes_cxcywh=of(self.boxes_cxcywh),
            has_objects=of(self.has_objects),
            semantic_mask=of(self.semantic_mask),
            instance_mask=instance_mask,
            inv_depth=self._layers(instance_mask, objects) if self.inv_depth is None else of(self.inv_depth),
        )

    def _counts(self, label: Int[Tensor, " b"], objects: Int[Tensor, "b o"], indices: Int[Tensor, " b"]) -> Float[Tensor, "b k"]:
        counts = class_counts(label, objects, len(self.class_names))
        return counts if self.classes is None else torch.maximum(counts, self.classes.index_select(0, indices))

    @property
    def class_counts(self) -> Float[Tensor, "n k"]:
        """How many objects of each class every sample holds, at least, as far as is known."""
        return self._counts(self.label.long(), self.object_labels.long(), torch.arange(len(self)))

    def _layers(self, instance_mask: UInt8[Tensor, "b h w"], object_labels: Int[Tensor, "b o"]) -> Float[Tensor, "b h w"]:
        """Relative depth from 0, the ground, to 1, the uppermost object; unknown where objects are no layers."""
        if not self.layered:
            return torch.full(instance_mask.shape, float("nan"))
        layer = instance_mask / (object_labels != UNLABELLED).sum(1).clamp(min=1)[:, None, None]
        return layer if int(instance_mask.amax()) < IGNORE else layer.masked_fill_(instance_mask == IGNORE, float("nan"))

    @property
    def occupied(self) -> Bool[Tensor, "n o"]:
        """Slots in which an object is, or something ignored."""
        there = self.object_labels != UNLABELLED
        return there if self.ignored_labels is None else there | (self.ignored_labels != UNLABELLED)

    @property
    def has_depth(self) -> Bool[Tensor, " n"]:
        """Samples of which some depth is known."""
        return (self.instance_mask != IGNORE).flatten(1).any(1) & self.layered if self.inv_depth is None else self.inv_depth.isfinite().flatten(1).any(1)

    @property
    def classified(self) -> Bool[Tensor, " n"]:
        """Samples of which it is known which classes they hold."""
        whole = self.has_objects
        if self.ignored_labels is not None:
            whole = whole & ~unsure(self.class_counts > 0, self.ignored_labels.long())
        known = (self.label != UNLABELLED) | whole
        return known if self.has_classes is None else known | self.has_classes

    @property
    def annotated(self) -> Bool[Tensor, " n"]:
        """Samples of which anything is known."""
        known = self.classified | self.has_objects | self.occupied.any(1)
        return known if bool(known.all()) else known | (self.semantic_mask != IGNORE).flatten(1).any(1) | self.has_depth

    def first(self, num: int) -> ArrayDataset:
        """The first `num` samples.

        Raises:
            ValueError: there are fewer.
        """
        if not 0 < num <= len(self):
            raise ValueError(f"`num` must be from 1 to {len(self)}, the samples `{self.name}` has; found {num}.")
        return self.rows(slice(num))

    def rows(self, where: Int[Tensor, " m"] | Bool[Tensor, " n"] | slice) -> ArrayDataset:
        """Some samples as a set of their own, by index, by truth value or by slice."""
        arrays: dict[str, Any] = {f.name: value[where] for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        return replace(self, **arrays)

    def with_slots(self, num: int) -> ArrayDataset:
        """The same set with `num` object slots; slots that are cut off must be empty."""
        missing = num - self.object_labels.shape[1]
        if missing == 0:
            return self
        assert missing > 0 or not bool(self.occupied[:, num:].any())
        return replace(
            self,
            object_labels=pad(self.object_labels, (0, missing), value=UNLABELLED),
            boxes_cxcywh=pad(self.boxes_cxcywh, (0, 0, 0, missing)),
            ignored_labels=None if self.ignored_labels is None else pad(self.ignored_labels, (0, missing), value=UNLABELLED),
            sources=None if self.sources is None else pad(self.sources, (0, missing), value=UNLABELLED),
        )

    def in_order(self, class_names: tuple[str, ...]) -> ArrayDataset:
        """The same set with its classes numbered in this order, if they are these; as it is, if not."""
        return self.among(class_names) if sorted(self.class_names) == sorted(class_names) else self

    def among(self, class_names: tuple[str, ...]) -> ArrayDataset:
        """The same set with its classes numbered as in these, of which no image has the others; as it is, if it has one that is not among them."""
        if self.class_names == class_names or not set(self.class_names) <= set(class_names):
            return self
        to = torch.tensor([class_names.index(name) for name in self.class_names], dtype=torch.int64)
        of_label = torch.cat([to, torch.tensor([UNLABELLED])])  # -1, the last, stays
        of_pixel = torch.arange(IGNORE + 1, dtype=torch.uint8)
        if len(class_names) <= MOST_CLASSES:
            of_pixel[1 : 1 + len(to)] = (1 + to).to(torch.uint8)
        return replace(
            self,
            class_names=class_names,
            label=of_label[self.label.long()].to(self.label.dtype),
            object_labels=of_label[self.object_labels.long()].to(self.object_labels.dtype),
            ignored_labels=None if self.ignored_labels is None else of_label[self.ignored_labels.long()].to(self.ignored_labels.dtype),
            semantic_mask=of_pixel[self.semantic_mask.long()],
            classes=None if self.classes is None else self.classes.new_zeros(len(self), len(class_names)).index_copy(1, to, self.classes),
        )

    def with_labels_for(self, labelled: Bool[Tensor, " n"]) -> ArrayDataset:
        """The same images with every annotation removed where `labelled` is false."""
        known = {name: value for name in NOTHING_KNOWN if isinstance(value := getattr(self, name, None), Tensor)}
        changed: dict[str, Any] = without(known, ~labelled)
        return replace(self, **changed)


def unlocated(name: str, class_names: tuple[str, ...], pixels: UInt8[Tensor, "n c h w"], label: Int[Tensor, " n"], max_objects: int) -> ArrayDataset:
    """A set of labelled pictures of which no objects are known.

    Args:
        max_objects: empty object slots.
    """
    num, mask = len(pixels), torch.full((len(pixels), *pixels.shape[-2:]), IGNORE, dtype=torch.uint8)
    return ArrayDataset(
        name=name,
        class_names=class_names,
        pixels=pixels,
        label=label,
        object_labels=torch.full((num, max_objects), UNLABELLED),
        boxes_cxcywh=torch.zeros(num, max_objects, 4),
        has_objects=torch.zeros(num, dtype=torch.bool),
        instance_mask=mask,
        semantic_mask=mask.clone(),
    )


def of_class_sets(
    name: str, class_names: tuple[str, ...], pixels: UInt8[Tensor, "n c h w"], sets: Sequence[Collection[int] | None], max_objects: int
) -> ArrayDataset:
    """A set of pictures of which it is known which classes they hold; where it is one alone, that is the picture's label.

    Args:
        sets: classes of each picture; None: unknown.
        max_objects: empty object slots.
    """
    label = torch.tensor([next(iter(held)) if held is not None and len(held) == 1 else UNLABELLED for held in sets])
    found = unlocated(name, class_names, pixels, label, max_objects)
    if all(held is None or len(held) == 1 for held in sets):
        return found
    classes = torch.zeros(len(sets), len(class_names), dtype=torch.uint8)
    for row, held in zip(classes, sets, strict=True):
        row[list(held or ())] = 1
    return replace(found, classes=classes, has_classes=torch.tensor([held is not None for held in sets]))


def class_counts(label: Int[Tensor, " b"], object_labels: Int[Tensor, "b o"], num_classes: int) -> Float[Tensor, "b k"]:
    """How many objects of each class an image holds, at least one of its label's; zeros where nothing is known."""
    counts, labelled = torch.zeros(2, len(label), num_classes + 1, device=label.device)
    slots = torch.where(object_labels == UNLABELLED, num_classes, object_labels)
    counts.scatter_add_(1, slots, counts.new_ones(slots.shape))
    labelled.scatter_(1, torch.where(label == UNLABELLED, num_classes, label)[:, None], 1.0)
    return torch.maximum(counts, labelled)[:, :num_classes]


def painted(instance_mask: UInt8[Tensor, "n h w"], object_labels: Int[Tensor, "n o"], num_classes: int) -> UInt8[Tensor, "n h w"]:
    """The class of each pixel by whose it is; unlabelled where that is, and everywhere where there are more than `MOST_CLASSES`."""
    value = torch.zeros(len(object_labels), IGNORE + 1, dtype=torch.uint8, device=object_labels.device)
    value[:, 1 : 1 + object_labels.shape[1]] = (object_labels + 1).to(torch.uint8)
    value[:, IGNORE if num_classes <= MOST_CLASSES else slice(None)] = IGNORE
    return value.gather(1, instance_mask.flatten(1).long()).view_as(instance_mask)


def boxes_of(instance_mask: UInt8[Tensor, "n h w"], num_objects: int) -> Float[Tensor, "n o 4"]:
    """The tight box (normalised cx, cy, w, h) around the visible part of each object; zeros where it has none."""
    height, width = instance_mask.shape[-2:]
    visible = instance_mask[:, None] == torch.arange(1, num_objects + 1)[None, :, None, None]
    top, bottom = _extent(visible.any(-1))
    left, right = _extent(visible.any(-2))
    boxes = torch.stack([(left + right) / (2 * width), (top + bottom) / (2 * height), (right - left) / width, (bottom - top) / height], -1)
    return boxes.masked_fill(~visible.any(-1).any(-1, keepdim=True), 0.0)


def _extent(occupied: Bool[Tensor, "*n s"]) -> tuple[Int[Tensor, "*n"], Int[Tensor, "*n"]]:
    """First occupied place and one past the last."""
    return occupied.int().argmax(-1), occupied.shape[-1] - occupied.flip(-1).int().argmax(-1)


def labelled_rows(num: int, count: int, seed: int) -> Bool[Tensor, " num"]:
    """Which of `num` samples keep their labels: `count` of them, whatever their class.

    Fixed by the seed and nested: the rows of a smaller count are among those of a larger one.

    Raises:
        ValueError: `count` is not from 0 to `num`.
    """
    if not 0 <= count <= num:
        raise ValueError(f"`count` of labelled samples must be from 0 to {num}; found {count}.")
    rows = torch.zeros(num, dtype=torch.bool)
    rows[permutation(num, seed, 0)[:count]] = True
    return rows
