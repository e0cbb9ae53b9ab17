"""Pictures with annotated objects as a set: what depends on the picture is checked when it is read; numbers of each class and masks follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genrep.boxes import to_cxcywh
from genrep.datasets.base import MOST_CLASSES, ArrayDataset, painted
from genrep.datasets.coco_masks import mask_of, numbers
from genrep.datasets.images import read_picture
from genrep.datasets.index_masks import indices_of, semantic_of
from genrep.datasets.problems import Problems
from genrep.types import IGNORE, UNLABELLED

SLACK_PX = 1.0
"""How far a box may reach outside its picture by rounding."""

Mask = NDArray[np.bool_]


@dataclass
class Entry:
    """One annotation; what depends on the picture is checked when that is read."""

    where: str
    label: int
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
        return 1 + sum(not entry.is_crowd for entry in self.entries)


@dataclass(frozen=True)
class Contents:
    """What the annotations of a split say."""

    root: Path
    split: str
    class_names: tuple[str, ...]
    pictures: list[Picture]


@dataclass(frozen=True)
class _Object:
    label: int
    box_xyxy_px: tuple[float, float, float, float]
    mask: Mask | None
    """In the picture's own size."""

    @property
    def area_px(self) -> float:
        x0, y0, x1, y1 = self.box_xyxy_px
        return (x1 - x0) * (y1 - y0) if self.mask is None else float(self.mask.sum())


@dataclass(frozen=True)
class _Sample:
    pixels: UInt8[Tensor, "c h w"]
    object_labels: Int[Tensor, " o"]
    boxes_cxcywh: Float[Tensor, "o 4"]
    instance_mask: UInt8[Tensor, "h w"]
    semantic_mask: UInt8[Tensor, "h w"] | None
    """None: what the objects' masks say."""
    is_annotated: bool


