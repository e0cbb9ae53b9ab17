"""Fashion-MNIST in small: files of the same names and format with a few drawn garments."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

WriteIdx = Callable[[Path, NDArray[np.uint8]], Path]


@pytest.fixture(scope="session")
def write_idx() -> WriteIdx:
    """Writes an idx file, gzipped where its name says so."""

    def write(path: Path, array: NDArray[np.uint8]) -> Path:
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        content = header + array.tobytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return write


def _pictures(num: int, seed: int) -> NDArray[np.uint8]:
    """Ellipses with a hole, a far speck that does not belong to the garment, and grey values that tell pictures apart."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:28, :28]
    pictures = np.zeros((num, 28, 28), np.uint8)
    for picture in pictures:
        height, width = generator.uniform(5, 12, 2)
        distance = ((y - 13.5) / height) ** 2 + ((x - 13.5) / width) ** 2
        picture[distance <= 1] = generator.integers(40, 256, (distance <= 1).sum())
        picture[13:15, 13:15] = 0
        picture[0, 0] = 200
    return pictures


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory: pytest.TempPathFactory, write_idx: WriteIdx) -> Path:
    """80 training pictures (40 of them val) and 30 test pictures."""
    folder = tmp_path_factory.mktemp("idx")
    for stem, num in (("train", 80), ("t10k", 30)):
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", _pictures(num, seed=num))
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", (np.arange(num) % 10).astype(np.uint8))
    return folder
