from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from genrep.datasets.arrays import cached_arrays


class Builder:
    """Counts how often it was needed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return {"a": torch.arange(1000), "b": torch.ones(3, 2, dtype=torch.bool)}


def _files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_second_time_comes_from_disk(tmp_path: Path) -> None:
    build = Builder()
    first, second = cached_arrays(tmp_path, "numbers", build), cached_arrays(tmp_path, "numbers", build)
    assert build.calls == 1
    for name, array in build().items():
        assert torch.equal(first[name], array)
        assert torch.equal(second[name], array)


def test_arrays_may_be_written_to_without_harm_to_the_cache(tmp_path: Path) -> None:
    build = Builder()
    cached_arrays(tmp_path, "numbers", build)["a"].zero_()
    assert torch.equal(cached_arrays(tmp_path, "numbers", build)["a"], torch.arange(1000))


@pytest.mark.parametrize("damage", ["cut", "flip", "delete", "manifest"])
def test_damaged_cache_is_rebuilt(tmp_path: Path, damage: str) -> None:
    build = Builder()
    cached_arrays(tmp_path, "numbers", build)
    array, manifest = next(p for p in _files(tmp_path) if p.name == "a.npy"), next(p for p in _files(tmp_path) if p.suffix == ".json")
    content = array.read_bytes()
    if damage == "cut":
        array.write_bytes(content[:-7])
    elif damage == "flip":
        array.write_bytes(content[:-1] + b"\x55")
    elif damage == "delete":
        array.unlink()
    else:
        manifest.write_text("[1, 2")
    assert torch.equal(cached_arrays(tmp_path, "numbers", build)["a"], torch.arange(1000))
    assert build.calls == 2
    cached_arrays(tmp_path, "numbers", build)
    assert build.calls == 2


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, Tensor]:
        raise ValueError("no pictures")

    with pytest.raises(ValueError, match="no pictures"):
        cached_arrays(tmp_path, "numbers", fail)
    assert _files(tmp_path) == []