def read_objects(contents: Contents, *, image_size: tuple[int, int], channels: int, max_objects: int, problems: Problems) -> ArrayDataset:
    """All pictures that can be read, with their objects in order of area, large (taken as far) to small.

    Masks are known where every object of a picture has one. An image with objects of one class has it as label.

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
    if not samples:
        raise ValueError(f"{contents.root} has no readable picture in split `{contents.split}`; expected the files that its annotations name.")
    return _dataset(contents.root.name, contents.class_names, samples)


def _has_masks(contents: Contents) -> bool:
    return any(entry.segmentation for picture in contents.pictures for entry in picture.entries)


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
        objects = [found for entry in picture.entries if not entry.is_crowd and (found := self._object(entry, own))]
        objects.sort(key=lambda found: -found.area_px)
        if len(objects) > self.max_objects:
            what = f"{len(objects)} objects, the {self.max_objects} largest are kept; raise `max_objects` to keep all"
            self.problems.note(picture.name, what, num_dropped=len(objects) - self.max_objects)
        crowd = [mask for entry in picture.entries if entry.is_crowd and (mask := self._mask(entry, own)) is not None]
        kept = objects[: self.max_objects]
        labels, boxes = torch.full((self.max_objects,), UNLABELLED), torch.zeros(self.max_objects, 4)
        for slot, found in enumerate(kept):
            labels[slot] = found.label
            boxes[slot] = to_cxcywh(torch.tensor(found.box_xyxy_px), own)
        instance_mask = self._paint(objects, crowd) if picture.is_annotated else torch.full(self.image_size, IGNORE, dtype=torch.uint8)
        return _Sample(pixels, labels, boxes, instance_mask, self._semantic(picture, own), picture.is_annotated)

    def _semantic(self, picture: Picture, own: tuple[int, int]) -> UInt8[Tensor, "h w"] | None:
        if picture.semantic_mask is None or len(self.meaning) > MOST_CLASSES + 2:
            return None
        return semantic_of(picture.semantic_mask, self.image_size, own=own, meaning=self.meaning, problems=self.problems).mask

    def _object(self, entry: Entry, own: tuple[int, int]) -> _Object | None:
        mask = self._mask(entry, own)
        try:
            box = _box_of(mask) if entry.bbox is None and mask is not None else _corners(entry.bbox)
            cut = _cut(box, own)
        except ValueError as error:
            self.problems.drop(entry.where, str(error))
            return None
        if max(abs(a - b) for a, b in zip(cut, box, strict=True)) > SLACK_PX:
            self.problems.fix(entry.where, f"box {list(box)} reaches outside the image of {own[1]} x {own[0]}; cut to it")
        return _Object(entry.label, cut, mask)

    def _mask(self, entry: Entry, own: tuple[int, int]) -> Mask | None:
        if not entry.segmentation:
            return None
        try:
            return mask_of(entry.segmentation, own)
        except ValueError as error:
            self.problems.fix(entry.where, f"{error}; mask left out")
            return None

    def _paint(self, objects: list[_Object], crowd: list[Mask]) -> Tensor:
        """The instance mask; crowds and objects without a slot are ignored, and so is all if a mask is missing."""
        canvas = torch.zeros(self.image_size, dtype=torch.uint8)
        if not self.has_masks or any(found.mask is None for found in objects):
            return canvas.fill_(IGNORE)
        for mask in crowd:
            canvas[_shrunk(mask, self.image_size)] = IGNORE
        for slot, found in enumerate(objects):
            assert found.mask is not None
            canvas[_shrunk(found.mask, self.image_size)] = slot + 1 if slot < self.max_objects else IGNORE
        return canvas


def _corners(bbox: Any) -> tuple[float, float, float, float]:
    values = numbers(bbox, "`bbox`")
    if len(values) != 4 or values[2] <= 0 or values[3] <= 0:
        raise ValueError(f"`bbox` must be [x, y, width, height] with positive sizes; found {str(bbox)[:60]}")
    x, y, width, height = values
    return x, y, x + width, y + height


def _box_of(mask: Mask) -> tuple[float, float, float, float]:
    y, x = np.nonzero(mask)
    if len(y) == 0:
        raise ValueError("no `bbox`, and an empty mask")
    return float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)


def _cut(box: tuple[float, float, float, float], own: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part of a box inside the picture."""
    height, width = own
    x0, y0, x1, y1 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"box {list(box)} lies outside the image of {width} x {height}")
    return x0, y0, x1, y1


def _shrunk(mask: Mask, size: tuple[int, int]) -> Tensor:
    """Whether at least half of each new pixel is covered."""
    cover = Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BOX)
    return torch.from_numpy(np.array(cover) >= 128)


def _dataset(name: str, class_names: tuple[str, ...], samples: list[_Sample]) -> ArrayDataset:
    object_labels = torch.stack([sample.object_labels for sample in samples])
    instance_mask = torch.stack([sample.instance_mask for sample in samples])
    by_owner = painted(instance_mask, object_labels, len(class_names))
    return ArrayDataset(
        name=name,
        class_names=class_names,
        pixels=torch.stack([sample.pixels for sample in samples]),
        label=_only_class(object_labels),
        object_labels=object_labels,
        boxes_cxcywh=torch.stack([sample.boxes_cxcywh for sample in samples]),
        has_objects=torch.tensor([sample.is_annotated for sample in samples]),
        instance_mask=instance_mask,
        semantic_mask=torch.stack([mask if sample.semantic_mask is None else sample.semantic_mask for sample, mask in zip(samples, by_owner, strict=True)]),
    )


def _only_class(object_labels: Int[Tensor, "n o"]) -> Int[Tensor, " n"]:
    """The class of pictures whose objects are all of one class."""
    highest = object_labels.amax(1)
    same = ((object_labels == highest[:, None]) | (object_labels == UNLABELLED)).all(1)
    return torch.where(same, highest, UNLABELLED)
