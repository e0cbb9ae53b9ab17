"""The garments both fashion sets are made of: pictures, labels and masks of one split, prepared once and kept in the cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from genrep.datasets.arrays import cached_arrays
from genrep.datasets.idx import content_sha256, read_idx
from genrep.datasets.sources import CONTENT_SHA256, fashion_mnist_files
from genrep.registry import lookup

FASHION_CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")

MAX_OBJECTS = 4
"""Object slots of both fashion sets, so that their batches can be put together."""

NUM_VAL = 5_000
"""The last so many of the original training pictures are val (half of them, where there are fewer than twice as many)."""

_CHUNK = 4_000


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the pictures of a split are to be had; the arguments of `load_dataset` of the same names."""

    split: str
    root: Path | None
    cache: Path
    allow_network: bool
    verify: bool

    def files(self) -> dict[str, Path]:
        """The four files by stem."""
        return fashion_mnist_files(root=self.root, cache=self.cache, allow_network=self.allow_network, verify=self.verify)

    def key(self) -> str:
        """Fingerprint of the content; reads nothing unless a folder is given."""
        digests = list(CONTENT_SHA256.values())
        if self.root is not None:
            files = self.files()
            digests = digests if self.verify else [content_sha256(path) for path in files.values()]
        return hashlib.sha256("".join(digests).encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class Garments:
    """The pictures of one split."""

    pixels: UInt8[Tensor, "n 28 28"]
    mask: Bool[Tensor, "n 28 28"]
    label: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.pixels)


def load_garments(origin: Origin) -> Garments:
    """The garments of a split: train and val never share a picture, test is the original test set.

    Raises:
        ValueError: unknown split, or the files are missing or not what they should be.
    """
    stem = lookup({"train": "train", "val": "train", "test": "t10k"}, origin.split, "split")

    def build() -> dict[str, Tensor]:
        files = origin.files()
        pixels, labels = _pictures(files[f"{stem}-images-idx3-ubyte"], files[f"{stem}-labels-idx1-ubyte"])
        num_train = len(pixels) - min(NUM_VAL, len(pixels) // 2)
        part = {"train": slice(num_train), "val": slice(num_train, None), "test": slice(None)}[origin.split]
        arrays = {"pixels": pixels[part].copy(), "mask": garment_masks(pixels[part]), "label": labels[part].astype(np.int64)}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    return Garments(**cached_arrays(origin.cache, f"garments-{origin.split}-{origin.key()}", build))


def checked_num(num: int | None, usual: int, name: str) -> int:
    """How many samples were asked for; the usual number with None.

    Raises:
        ValueError: fewer than 1.
    """
    if num is not None and num < 1:
        raise ValueError(f"`num` must be at least 1, or None for the {usual:,} that this split of `{name}` usually has; found {num}.")
    return num or usual


def garment_masks(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Of each picture [n h w] the largest 8-connected component of value > 0, holes filled (the first of equals)."""
    return np.concatenate([_masks(pixels[start : start + _CHUNK]) for start in range(0, len(pixels), _CHUNK)])


def _masks(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    eight, four = np.zeros((2, 3, 3, 3), bool)
    eight[1] = True
    four[1] = ndimage.generate_binary_structure(2, 1)
    components, num = ndimage.label(pixels > 0, eight)
    sizes = np.bincount(components.ravel(), minlength=num + 1)
    sizes[0] = 0
    picture = np.zeros(num + 1, np.int64)
    picture[components] = np.arange(len(pixels))[:, None, None]
    picture[0] = -1
    by_size = np.lexsort((-np.arange(num + 1), sizes, picture))
    last = np.searchsorted(picture[by_size], np.arange(len(pixels)), side="right") - 1
    largest = by_size[last]
    mask = components == largest[:, None, None]
    mask &= components > 0
    outside, _ = ndimage.label(np.pad(~mask, ((0, 0), (1, 1), (1, 1)), constant_values=True), four)
    filled: NDArray[np.bool_] = outside[:, 1:-1, 1:-1] != outside[:, :1, :1]
    return filled


def _pictures(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.shape[1:] != (28, 28) or classes.shape != (len(pixels),):
        raise ValueError(f"{images}: expected pictures [n 28 28] with as many labels in {labels.name}; found {pixels.shape} and {classes.shape}.")
    if classes.max(initial=0) >= len(FASHION_CLASSES):
        raise ValueError(f"{labels}: classes are 0 to {len(FASHION_CLASSES) - 1}; found {classes.max()}.")
    if not pixels.any(axis=(1, 2)).all():
        raise ValueError(f"{images}: picture {int(np.argmin(pixels.any(axis=(1, 2))))} has no pixel above 0, so no garment.")
    return pixels, classes
