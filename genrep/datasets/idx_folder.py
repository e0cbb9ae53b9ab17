"""A folder of MNIST or one of its kin: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and the same of `t10k`, gzipped or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrep.datasets.base import ArrayDataset
from genrep.datasets.idx import read_idx
from genrep.datasets.images import existing_folder, read_names
from genrep.datasets.problems import Problem, Problems
from genrep.datasets.stacked import Stack, part_of, read_stack
from genrep.registry import lookup

STEMS = {"train": "train", "test": "t10k"}
NAMES = "classes.txt"


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if it has no such files."""
    return tuple(split for split in ("train", "val", "test") if _files(path, _source(split)))


def pictures(path: Path) -> list[NDArray[np.uint8]]:
    """Every training picture of the folder."""
    return list(_stack(path, "train").pixels)


def read_idx_folder(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 1, max_objects: int = 4, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with their classes, and what is wrong with the folder.

    Val is a tenth of each class of train, chosen by content. `classes.txt` names the classes, one a line; without it they are called by their numbers.

    Args:
        path: folder with the files.
        split: train, val or test (`t10k`).
        image_size: (height, width) in pixels, to which pictures are stretched.
        channels: 3 (colour) or 1 (grey).
        max_objects: empty object slots, so that batches of other sets can be joined.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: no such folder or split, or a file that is damaged or does not fit the other; with `strict` the first problem.
    """
    problems, sources = Problems(strict), {known: _source(known) for known in splits(existing_folder(path))}
    stack = part_of(_stack(path, lookup(sources, split, f"split of {path}")), split)
    data = read_stack(path, stack, _class_names(path), image_size=image_size, channels=channels, max_objects=max_objects, problems=problems)
    return data, problems.found


def _source(split: str) -> str:
    return "train" if split == "val" else split


def _files(path: Path, split: str) -> tuple[Path, Path] | None:
    """Pictures and labels."""
    found = []
    for what in ("images-idx3", "labels-idx1"):
        names = [f"{STEMS[split]}-{what}-ubyte{end}" for end in ("", ".gz")]
        file = next((path / name for name in names if (path / name).is_file()), None)
        found += [file] if file else []
    return (found[0], found[1]) if len(found) == 2 else None


def _stack(path: Path, split: str) -> Stack:
    files = _files(path, split)
    if files is None:
        raise ValueError(f"{path} has no {STEMS[split]}-images-idx3-ubyte with {STEMS[split]}-labels-idx1-ubyte.")
    pixels, labels = (read_idx(file) for file in files)
    if pixels.ndim != 3 or labels.ndim != 1 or len(pixels) != len(labels) or 0 in pixels.shape:
        raise ValueError(f"{files[0]} has sizes {pixels.shape}, {files[1].name} {labels.shape}; expected (n, height, width) and (n), n at least 1.")
    return Stack(files[0].name, pixels, labels.astype(np.int64))


def _class_names(path: Path) -> tuple[str, ...]:
    if given := read_names(path / NAMES):
        return tuple(given)
    every = [read_idx(files[1]) for split in STEMS if (files := _files(path, split))]
    return tuple(str(number) for number in range(max(int(labels.max(initial=0)) for labels in every) + 1))
