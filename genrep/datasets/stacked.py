"""Small pictures of one size that lie in one file, one after the other, as a set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from genrep.datasets.base import ArrayDataset, unlocated
from genrep.datasets.images import of_split_by_class, stretched
from genrep.datasets.problems import Problems


@dataclass(frozen=True)
class Stack:
    """The pictures of a file, or of several of one split."""

    where: str
    pixels: NDArray[np.uint8]
    """[n h w] or [n h w 3]."""
    labels: NDArray[np.int64]


def part_of(stack: Stack, split: str) -> Stack:
    """What of the training pictures is train, or val: a tenth of each class, chosen by content; all of another split."""
    if split == "test":
        return stack
    classes = [np.flatnonzero(stack.labels == label) for label in np.unique(stack.labels)]
    rows = of_split_by_class([some.tolist() for some in classes], split, lambda row: stack.pixels[row].tobytes())
    kept = np.isin(np.arange(len(stack.labels)), [row for some in rows for row in some])
    return Stack(stack.where, stack.pixels[kept], stack.labels[kept])


def read_stack(
    root: Path, stack: Stack, class_names: tuple[str, ...], *, image_size: tuple[int, int], channels: int, max_objects: int, problems: Problems
) -> ArrayDataset:
    """The pictures with their classes; those whose label names no class are left out.

    Raises:
        ValueError: there is none; with strict problems the first one.
    """
    known = stack.labels < len(class_names)
    for label in np.unique(stack.labels[~known]):
        num = int((stack.labels == label).sum())
        problems.drop(stack.where, f"{num} pictures have label {label}, which is no class (known: 0 to {len(class_names) - 1})", num)
    if not known.any():
        raise ValueError(f"{root / stack.where} has no picture of a known class.")
    pixels = torch.stack([stretched(Image.fromarray(picture), image_size, channels) for picture in stack.pixels[known]])
    return unlocated(root.name, class_names, pixels, torch.from_numpy(stack.labels[known]), max_objects)
