"""Pictures with COCO annotations: boxes, polygons, run lengths."""

from __future__ import annotations

from pathlib import Path

from genrep.datasets.base import ArrayDataset
from genrep.datasets.coco_json import annotation_files, read_contents
from genrep.datasets.images import existing_folder, with_val
from genrep.datasets.objects import read_objects
from genrep.datasets.problems import Problem, Problems


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if it has no COCO annotations."""
    return tuple(with_val(annotation_files(path)))


def read_coco(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 16, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with their objects, and what is wrong with the data.

    Classes are the categories in order of their ids, counted from 0. Objects: see `read_objects`.

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
    problems = Problems(strict)
    contents = read_contents(existing_folder(path), split, problems)
    found = read_objects(contents, image_size=image_size, channels=channels, max_objects=max_objects, problems=problems)
    return found, problems.found
