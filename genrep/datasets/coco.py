"""Pictures with COCO annotations: boxes, polygons, run lengths; numbers of each class and masks follow from the objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genrep.boxes import to_cxcywh
from genrep.datasets.base import ArrayDataset
from genrep.datasets.coco_json import Contents, Entry, Picture, annotation_files, read_contents
from genrep.datasets.coco_masks import mask_of, numbers
from genrep.datasets.images import existing_folder, read_picture
from genrep.datasets.problems import Problem, Problems
from genrep.types import IGNORE, UNLABELLED

SLACK_PX = 1.0
"""How far a box may reach outside its picture by rounding."""

Mask = NDArray[np.bool_]


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


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if it has no COCO annotations."""
    found = annotation_files(path)
    return tuple(split for split in ("train", "val", "test") if split in found or (split == "val" and "train" in found))


def read_coco(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 16, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with their objects, and what is wrong with the data.

    Classes are the categories in order of their ids, counted from 0. Objects are in order of area, large (taken as far) to
    small. Masks are known where every object of a picture has one. An image with objects of one class has it as label.

    Args:
        path: folder with `annotations/instances_SPLIT.json` (or another of the usual places) and `images/`.
        split: train, val or test; without a file for val, a tenth of train chosen by content.
        image_size: (height, width) in pixels, to which pictures are stretched, and boxes and masks with them.
        channels: 3 (colour) or 1 (grey).
        max_objects: slots; of pictures with more the largest objects are kept, at most 254.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: missing folder or split, no COCO json, no readable picture; with `strict` the first problem.
    """
    if not 0 < max_objects < IGNORE:
        raise ValueError(f"`max_objects` must be from 1 to {IGNORE - 1}; found {max_objects}.")
    problems = Problems(strict)
    contents = read_contents(existing_folder(path), split, problems)
    reader = _Reader(image_size, channels, max_objects, _has_masks(contents), problems)
    samples = [sample for picture in contents.pictures if (sample := reader(picture)) is not None]
    if not samples:
        raise ValueError(f"{path} has no readable picture in split `{split}`; expected the files named by its annotations below images/.")
    return _dataset(path.name, contents.class_names, samples), problems.found


def _has_masks(contents: Contents) -> bool:
    return any(entry.segmentation for picture in contents.pictures for entry in picture.entries)


@dataclass(frozen=True)
class _Reader:
    image_size: tuple[int, int]
    channels: int
    max_objects: int
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
        return _Sample(pixels, labels, boxes, self._paint(objects, crowd))

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
    value = torch.zeros(len(samples), IGNORE + 1, dtype=torch.uint8)
    value[:, 1 : 1 + object_labels.shape[1]] = (object_labels + 1).to(torch.uint8)
    value[:, IGNORE] = IGNORE
    return ArrayDataset(
        name=name,
        class_names=class_names,
        pixels=torch.stack([sample.pixels for sample in samples]),
        label=_only_class(object_labels),
        object_labels=object_labels,
        boxes_cxcywh=torch.stack([sample.boxes_cxcywh for sample in samples]),
        has_objects=torch.ones(len(samples), dtype=torch.bool),
        instance_mask=instance_mask,
        semantic_mask=value.gather(1, instance_mask.flatten(1).long()).view_as(instance_mask),
    )


def _only_class(object_labels: Int[Tensor, "n o"]) -> Int[Tensor, " n"]:
    """The class of pictures whose objects are all of one class."""
    highest = object_labels.amax(1)
    same = ((object_labels == highest[:, None]) | (object_labels == UNLABELLED)).all(1)
    return torch.where(same, highest, UNLABELLED)
