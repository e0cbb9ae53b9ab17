"""Prepared arrays on disk: written once under a name that says all they depend on, checked when read, rebuilt if broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genrep.storage import verify_folder, write_folder

FORMAT_VERSION = 1
"""To be raised whenever the same name would hold other numbers."""


def cached_arrays(cache: Path, name: str, build: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The arrays called `name`, from the cache or else from `build`, which then fills the cache.

    A folder of .npy files under a manifest of their sha256. It appears by one rename, so it is whole or absent; one that was
    damaged later is noticed and built again. Arrays are memory-mapped copy-on-write.
    """
    folder = cache / "arrays" / f"{name}-v{FORMAT_VERSION}"
    if not _is_whole(folder):
        arrays = build()
        try:
            write_folder(folder, lambda made: _save(made, arrays))
        except OSError:
            if not _is_whole(folder):  # else another process was faster
                raise
    return {path.stem: torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False)) for path in sorted(folder.glob("*.npy"))}


def _is_whole(folder: Path) -> bool:
    try:
        verify_folder(folder)
    except (OSError, ValueError, AttributeError):
        return False
    return True


def _save(folder: Path, arrays: Mapping[str, Tensor]) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.numpy(), allow_pickle=False)
