"""Image files of a user: found, read safely, and brought to what the model takes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 64_000_000
"""Larger images are refused from their header."""


@dataclass(frozen=True)
class Picture:
    """An image file as the model sees it."""

    path: Path
    image: Float[Tensor, "3 h w"]
    """RGB pixels in [-1, 1], of the model's size."""
    size: tuple[int, int]
    """(height, width) of the file, in pixels."""
    changes: str
    """What was done to it, in words; empty: nothing."""


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Files as given, folders by their images, sorted.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise ValueError(f"{path} has no images; expected files ending in {', '.join(SUFFIXES)}.")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path} does not exist.")
    return found


def read_picture(path: Path, size: tuple[int, int], *, grey: bool) -> Picture:
    """An image file at the model's (height, width).

    Raises:
        ValueError: not an image of a known format, damaged, or too large.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=FORMATS) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise ValueError(f"{file.width} x {file.height} pixels are more than {MAX_PIXELS}")
                return _picture(path, file, size, grey=grey)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} cannot be read: {error}.") from None


def _picture(path: Path, file: Image.Image, size: tuple[int, int], *, grey: bool) -> Picture:
    original, changes = (file.height, file.width), []
    pixels = file.convert("RGB")
    if grey:
        coloured, pixels = pixels, pixels.convert("L").convert("RGB")
        changes += ["made grey"] if coloured.tobytes() != pixels.tobytes() else []
    if original != size:
        pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        changes.append(f"resized from {original[0]} x {original[1]} to {size[0]} x {size[1]}")
    return Picture(path, pil_to_tensor(pixels).float() / 127.5 - 1, original, ", ".join(changes))


def save_mask(mask: UInt8[Tensor, "h w"], size: tuple[int, int], path: Path) -> Path:
    """Write a mask as a grey PNG of (height, width)."""
    Image.fromarray(mask.numpy()).resize((size[1], size[0]), Image.Resampling.NEAREST).save(path)
    return path
