from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genrep.datasets.idx import content_sha256, read_idx


@pytest.mark.parametrize("name", ["numbers", "numbers.gz"])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 2), (0, 28, 28)])
def test_round_trip(tmp_path: Path, write_idx, name: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(read_idx(write_idx(tmp_path / name, array)), array)


def test_sha256_is_of_the_content_not_of_its_compression(tmp_path: Path, write_idx) -> None:
    array = np.arange(7, dtype=np.uint8)
    assert content_sha256(write_idx(tmp_path / "a", array)) == content_sha256(write_idx(tmp_path / "a.gz", array))


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\x89PNG\r\n", b"\0\0\x0d\x01\0\0\0\0"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="other: not an idx file"):
        read_idx(path)


@pytest.mark.parametrize("keep", [6, 8, -1])
def test_truncated_file_is_refused(tmp_path: Path, write_idx, keep: int) -> None:
    path = write_idx(tmp_path / "numbers", np.ones((4, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="the header announces"):
        read_idx(path)


def test_truncated_gzip_is_refused(tmp_path: Path, write_idx) -> None:
    path = write_idx(tmp_path / "numbers.gz", np.ones((4, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged gzip"):
        read_idx(path)
