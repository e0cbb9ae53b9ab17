"""Pictures with masks of the same name: `images/*.jpg` and `masks/*.png`, each pixel the index of its class; semantic segmentation.

Index 255 is ignored. `classes.txt`, where there is one, names the indices from 0 on, one a line; index 0 is the background if it names it so
(`background`), or if there is no such file. Without it a class is called by its index.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from genrep.datasets.base import MOST_CLASSES, ArrayDataset
from genrep.datasets.images import (
    MAX_PIXELS,
    existing_folder,
    is_picture,
    of_split,
    read_names,
    read_png,
    split_called,
    split_folders,
    with_val,
    without_background,
)
from genrep.datasets.index_masks import EXPECTED, MODES, Masked, indices_of, read_masked
from genrep.datasets.problems import Problem, Problems
from genrep.registry import lookup
from genrep.types import IGNORE

PICTURES, MASKS, NAMES = "images", "masks", "classes.txt"


@dataclass(frozen=True)
class _Pair:
    picture: Path
    mask: Path


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if no picture in it has a mask beside it."""
    found = _pairs(path)
    if not any(pair.mask.is_file() for pairs in found.values() for pair in pairs):
        return ()
    return tuple(with_val(found))


def pictures(path: Path) -> list[Path]:
    """Every picture of the folder."""
    return [pair.picture for pairs in _pairs(path).values() for pair in pairs]


def read_image_masks(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 4, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with their masks, and what is wrong with the folder.

    A picture without mask is unlabelled. One whose mask has one class alone has it as label. Where there is no val, a tenth of train is, chosen by content.

    Args:
        path: folder of `images/*.jpg` and `masks/*.png`, of `images/SPLIT/*.jpg` and `masks/SPLIT/*.png`, or of `SPLIT/images/*.jpg` and `SPLIT/masks/*.png`.
        split: train, val or test.
        image_size: (height, width) in pixels, to which pictures and masks are stretched.
        channels: 3 (colour) or 1 (grey).
        max_objects: empty object slots, so that batches of other sets can be joined.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: the folder is missing, has no pictures, no class in its masks, or not this split; with `strict` the first problem.
    """
    problems, every = Problems(strict), _pairs(existing_folder(path))
    class_names, meaning = _classes(path, every)
    pairs = lookup(with_val(every), split, f"split of {path}")
    pairs = pairs if "val" in every else of_split(pairs, split, lambda pair: pair.picture)
    if bare := [pair.picture for pair in pairs if not pair.mask.is_file()]:
        problems.note(str(bare[0].relative_to(path)), f"has no mask, nor have {len(bare) - 1} others; these pictures are unlabelled")
    _report_strays(path, every, problems)
    masked = [Masked(pair.picture, pair.mask if pair.mask.is_file() else None, meaning, None) for pair in pairs]
    found = read_masked(path, class_names, masked, image_size=image_size, channels=channels, max_objects=max_objects, problems=problems)
    if found is not None and len(bare) < len(pairs) and set(found.semantic_mask.unique().tolist()) == {0, IGNORE}:
        problems.add(MASKS, f"hold no class, only 0, the background, and {IGNORE}, which is ignored; write 1, 2, ... for classes")
    if found is None:
        raise ValueError(f"{path} has no readable picture in split `{split}`; expected {PICTURES}/*.jpg with {MASKS}/*.png.")
    return found, problems.found


def _pairs(path: Path) -> dict[str, list[_Pair]]:
    """Pictures by split, and where their masks should be."""
    found: dict[str, list[_Pair]] = {}
    for folder, outer in ((path, None), *split_folders(path).items()):
        masks = {file.with_suffix(""): file for file in (folder / MASKS).rglob("*") if file.suffix.lower() == ".png"}
        for picture in sorted(file for file in (folder / PICTURES).rglob("*") if is_picture(file) and not file.name.startswith(".")):
            below = picture.relative_to(folder / PICTURES)
            called = (folder / MASKS / below).with_suffix("")
            split = outer or split_called(below.parts[0]) or "train"
            found.setdefault(split, []).append(_Pair(picture, masks.get(called, called.with_suffix(".png"))))
    return found


def _classes(path: Path, every: dict[str, list[_Pair]]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Names of the classes, and what the indices of masks stand for."""
    given = read_names(path / NAMES)
    names = list(without_background(given))
    if len(names) < len(given):
        meaning = indices_of(len(names))
    elif names:
        meaning = {index: index + 1 for index in range(len(names))} | {IGNORE: IGNORE}
    else:
        last = max((_last_index(pair.mask) for pairs in every.values() for pair in pairs), default=0)
        names = [str(index) for index in range(1, last + 1)]
        meaning = indices_of(last)
    if not names:
        raise ValueError(f"the masks of {path} name no class: 0 is background, 255 ignored, 1 to {MOST_CLASSES} classes, or as {NAMES} says.")
    return tuple(names), meaning


def _last_index(mask: Path) -> int:
    """The highest index of a class in a mask; 0 where it cannot be read, which is reported later."""
    try:
        with Image.open(mask, formats=["PNG"]) as opened:
            own = (opened.height, opened.width)
        if own[0] * own[1] > MAX_PIXELS:
            return 0
        indices = read_png(mask, MODES, own=own, expected=EXPECTED)
    except Exception:  # decoders raise almost anything on damaged files
        return 0
    return int(np.max(indices, where=indices != IGNORE, initial=0))


def _report_strays(path: Path, every: dict[str, list[_Pair]], problems: Problems) -> None:
    """Name masks without a picture, and what is none."""
    used = {pair.mask for pairs in every.values() for pair in pairs}
    for folder in (path, *split_folders(path)):
        for mask in sorted(file for file in (folder / MASKS).rglob("*") if file.is_file() and file not in used and not file.name.startswith(".")):
            problems.drop(str(mask.relative_to(path)), f"is no png with the name of a picture in {PICTURES}")
