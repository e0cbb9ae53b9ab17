"""Pictures with annotated objects as a set: what depends on the picture is checked when it is read; numbers of each class and masks follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genrep.boxes import to_cxcywh
from genrep.datasets.base import MOST_CLASSES, ArrayDataset, painted
from genrep.datasets.coco_masks import mask_of
from genrep.datasets.images import is_turned, read_picture
from genrep.datasets.index_masks import indices_of, semantic_of
from genrep.datasets.object_places import Box, Mask, box_around, corners_of, covered, cut, filled, place_of, touched
from genrep.datasets.problems import Problems
from genrep.types import IGNORE, UNLABELLED

SLACK_PX = 1.0
"""How far a box may reach outside its picture by rounding."""


@dataclass
class Entry:
    """One annotation; what depends on the picture is checked when that is read."""

    where: str
    label: int
    """-1: of none that is known, so that the annotation is lost, which is reported before."""
    bbox: Any
    segmentation: Any
    is_crowd: bool


@dataclass
class Picture:
    """One picture and its annotations."""

    file: Path | bytes
    """Or its content."""
    name: str
    announced: tuple[Any, Any]
    """(height, width) as the annotation says, None where it does not."""
    is_annotated: bool = True
    """False: nothing is known of its objects."""
    semantic_mask: Path | None = None
    """A png of its size with the class of each pixel, 0 being background, in place of its objects' masks."""
    entries: list[Entry] = field(default_factory=list)

    @property
    def num_things(self) -> int:
        """The picture and its objects."""
        return 1 + sum(not entry.is_crowd and entry.label != UNLABELLED for entry in self.entries)


@dataclass(frozen=True)
class Contents:
    """What the annotations of a split say."""

    root: Path
    split: str
    class_names: tuple[str, ...]
    pictures: list[Picture]


@dataclass(frozen=True)
class _Object:
    """Or a crowd."""

    label: int
    box_xyxy_px: Box
    mask: Mask | None
    """In the picture's own size."""

    @property
    def area_px(self) -> float:
        x0, y0, x1, y1 = self.box_xyxy_px
        return (x1 - x0) * (y1 - y0) if self.mask is None else float(self.mask.sum())


@dataclass(frozen=True)
class _Found:
    """What a picture's annotations come to."""

    objects: list[_Object]
    """In order of painting."""
    crowds: list[_Object]
    lost: list[Mask]
    """Where annotations are that cannot be used."""


@dataclass(frozen=True)
class _Sample:
    pixels: UInt8[Tensor, "c h w"]
    label: int
    object_labels: Int[Tensor, " o"]
    ignored_labels: Int[Tensor, " o"]
    boxes_cxcywh: Float[Tensor, "o 4"]
    instance_mask: UInt8[Tensor, "h w"]
    semantic_mask: UInt8[Tensor, "h w"] | None
    """None: what the objects' masks say."""
    has_objects: bool


def read_objects(contents: Contents, *, image_size: tuple[int, int], channels: int, max_objects: int, problems: Problems) -> ArrayDataset:
    """All pictures that can be read, with their objects in order of area, large (taken as far) to small.

    Masks are known where every object of a picture has one. A picture all of whose annotations are of one class has it as label. Crowds are ignored: they
    have slots after the objects. Of a picture that lost an annotation, or has more than there are slots for, it is not known that there are no more objects,
    and its mask is unlabelled where the lost one is.

    Args:
        max_objects: slots; of pictures with more the largest objects are kept, at most 254.
    Raises:
        ValueError: no picture can be read, or `max_objects` is out of range; with strict problems the first one.
    """
    if not 0 < max_objects < IGNORE:
        raise ValueError(f"`max_objects` must be from 1 to {IGNORE - 1}; found {max_objects}.")
    if len(contents.class_names) > MOST_CLASSES:
        problems.note(
            str(contents.root), f"{len(contents.class_names)} classes are more than the {MOST_CLASSES} that a semantic mask tells apart; there is none"
        )
    reader = _Reader(image_size, channels, max_objects, indices_of(len(contents.class_names)), _has_masks(contents), problems)
    samples = [sample for picture in contents.pictures if (sample := reader(picture)) is not None]
    if turned := sum(is_turned(picture.file) for picture in contents.pictures if picture.entries or picture.semantic_mask):
        seen = "boxes and masks must be of them as they are seen, not as they are stored"
        problems.note(str(contents.root), f"{turned} annotated pictures of {contents.split} are turned by their EXIF; {seen}")
    if not samples:
        raise ValueError(f"{contents.root} has no readable picture in split `{contents.split}`; expected the files that its annotations name.")
    return _dataset(contents.root.name, contents.class_names, samples)


def _has_masks(contents: Contents) -> bool:
    return any(entry.segmentation and not entry.is_crowd for picture in contents.pictures for entry in picture.entries)


