"""Masks as png files whose pixels are indices of classes, and sets of pictures with one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from genrep.datasets.base import ArrayDataset, unlocated
from genrep.datasets.images import read_picture, read_png
from genrep.datasets.problems import Problems
from genrep.types import IGNORE, UNLABELLED

MODES = ("1", "L", "P")
MOST_IGNORED = 0.1
"""Share of a mask that may be ignored, as borders are, where the classes in the rest are all that the picture holds."""
EXPECTED = "8-bit grey or palette, each pixel the index of its class"


def indices_of(num_classes: int) -> dict[int, int]:
    """The usual meaning of indices: 0 background, c + 1 class c, 255 unlabelled."""
    return {index: index for index in (*range(num_classes + 1), IGNORE)}


@dataclass(frozen=True)
class Semantic:
    """A mask that was read."""

    mask: UInt8[Tensor, "h w"]
    """0 background, c + 1 class c, 255 unlabelled."""
    classes: frozenset[int]
    """The classes in it, before it was shrunk."""
    is_sure: bool
    """Whether the picture holds no others."""


def semantic_of(path: Path, size: tuple[int, int], *, own: tuple[int, int], meaning: Mapping[int, int], problems: Problems) -> Semantic:
    """A mask shrunk or stretched to `size`, each new pixel being what most of it is; unlabelled where it cannot be read, which is reported.

    Args:
        own: (height, width) that it must have.
        meaning: what each index stands for in `Semantic.mask`; pixels of others are unlabelled, and reported.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        indices = read_png(path, MODES, own=own, expected=EXPECTED).astype(np.uint8)
    except ValueError as error:
        problems.fix(where, f"{error}; the picture is kept without mask")
        return Semantic(torch.full(size, IGNORE, dtype=torch.uint8), frozenset(), False)
    present = [int(index) for index in np.unique(indices)]
    if unknown := [index for index in present if index not in meaning]:
        problems.fix(where, f"index {', '.join(map(str, unknown[:5]))} is no class (known: {min(meaning)} to {_last(meaning)}); its pixels are ignored")
    cover = [np.asarray(Image.fromarray((indices == index).view(np.uint8) * 255).resize(size[::-1], Image.Resampling.BOX)) for index in present]
    meanings = torch.tensor([meaning.get(index, IGNORE) for index in present], dtype=torch.uint8)
    most = torch.from_numpy(np.stack(cover).argmax(0))
    is_sure = not unknown and float(np.isin(indices, [index for index in present if meaning[index] == IGNORE]).mean()) <= MOST_IGNORED
    return Semantic(meanings[most], frozenset(int(value) - 1 for value in meanings if 0 < value < IGNORE), is_sure)


def _last(meaning: Mapping[int, int]) -> int:
    return max(index for index in meaning if index != IGNORE)


@dataclass(frozen=True)
class Masked:
    """A picture, and where its mask is."""

    file: Path
    mask: Path | None
    meaning: Mapping[int, int]
    label: int | None
    """None: the class in the mask, if there is one alone, and hardly any pixel is ignored."""


def read_masked(
    root: Path, class_names: tuple[str, ...], pictures: Sequence[Masked], *, image_size: tuple[int, int], channels: int, max_objects: int, problems: Problems
) -> ArrayDataset | None:
    """All pictures that can be read, with their masks; None if there are none.

    Raises:
        ValueError: with strict problems the first one.
    """
    pixels, masks, labels = [], [], []
    for picture in pictures:
        try:
            found, own = read_picture(picture.file, image_size, channels)
        except ValueError as error:
            problems.drop(str(picture.file.relative_to(root)), str(error))
            continue
        nothing = Semantic(torch.full(image_size, IGNORE, dtype=torch.uint8), frozenset(), False)
        semantic = semantic_of(picture.mask, image_size, own=own, meaning=picture.meaning, problems=problems) if picture.mask else nothing
        only = next(iter(semantic.classes)) if semantic.is_sure and len(semantic.classes) == 1 else UNLABELLED
        pixels.append(found)
        masks.append(semantic.mask)
        labels.append(only if picture.label is None else picture.label)
    if not pixels:
        return None
    return replace(unlocated(root.name, class_names, torch.stack(pixels), torch.tensor(labels), max_objects), semantic_mask=torch.stack(masks))
