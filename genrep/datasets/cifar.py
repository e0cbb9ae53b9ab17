"""A folder of CIFAR-10 or CIFAR-100 in the binary version. The Python version is pickles, which run code when they are read; it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrep.datasets.base import ArrayDataset
from genrep.datasets.images import existing_folder, read_names
from genrep.datasets.problems import Problem, Problems
from genrep.datasets.stacked import Stack, part_of, read_stack
from genrep.registry import lookup

SHAPE = (3, 32, 32)
PICKLE_MAGIC = b"\x80"
PICKLES = {"data_batch_1": "cifar-10-binary.tar.gz", "test_batch": "cifar-10-binary.tar.gz", "train": "cifar-100-binary.tar.gz"}
"""Files of the Python version, and the archive to have in its place."""


@dataclass(frozen=True)
class _Kind:
    files: dict[str, tuple[str, ...]]
    names: str
    num_labels: int
    """Bytes before the pixels, the last of which is the class."""
    num_classes: int


KINDS = (
    _Kind({"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}, "batches.meta.txt", 1, 10),
    _Kind({"train": ("train.bin",), "test": ("test.bin",)}, "fine_label_names.txt", 2, 100),
)


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if it has no such files.

    Raises:
        ValueError: it holds the Python version.
    """
    kind = _kind(path)
    if kind is None:
        _refuse_pickles(path)
        return ()
    found = [split for split in kind.files if _files(path, kind, split)]
    return tuple(split for split in ("train", "val", "test") if _source(split) in found)


def pictures(path: Path) -> list[NDArray[np.uint8]]:
    """Every training picture of the folder that can be read."""
    kind = _kind(path)
    return list(_stack(path, kind, "train", Problems(strict=False)).pixels) if kind else []


def read_cifar(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 4, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with their classes, and what is wrong with the folder.

    Val is a tenth of each class of train, chosen by content. Of CIFAR-100 the fine classes are taken.

    Args:
        path: folder of `data_batch_1.bin` to `5`, `test_batch.bin`, `batches.meta.txt`; or of `train.bin`, `test.bin`, `fine_label_names.txt`.
        split: train, val or test.
        image_size: (height, width) in pixels, to which pictures are stretched.
        channels: 3 (colour) or 1 (grey).
        max_objects: empty object slots, so that batches of other sets can be joined.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: no such folder or split, or no whole picture; with `strict` the first problem.
    """
    problems, sources = Problems(strict), {known: _source(known) for known in splits(existing_folder(path))}
    source, kind = lookup(sources, split, f"split of {path}"), _kind(path)
    assert kind is not None
    names = tuple(read_names(path / kind.names) or map(str, range(kind.num_classes)))
    stack = part_of(_stack(path, kind, source, problems), split)
    return read_stack(path, stack, names, image_size=image_size, channels=channels, max_objects=max_objects, problems=problems), problems.found


def _source(split: str) -> str:
    return "train" if split == "val" else split


def _kind(path: Path) -> _Kind | None:
    return next((kind for kind in KINDS if _files(path, kind, "train")), None)


def _files(path: Path, kind: _Kind, split: str) -> list[Path]:
    return [path / name for name in kind.files[split] if (path / name).is_file()]


def _refuse_pickles(path: Path) -> None:
    for name, archive in PICKLES.items():
        file = path / name
        if not file.is_file():
            continue
        with file.open("rb") as opened:
            if opened.read(1) == PICKLE_MAGIC:
                raise ValueError(f"{file} is a Python pickle, which can run code when it is read; refused. Get the binary version, {archive}, in its place.")


def _stack(path: Path, kind: _Kind, split: str, problems: Problems) -> Stack:
    """All whole records of a split's files."""
    size, records = kind.num_labels + 32 * 32 * 3, []
    for file in _files(path, kind, split):
        content = np.frombuffer(file.read_bytes(), np.uint8)
        num, rest = divmod(len(content), size)
        if rest:
            problems.drop(file.name, f"{rest} bytes at the end are no whole picture of {size}")
        records.append(content[: num * size].reshape(num, size))
    every = np.concatenate(records)
    pixels = every[:, kind.num_labels :].reshape(-1, *SHAPE).transpose(0, 2, 3, 1)
    where = kind.files[split][0] if len(records) == 1 else f"{kind.files[split][0]} and others"
    return Stack(where, np.ascontiguousarray(pixels), every[:, kind.num_labels - 1].astype(np.int64))
