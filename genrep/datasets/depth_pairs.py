"""Pictures with measured depth beside them, as NYU Depth v2 is handed on: `SCENE/rgb_*.jpg` with `SCENE/sync_depth_*.png`, with or without split folders.

The class of a picture is the kind of its scene: the folder's name without the number of the recording, `kitchen` of `kitchen_0028a`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from genrep.datasets.base import ArrayDataset, unlocated
from genrep.datasets.images import VAL_SHARE, existing_folder, is_picture, read_picture, read_png, split_called
from genrep.datasets.problems import Problem, Problems
from genrep.registry import lookup

PICTURE, DEPTH = "rgb_", "sync_depth_"
RECORDING = re.compile(r"_\d{4}[a-z]*$")
MM_PER_M = 1000.0
DEPTH_MODES = ("I;16", "I;16B", "I")
"""Pillow's names of 16-bit grey."""

Folders = dict[str, list[Path]]


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if no picture in it has depth beside it."""
    found = _folders(path)
    return tuple(split for split in ("train", "val", "test") if split in found)


def read_depth_pairs(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 4, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with the kind of their scene and their depth, and what is wrong with the folder.

    Where there is no val folder, a tenth of the scenes of train is val, chosen by name: pictures of one recording are alike.

    Args:
        path: folder of `SPLIT/SCENE/rgb_*.jpg` or `SCENE/rgb_*.jpg`.
        split: train, val or test.
        image_size: (height, width) in pixels, to which pictures and depths are stretched.
        channels: 3 (colour) or 1 (grey).
        max_objects: empty object slots, so that batches of other sets can be joined.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: the folder is missing, or has no pictures, or not this split; with `strict` the first problem.
    """
    problems, folders = Problems(strict), _folders(existing_folder(path))
    class_names = tuple(sorted({_kind(folder) for some in folders.values() for folder in some}))
    pixels, depths, labels = [], [], []
    for folder in lookup(folders, split, f"split of {path}"):
        for file in _pictures(folder):
            try:
                picture, own = read_picture(file, image_size, channels)
            except ValueError as error:
                problems.drop(str(file.relative_to(path)), str(error))
                continue
            pixels.append(picture)
            depths.append(_depth_of(file, own, image_size, path, problems))
            labels.append(class_names.index(_kind(folder)))
    if not pixels:
        raise ValueError(f"{path} has no readable picture in split `{split}`; expected SCENE/{PICTURE}*.jpg with SCENE/{DEPTH}*.png.")
    found = unlocated(path.name, class_names, torch.stack(pixels), torch.tensor(labels), max_objects)
    return replace(found, inv_depth=torch.stack(depths)), problems.found


def read_inv_depth(path: Path, size: tuple[int, int], *, own: tuple[int, int]) -> Float[Tensor, "h w"]:
    """1 / metre of a 16-bit png in millimetres, 0 being unknown: at each new pixel the mean over what is known of it, NaN where that is less than half.

    Args:
        size: (height, width) it is shrunk or stretched to.
        own: (height, width) that it must have.
    Raises:
        ValueError: no 16-bit grey png, damaged, or of another size.
    """
    depth_mm = read_png(path, DEPTH_MODES, own=own, expected="depth in 16-bit grey, millimetres").astype(np.float32)
    known = torch.from_numpy(depth_mm > 0).float()
    inv_depth = torch.from_numpy(np.divide(MM_PER_M, depth_mm, out=np.zeros_like(depth_mm), where=depth_mm > 0))
    total, share = F.interpolate(torch.stack([inv_depth, known])[None], size=size, mode="area")[0]
    return torch.where(share >= 0.5, total / share.clamp(min=1e-6), float("nan"))


def _depth_of(file: Path, own: tuple[int, int], size: tuple[int, int], root: Path, problems: Problems) -> Tensor:
    """NaN where there is none that can be read."""
    depth = _beside(file)
    try:
        if not depth.is_file():
            raise ValueError("is missing")
        return read_inv_depth(depth, size, own=own)
    except ValueError as error:
        problems.fix(str(depth.relative_to(root)), f"{error}; the picture is kept without depth")
        return torch.full(size, float("nan"))


def _folders(path: Path) -> Folders:
    """Scene folders by split; without split folders all are train."""
    found: Folders = {}
    for folder in sorted(folder for folder in path.rglob("*") if folder.is_dir() and any(_beside(file).is_file() for file in _pictures(folder))):
        split = next((split for part in folder.relative_to(path).parts[:-1] if (split := split_called(part))), "train")
        found.setdefault(split, []).append(folder)
    if "val" not in found and len(found.get("train", [])) > 1:
        by_name = sorted(found["train"], key=lambda folder: hashlib.sha256(str(folder.relative_to(path)).encode()).hexdigest())
        num = max(1, round(VAL_SHARE * len(by_name)))
        found["val"], found["train"] = sorted(by_name[:num]), sorted(by_name[num:])
    return found


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob(f"{PICTURE}*") if is_picture(file))


def _beside(file: Path) -> Path:
    return file.with_name(f"{DEPTH}{file.stem.removeprefix(PICTURE)}.png")


def _kind(folder: Path) -> str:
    return RECORDING.sub("", folder.name)
