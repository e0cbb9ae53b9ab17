"""COCO segmentations (polygons, run lengths) as masks. What comes from a file is checked before any compiled code sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

LARGEST = 1e9
"""Coordinates and run lengths beyond this belong to no picture."""

MAX_DIGITS = 8
"""Base-32 digits of one run length; eight reach beyond any picture."""


def numbers(value: Any, what: str) -> list[float]:
    """A json list of finite numbers.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, list) or any(isinstance(x, bool) or not isinstance(x, int | float) for x in value):
        raise ValueError(f"{what} must be a list of numbers; found {str(value)[:60]}")
    if any(not abs(x) <= LARGEST for x in value):
        raise ValueError(f"{what} must be finite and at most {LARGEST:.0e}; found {str(value)[:60]}")
    return [float(x) for x in value]


def mask_of(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask [h w] of a COCO segmentation in a picture of (height, width).

    Raises:
        ValueError: neither polygons nor run lengths of this size.
    """
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, size)
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size)
    raise ValueError(f"`segmentation` must be polygons or run lengths; found {type(segmentation).__name__}")


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask [h w] as COCO's segmentation, run lengths as text; the inverse of `mask_of`."""
    found = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def _from_polygons(polygons: list[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    corners = [numbers(polygon, "a polygon") for polygon in polygons]
    if not corners or any(len(polygon) < 6 or len(polygon) % 2 for polygon in corners):
        raise ValueError("a polygon needs an even number of at least 6 coordinates")
    clipped = [np.clip(np.reshape(polygon, (-1, 2)), 0, (width, height)).ravel().tolist() for polygon in corners]
    runs = coco_mask.merge(coco_mask.frPyObjects(clipped, height, width))
    return _filled(_decompressed(runs["counts"].decode()), size)


def _from_runs(segmentation: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    counts, announced = segmentation.get("counts"), segmentation.get("size")
    if announced != [height, width]:
        raise ValueError(f"run lengths are for size {announced}; the picture has [{height}, {width}]")
    runs = _decompressed(counts) if isinstance(counts, str) else [int(x) for x in numbers(counts, "`counts`")]
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"run lengths add up to {sum(runs)}; the picture has {height * width} pixels")
    return _filled(runs, size)


def _filled(runs: list[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Runs of 0 and 1 in turn, column by column."""
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1])
    return np.ascontiguousarray(columns.T)


def _decompressed(text: str) -> list[int]:
    """Run lengths from COCO's text form: signed base-32 digits, low first; from the fourth on as differences to the last but one."""
    runs: list[int] = []
    value, digits = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or digits == MAX_DIGITS:
            raise ValueError("compressed run lengths are damaged")
        value |= (code & 31) << (5 * digits)
        digits += 1
        if code & 32:
            continue
        if code & 16:
            value -= 1 << (5 * digits)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, digits = 0, 0
    if digits:
        raise ValueError("compressed run lengths end early")
    return runs
