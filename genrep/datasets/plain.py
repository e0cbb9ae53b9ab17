"""Pictures that lie in a folder as they are, of which nothing is known."""

from __future__ import annotations

from pathlib import Path

import torch

from genrep.datasets.base import ArrayDataset, unlocated
from genrep.datasets.images import FORMATS, existing_folder, is_picture, of_split, read_picture, unread
from genrep.datasets.problems import Problem, Problems
from genrep.registry import lookup
from genrep.types import UNLABELLED


def pictures(path: Path) -> list[Path]:
    """Every picture of the folder."""
    return sorted(file for file in path.iterdir() if is_picture(file) and not file.name.startswith("."))


def splits(path: Path) -> tuple[str, ...]:
    """Train, and val held out of it; none if no pictures lie in the folder."""
    return ("train", "val") if pictures(path) else ()


def read_plain(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 4, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split, without classes: a set beside others, whose classes it takes.

    Args:
        path: folder of `*.jpg`; also png, webp, bmp.
        split: train, or val, a tenth of it chosen by content.
        image_size: (height, width) in pixels, to which pictures are stretched.
        channels: 3 (colour) or 1 (grey).
        max_objects: empty object slots, so that batches of other sets can be joined.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: the folder is missing, or has no pictures, or not this split; with `strict` the first problem.
    """
    problems, files, pixels = Problems(strict), pictures(existing_folder(path)), []
    lookup({"train": None, "val": None}, split, f"split of {path}")
    for file in unread(path):
        problems.drop(file.name, f"not one of {', '.join(FORMATS)}")
    for file in of_split(files, split, lambda file: file):
        try:
            pixels.append(read_picture(file, image_size, channels)[0])
        except ValueError as error:
            problems.drop(file.name, str(error))
    if not pixels:
        raise ValueError(f"{path} has no readable picture in split `{split}`.")
    return unlocated(path.name, (), torch.stack(pixels), torch.full((len(pixels),), UNLABELLED), max_objects), problems.found
