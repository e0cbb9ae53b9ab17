"""Image files of a user: found, read as training reads them, and brought to what the model takes."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from genrep.datasets.images import FORMATS, is_picture
from genrep.datasets.images import read_picture as read_pixels

if TYPE_CHECKING:
    from genrep.model import GenRep


@dataclass(frozen=True)
class Picture:
    """An image file as the model sees it."""

    path: Path
    image: Float[Tensor, "3 h w"]
    """RGB pixels in [-1, 1], of the model's size."""
    size: tuple[int, int]
    """(height, width) of the file, upright, in pixels."""
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
            inside = sorted(p for p in path.iterdir() if is_picture(p))
            if not inside:
                raise ValueError(f"{path} has no images; expected files ending in {', '.join(FORMATS)}.")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path} does not exist.")
    return found


def read_picture(path: Path, size: tuple[int, int], *, grey: bool, content: bytes | None = None) -> Picture:
    """An image file at the model's (height, width), upright and opaque.

    Args:
        content: of a file that was sent, and is read nowhere; `path` is then what it is called.
    Raises:
        ValueError: not an image of a known format, damaged, or too large; the file is named.
    """
    file = path if content is None else content
    try:
        pixels, own = read_pixels(file, size, 3)
        coloured = bool((pixels != pixels[:1]).any())
        if grey and coloured:
            pixels = read_pixels(file, size, 1)[0].expand(3, -1, -1)
    except ValueError as error:
        raise ValueError(f"{path}: {error}.") from None
    changes = ["made grey"] if grey and coloured else []
    changes += [f"resized from {own[0]} x {own[1]} to {size[0]} x {size[1]}"] if own != size else []
    return Picture(path, pixels.float() / 127.5 - 1, own, ", ".join(changes))


def read_all(paths: list[Path], model: GenRep) -> tuple[list[Picture], dict[str, str]]:
    """The pictures that can be read, and why the others cannot; both are said on the screen.

    Raises:
        ValueError: none can be read.
    """
    pictures, skipped = [], {}
    for path in paths:
        try:
            picture = read_picture(path, model.image_size, grey=model.config.codec == "grey")
        except ValueError as error:
            skipped[str(path)] = str(error)
            print(f"skipped: {error}", file=sys.stderr)
            continue
        pictures.append(picture)
        if picture.changes:
            print(f"{path}: {picture.changes}")
    if not pictures:
        raise ValueError(f"none of the {len(paths)} files can be read as an image.")
    return pictures, skipped


def own_index(images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, " b"]:
    """The index of each picture's random numbers: of its pixels, so that a file's figures do not depend on which files stand before it."""
    return torch.tensor([zlib.crc32(image.numpy().tobytes()) for image in images])


def save_depth(inv_depth: Float[Tensor, "h w"], size: tuple[int, int], path: Path, *, metric: bool) -> Path:
    """Write a map of inverse depth as a 16-bit grey PNG of (height, width): millimetres, 0 for more than 65 m; of relative depth 0 (far) to 65,535 (near)."""
    resized = F.interpolate(inv_depth[None, None].double(), size=size, mode="bilinear", align_corners=False)[0, 0]
    values = 1000 / resized.clamp(min=1e-9) if metric else resized * 65_535
    Image.fromarray(torch.where(values < 65_535.5, values, 0).round().to(torch.int32).numpy().astype("uint16")).save(path)
    return path


def mask_png(mask: UInt8[Tensor, "h w"], size: tuple[int, int]) -> bytes:
    """A mask as the content of a grey PNG file of (height, width)."""
    content = io.BytesIO()
    Image.fromarray(mask.numpy()).resize((size[1], size[0]), Image.Resampling.NEAREST).save(content, format="PNG")
    return content.getvalue()
