"""A first look at a user's folder, without reading all of it: how many pictures there are, how large, in colour or not."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from genrep.datasets.folders import LAYOUTS, recognise
from genrep.datasets.images import opened_picture, upright_size
from genrep.datasets.problems import Problems

MOST = 200
"""Pictures that are opened, evenly among all."""
GREY = 8
"""Largest difference between the channels of a picture without colours, of 255: JPEG leaves some."""


@dataclass(frozen=True)
class Glance:
    """What a look at a folder says."""

    layout: str
    num_pictures: int
    size: tuple[int, int]
    """Median (height, width) in pixels."""
    is_grey: bool
    num_objects: int = 0
    """No more are annotated in nineteen of twenty pictures of train; 0 where none is."""
    several_classes: bool = False
    """Whether pictures may hold several classes, or none, of which no objects are known."""


def glance(folder: Path) -> Glance:
    """Look at a folder in one of the layouts; what cannot be opened does not count.

    Raises:
        ValueError: no such folder, none of the layouts, or no picture that can be opened.
    """
    layout = recognise(folder)
    found = LAYOUTS[layout].pictures(folder)
    sizes, grey = [], True
    for each in found[:: max(1, len(found) // MOST)]:
        try:
            with Image.fromarray(each) if isinstance(each, np.ndarray) else opened_picture(each) as picture:
                sizes.append(upright_size(picture))
                grey = grey and _is_grey(picture)
        except Exception:  # decoders raise almost anything on damaged files, which the reader will name
            continue
    if not sizes:
        raise ValueError(f"{folder} has no picture that can be opened; `genrep data check {folder}` says why.")
    height, width = (int(statistics.median(values)) for values in zip(*sizes, strict=True))
    several = LAYOUTS[layout].several_classes
    return Glance(layout, len(found), (height, width), grey, _objects(folder, layout), several is not None and several(folder))


def _objects(folder: Path, layout: str) -> int:
    contents = LAYOUTS[layout].contents
    if contents is None or "train" not in LAYOUTS[layout].splits(folder):
        return 0
    counts = [picture.num_things - 1 for picture in contents(folder, "train", Problems(strict=False)).pictures]
    return int(np.quantile(counts, 0.95, method="higher")) if counts else 0


def _is_grey(picture: Image.Image) -> bool:
    picture.draft("RGB", (32, 32))
    small = np.asarray(picture.convert("RGB").resize((16, 16)), np.int16)
    return bool(np.ptp(small, axis=-1).max() <= GREY)