@dataclass(frozen=True)
class _Reader:
    image_size: tuple[int, int]
    channels: int
    max_objects: int
    meaning: Mapping[int, int]
    """Of the indices in semantic masks."""
    has_masks: bool
    """Whether the set has masks at all, so that a picture without objects is all background."""
    problems: Problems

    def __call__(self, picture: Picture) -> _Sample | None:
        try:
            pixels, own = read_picture(picture.file, self.image_size, self.channels)
        except ValueError as error:
            self.problems.drop(picture.name, str(error), picture.num_things)
            return None
        if any(said is not None and said != is_ for said, is_ in zip(picture.announced, own, strict=True)):
            what = f"is (height, width) {own}, its annotation says {picture.announced}, so boxes would be misplaced"
            self.problems.drop(picture.name, what, picture.num_things)
            return None
        found = self._found(picture, own)
        num = len(found.objects) + len(found.crowds)
        if len(found.objects) > self.max_objects:
            what = f"{len(found.objects)} objects, the {self.max_objects} largest are kept; raise `max_objects` to keep all"
            self.problems.note(picture.name, what, num_dropped=len(found.objects) - self.max_objects)
        labels, boxes = torch.full((2, self.max_objects), UNLABELLED), torch.zeros(self.max_objects, 4)
        for slot, each in enumerate([*found.objects, *found.crowds][: self.max_objects]):
            labels[int(slot >= len(found.objects)), slot] = each.label
            boxes[slot] = to_cxcywh(torch.tensor(each.box_xyxy_px), own)
        classes = {entry.label for entry in picture.entries}
        return _Sample(
            pixels=pixels,
            label=classes.pop() if len(classes) == 1 and found.objects else UNLABELLED,
            object_labels=labels[0],
            ignored_labels=labels[1],
            boxes_cxcywh=boxes,
            instance_mask=self._paint(found, own) if picture.is_annotated else torch.full(self.image_size, IGNORE, dtype=torch.uint8),
            semantic_mask=self._semantic(picture, own),
            has_objects=picture.is_annotated and not found.lost and num <= self.max_objects,
        )

    def _found(self, picture: Picture, own: tuple[int, int]) -> _Found:
        found = _Found([], [], [])
        for entry in picture.entries:
            read = self._object(entry, own) if entry.label != UNLABELLED else None
            if read is None:
                found.lost.append(place_of(entry.segmentation, entry.bbox, own))
            else:
                (found.crowds if entry.is_crowd else found.objects).append(read)
        found.objects.sort(key=lambda each: -each.area_px)
        return found

    def _semantic(self, picture: Picture, own: tuple[int, int]) -> UInt8[Tensor, "h w"] | None:
        if picture.semantic_mask is None or len(self.meaning) > MOST_CLASSES + 2:
            return None
        found = semantic_of(picture.semantic_mask, self.image_size, own=own, meaning=self.meaning, problems=self.problems)
        if found.classes and picture.entries and found.classes.isdisjoint(entry.label for entry in picture.entries):
            self.problems.fix(picture.name, "its mask shows none of the classes of its objects; it is left out: which index is which class?")
            return torch.full(self.image_size, IGNORE, dtype=torch.uint8)
        return found.mask

    def _object(self, entry: Entry, own: tuple[int, int]) -> _Object | None:
        mask = self._mask(entry, own)
        try:
            box = box_around(mask) if entry.bbox is None and mask is not None else corners_of(entry.bbox)
            inside = cut(box, own)
        except ValueError as error:
            self.problems.drop(entry.where, str(error), 0 if entry.is_crowd else 1)  # crowds are counted where they are read
            return None
        if max(abs(a - b) for a, b in zip(inside, box, strict=True)) > SLACK_PX:
            self.problems.fix(entry.where, f"box {list(box)} reaches outside the image of {own[1]} x {own[0]}; cut to it")
        return _Object(entry.label, inside, mask)

    def _mask(self, entry: Entry, own: tuple[int, int]) -> Mask | None:
        if not entry.segmentation:
            return None
        try:
            return mask_of(entry.segmentation, own)
        except ValueError as error:
            self.problems.fix(entry.where, f"{error}; mask left out")
            return None

    def _paint(self, found: _Found, own: tuple[int, int]) -> Tensor:
        """The instance mask. Crowds and objects without a slot are ignored, as is whatever a lost annotation touches; so is all if an object has no mask."""
        canvas = torch.zeros(self.image_size, dtype=torch.uint8)
        if not self.has_masks or any(each.mask is None for each in found.objects):
            return canvas.fill_(IGNORE)
        for crowd in found.crowds:
            canvas[covered(filled(crowd.box_xyxy_px, own) if crowd.mask is None else crowd.mask, self.image_size)] = IGNORE
        for slot, each in enumerate(found.objects):
            assert each.mask is not None
            canvas[covered(each.mask, self.image_size)] = slot + 1 if slot < self.max_objects else IGNORE
        for place in found.lost:
            canvas[touched(place, self.image_size)] = IGNORE
        return canvas


def _dataset(name: str, class_names: tuple[str, ...], samples: list[_Sample]) -> ArrayDataset:
    object_labels = torch.stack([sample.object_labels for sample in samples])
    ignored_labels = torch.stack([sample.ignored_labels for sample in samples])
    instance_mask = torch.stack([sample.instance_mask for sample in samples])
    by_owner = painted(instance_mask, object_labels, len(class_names))
    return ArrayDataset(
        name=name,
        class_names=class_names,
        pixels=torch.stack([sample.pixels for sample in samples]),
        label=torch.tensor([sample.label for sample in samples]),
        object_labels=object_labels,
        ignored_labels=ignored_labels if bool((ignored_labels != UNLABELLED).any()) else None,
        boxes_cxcywh=torch.stack([sample.boxes_cxcywh for sample in samples]),
        has_objects=torch.tensor([sample.has_objects for sample in samples]),
        instance_mask=instance_mask,
        semantic_mask=torch.stack([mask if sample.semantic_mask is None else sample.semantic_mask for sample, mask in zip(samples, by_owner, strict=True)]),
    )
