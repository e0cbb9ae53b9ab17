"""A user's own data: which layout a folder has, and its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from genrep.datasets import coco, depth_pairs, image_folder
from genrep.datasets.base import ArrayDataset
from genrep.datasets.images import existing_folder
from genrep.datasets.problems import Problem

Read = Callable[..., tuple[ArrayDataset, list[Problem]]]

LAYOUTS: Mapping[str, tuple[Callable[[Path], tuple[str, ...]], Read]] = {
    "coco": (coco.splits, coco.read_coco),
    "depth-pairs": (depth_pairs.splits, depth_pairs.read_depth_pairs),
    "image-folder": (image_folder.splits, image_folder.read_image_folder),
}
"""Layouts in the order in which they are tried: the splits a folder has in this layout, and the reader."""


def recognise(path: Path) -> str:
    """The layout of a folder, a key of LAYOUTS.

    Raises:
        ValueError: no such folder, or none of the layouts.
    """
    existing_folder(path)
    for layout, (splits, _) in LAYOUTS.items():
        if splits(path):
            return layout
    raise ValueError(
        f"{path} has no pictures; expected CLASS/*.jpg, SPLIT/CLASS/*.jpg, "
        "annotations/instances_SPLIT.json with images/, or SCENE/rgb_*.jpg with SCENE/sync_depth_*.png."
    )


def splits_of(path: Path) -> tuple[str, ...]:
    """The splits that a folder has; where val is missing, a part of train is held out for it."""
    return LAYOUTS[recognise(path)][0](path)


def read_folder(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 16, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """A split of a user's folder in whichever layout it has; the arguments are those of `read_coco` and `read_image_folder`."""
    _, read = LAYOUTS[recognise(path)]
    return read(path, split, image_size=image_size, channels=channels, max_objects=max_objects, strict=strict)
