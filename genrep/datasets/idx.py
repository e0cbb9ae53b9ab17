"""The idx format of MNIST and its kin: a magic number, the sizes, then bytes; plain or gzipped."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GZIP_MAGIC = b"\x1f\x8b"
UINT8_CODE = 0x08


def read_content(path: Path) -> bytes:
    """The bytes of a file, decompressed if it is gzipped (its first bytes decide, not its name).

    Raises:
        ValueError: the compressed stream is damaged or ends early.
    """
    raw = path.read_bytes()
    if not raw.startswith(GZIP_MAGIC):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error}); fetch it again.") from error


def content_sha256(path: Path) -> str:
    """sha256 of the decompressed content, so that recompressed copies count as equal."""
    return hashlib.sha256(read_content(path)).hexdigest()


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an idx file of unsigned bytes.

    Layout: 0, 0, type code (8 = unsigned byte), number of dimensions d, d big-endian int32 sizes, the bytes in C order.

    Raises:
        ValueError: not an idx file of bytes, or shorter or longer than its header says.
    """
    content = read_content(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UINT8_CODE:
        raise ValueError(f"{path}: not an idx file of unsigned bytes; expected to start with 00 00 08, found {content[:3].hex(' ') or 'nothing'}.")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[:start].ljust(start, b"\0"), ">i4")[1:])
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise ValueError(f"{path}: the header announces sizes {shape}, {expected} bytes in all; found {len(content)}. Fetch it again.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
