"""Where annotations are in their picture: boxes and masks in its own size, and what becomes of masks that are shrunk."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genrep.datasets.coco_masks import mask_of, numbers

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


def corners_of(bbox: Any) -> Box:
    """COCO's x, y, width, height as corners.

    Raises:
        ValueError: it is something else.
    """
    values = numbers(bbox, "`bbox`")
    if len(values) != 4 or values[2] <= 0 or values[3] <= 0:
        raise ValueError(f"`bbox` must be [x, y, width, height] with positive sizes; found {str(bbox)[:60]}")
    x, y, width, height = values
    return x, y, x + width, y + height


def box_around(mask: Mask) -> Box:
    """The box of a mask.

    Raises:
        ValueError: it is empty.
    """
    y, x = np.nonzero(mask)
    if len(y) == 0:
        raise ValueError("no `bbox`, and an empty mask")
    return float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)


def cut(box: Box, own: tuple[int, int]) -> Box:
    """The part of a box inside the picture.

    Raises:
        ValueError: there is none.
    """
    height, width = own
    x0, y0, x1, y1 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"box {list(box)} lies outside the image of {width} x {height}")
    return x0, y0, x1, y1


def filled(box: Box, own: tuple[int, int]) -> Mask:
    """All pixels that a box in the picture touches."""
    mask = np.zeros(own, bool)
    mask[int(box[1]) : math.ceil(box[3]), int(box[0]) : math.ceil(box[2])] = True
    return mask


def place_of(segmentation: Any, bbox: Any, own: tuple[int, int]) -> Mask:
    """Where an annotation is that cannot be used: in its mask, else in its box, else anywhere."""
    places: tuple[Callable[[], Mask], ...] = (lambda: mask_of(segmentation, own), lambda: filled(cut(corners_of(bbox), own), own))
    for place in places:
        try:
            found = place()
        except ValueError:
            continue
        if found.any():
            return found
    return np.ones(own, bool)


def covered(mask: Mask, size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """Whether at least half of each pixel of a picture of `size` is in a mask."""
    cover = Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BOX)
    return torch.from_numpy(np.array(cover) >= 128)


def touched(mask: Mask, size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """Whether any of each pixel of a picture of `size` is."""
    share = Image.fromarray(mask.astype(np.float32)).resize(size[::-1], Image.Resampling.BOX)
    return torch.from_numpy(np.array(share) > 0)
