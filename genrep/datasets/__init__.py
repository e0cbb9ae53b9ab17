"""Data sets: real images at 32 px, found by name, the same on every machine; and a user's own folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from genrep.datasets import fashion, fashion_scenes
from genrep.datasets.base import ArrayDataset, Dataset, labelled_rows
from genrep.datasets.check import DataReport, check_data
from genrep.datasets.folders import read_folder, splits_of
from genrep.datasets.garments import FASHION_CLASSES, Origin
from genrep.datasets.problems import Problem
from genrep.datasets.sources import cache_folder
from genrep.registry import lookup

DATASETS: dict[str, Callable[[Origin, int | None, int], ArrayDataset]] = {"fashion": fashion.load, "fashion-scenes": fashion_scenes.load}
"""Embedded sets by name: `load(origin, num, seed)`."""


def load_dataset(
    name: str,
    split: str,
    *,
    num: int | None = None,
    root: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
    allow_network: bool = False,
    verify: bool = True,
) -> ArrayDataset:
    """The split `train`, `val` or `test` of a data set.

    Args:
        num: the first so many samples, or all of a set that has fewer; scenes are composed in any number. None is the usual number. Sample i is the same
            whatever `num` is.
        root: folder with the four Fashion-MNIST files; None looks in the cache, in Debian's package and, if allowed, the network.
        cache: where downloads and prepared arrays are kept; None is `cache_folder()`.
        seed: of composed scenes.
        allow_network: whether missing files may be fetched.
        verify: False accepts files of other content; only with `root`.
    Raises:
        ValueError: unknown name or split, `num` below 1, the files are missing or not what they should be.
    """
    load = lookup(DATASETS, name, "data set")
    origin = Origin(split=split, root=root, cache=cache or cache_folder(), allow_network=allow_network, verify=verify)
    return load(origin, num, seed)


__all__ = [
    "DATASETS",
    "FASHION_CLASSES",
    "ArrayDataset",
    "DataReport",
    "Dataset",
    "Problem",
    "cache_folder",
    "check_data",
    "labelled_rows",
    "load_dataset",
    "read_folder",
    "splits_of",
]
