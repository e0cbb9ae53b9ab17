"""A user's own data: which layout a folder has, and its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genrep.datasets import arrow, cifar, coco, depth_pairs, idx_folder, image_folder, image_masks, pets, plain, table, voc
from genrep.datasets.base import ArrayDataset
from genrep.datasets.coco_json import class_names, read_contents
from genrep.datasets.images import NothingToHoldOut, existing_folder, is_picture
from genrep.datasets.objects import Contents
from genrep.datasets.problems import Problem, Problems

Read = Callable[..., tuple[ArrayDataset, list[Problem]]]


def _below(path: Path) -> list[Path]:
    """Every picture below a folder, or below its `images`, that is no map of depth."""
    root = path / "images" if (path / "images").is_dir() else path
    return sorted(file for file in root.rglob("*") if is_picture(file) and not file.name.startswith((depth_pairs.DEPTH, ".")))


class Layout(NamedTuple):
    """One way in which a folder may hold data."""

    splits: Callable[[Path], tuple[str, ...]]
    """Those that a folder has in this layout; none: it has another."""
    read: Read
    pictures: Callable[[Path], Sequence[Path | bytes | NDArray[np.uint8]]]
    """All that may be looked at, as files, their content, or pixels."""
    contents: Callable[[Path, str, Problems], Contents] | None = None
    """What the annotations of a split say, where they name objects."""
    class_names: Callable[[Path, str], tuple[str, ...]] | None = None
    """Those of a split, where each may have its own, without a look at its pictures."""
    several_classes: Callable[[Path], bool] | None = None
    """Whether a picture of a folder may hold several classes, or none, where that is known without objects."""


LAYOUTS: Mapping[str, Layout] = {
    "coco": Layout(coco.splits, coco.read_coco, _below, read_contents, class_names),
    "voc": Layout(voc.splits, voc.read_voc, voc.pictures, voc.read_contents),
    "pets": Layout(pets.splits, pets.read_pets, pets.pictures),
    "image-masks": Layout(image_masks.splits, image_masks.read_image_masks, image_masks.pictures),
    "depth-pairs": Layout(depth_pairs.splits, depth_pairs.read_depth_pairs, _below),
    "idx": Layout(idx_folder.splits, idx_folder.read_idx_folder, idx_folder.pictures),
    "cifar": Layout(cifar.splits, cifar.read_cifar, cifar.pictures),
    "arrow": Layout(arrow.splits, arrow.read_arrow, arrow.pictures, arrow.read_contents, arrow.class_names, arrow.has_several),
    "table": Layout(table.splits, table.read_table, table.pictures, several_classes=table.has_several),
    "image-folder": Layout(image_folder.splits, image_folder.read_image_folder, _below),
    "pictures": Layout(plain.splits, plain.read_plain, plain.pictures),
}
"""Layouts in the order in which they are tried."""

EXPECTED = (
    "CLASS/*.jpg, SPLIT/CLASS/*.jpg, annotations/instances_SPLIT.json with images/, images/*.jpg with masks/*.png, JPEGImages/ with Annotations/*.xml, "
    "SCENE/rgb_*.jpg with SCENE/sync_depth_*.png, idx files, CIFAR's binary version, *.parquet, or labels.csv"
)


def recognise(path: Path) -> str:
    """The layout of a folder, a key of LAYOUTS.

    Raises:
        ValueError: no such folder, or none of the layouts.
    """
    existing_folder(path)
    for name, layout in LAYOUTS.items():
        if layout.splits(path):
            return name
    if names := sorted({file.relative_to(path).parts[0] for file in path.rglob("*") if is_picture(file) and file.parent != path}):
        raise ValueError(f"{path} has pictures in {', '.join(names)}, but nothing that says what they show; expected {EXPECTED}.")
    raise ValueError(f"{path} has no pictures; expected {EXPECTED}.")


def splits_of(path: Path) -> tuple[str, ...]:
    """The splits that a folder has; where val is missing, a part of train is held out for it."""
    return LAYOUTS[recognise(path)].splits(path)


def own_classes_of(path: Path, split: str) -> tuple[str, ...] | None:
    """The classes of a split; None where they are those of the whole folder.

    Raises:
        ValueError: it says none, or not as it should.
    """
    known = LAYOUTS[recognise(path)].class_names
    return known(path, split) if known else None


def read_folder(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 16, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """A split of a user's folder in whichever layout it has; the arguments are those of `read_coco` and `read_image_folder`."""
    try:
        return LAYOUTS[recognise(path)].read(path, split, image_size=image_size, channels=channels, max_objects=max_objects, strict=strict)
    except NothingToHoldOut as error:
        raise NothingToHoldOut(f"{path} has {error}") from None
