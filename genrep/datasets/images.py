"""Pictures from a user's files: few formats, upright, 8 bits, without transparency; whatever cannot be read is a ValueError."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from genrep.datasets.base import MOST_CLASSES

Item = TypeVar("Item")

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
"""The file formats that are read, by suffix; what decides is the content."""

UNREAD = (".avif", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".tif", ".tiff")
"""Those of pictures in other formats."""

MAX_PIXELS = 64_000_000
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations in which rows are stored as columns."""
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
"""Names of splits as folders and annotation files write them."""
ALSO_SPLITS = {"dev": ("val", "test"), "eval": ("test", "val"), "evaluation": ("test", "val")}
"""Names that mean a split beside train: the first of two that nothing else is called."""
TOLD_SPLITS = SPLITS | {name: meant[0] for name, meant in ALSO_SPLITS.items()}
"""What a column or a file name says, which nothing else can be meant by."""

BACKGROUND = ("background", "_background_", "__background__")
"""Names of index 0 in lists of classes."""

VAL_SHARE = 0.1
"""Of the training pictures, where there is no val."""


def is_picture(path: Path) -> bool:
    """Whether the name promises a picture in one of the FORMATS."""
    return path.suffix.lower() in FORMATS and path.is_file()


def unread(folder: Path) -> list[Path]:
    """The files of a folder whose names promise a picture in another format, which is to be said."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in UNREAD and not file.name.startswith("."))


def read_picture(file: Path | bytes, size: tuple[int, int], channels: int) -> tuple[UInt8[Tensor, "c h w"], tuple[int, int]]:
    """A picture, a file or its content, shrunk or stretched to `size`, and its own (height, width).

    It is turned upright as its EXIF says, and laid over white where it is transparent; 16 bits are scaled to 8; of an animation
    it is the first picture.

    Raises:
        ValueError: not a picture in one of the FORMATS, damaged, or of more than MAX_PIXELS, which the header tells before
            anything is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is either decided here or harmless
            return _read(file, size, channels)
    except Image.DecompressionBombError as error:
        raise ValueError(f"more than {MAX_PIXELS} pixels") from error
    except Exception as error:  # decoders raise almost anything on damaged files
        if isinstance(error, UnidentifiedImageError):  # which names an address in memory where there is no file
            raise ValueError(f"cannot be read as a picture (of no known format; formats: {', '.join(dict.fromkeys(FORMATS.values()))})") from error
        raise ValueError(f"cannot be read as a picture ({' '.join(str(error).split()) or type(error).__name__})") from error


def _read(file: Path | bytes, size: tuple[int, int], channels: int) -> tuple[Tensor, tuple[int, int]]:
    with opened_picture(file) as opened:
        own = upright_size(opened)
        opened.draft(None, (2 * max(size), 2 * max(size)))  # a JPEG may be decoded at a fraction of its size
        pixels = stretched(_eight_bits(ImageOps.exif_transpose(opened)), size, channels)
    return pixels, own


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """(height, width) of an opened picture, turned as its EXIF says."""
    width, height = picture.size
    return (width, height) if picture.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS else (height, width)


def is_turned(file: Path | bytes) -> bool:
    """Whether a picture is stored otherwise than it is seen, by its EXIF; False of one that cannot be read."""
    try:
        with opened_picture(file) as opened:
            return opened.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # decoders raise almost anything on damaged files, which the reader names
        return False


def opened_picture(file: Path | bytes) -> Image.Image:
    """A picture in one of the FORMATS, of which nothing but the header is read yet; decoders raise almost anything on damaged ones.

    Raises:
        ValueError: of more than MAX_PIXELS.
    """
    opened = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=sorted(set(FORMATS.values())))
    if opened.width * opened.height > MAX_PIXELS:
        opened.close()
        raise ValueError(f"{opened.width} x {opened.height} are more than {MAX_PIXELS} pixels")
    return opened


def stretched(image: Image.Image, size: tuple[int, int], channels: int) -> UInt8[Tensor, "c h w"]:
    """An opaque picture of 8 bits a channel, shrunk or stretched."""
    resized = image.convert("L" if channels == 1 else "RGB").resize(size[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).view(*size, channels).permute(2, 0, 1).contiguous()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Opaque, 8 bits a channel."""
    if image.mode.startswith("I"):
        values = np.array(image, np.int32)
        np.clip(values, 0, 65535, out=values)
        values += 128  # to the nearest of 255 steps of 257
        values //= 257
        return Image.fromarray(values.astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def read_png(path: Path, modes: tuple[str, ...], *, own: tuple[int, int], expected: str) -> NDArray[Any]:
    """The values of a png that lies beside a picture: as they are stored, in however few bits, a palette's as indices.

    Args:
        modes: Pillow's names of those that will do.
        own: (height, width) that it must have, which its header tells before anything is decoded.
        expected: what must be in it, for the message.
    Raises:
        ValueError: no png, damaged, or of another mode or size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=["PNG"]) as opened:
                mode, found = opened.mode, (opened.height, opened.width)
                if mode in modes and found == own:
                    values = np.asarray(opened)
                    return values // _step(path) if mode == "L" else values
    except Exception as error:  # decoders raise almost anything on damaged files
        raise ValueError(f"cannot be read as {expected} ({' '.join(str(error).split()) or type(error).__name__})") from error
    raise ValueError(f"is {found[0]} x {found[1]} px, mode {mode}; expected {own[0]} x {own[1]} px of {expected}")


def _step(path: Path) -> int:
    """By how much Pillow multiplies the values of a grey png: those of 2 and of 4 bits reach up to 255, too."""
    with path.open("rb") as file:
        return {2: 85, 4: 17}.get(file.read(25)[24], 1)


def read_names(path: Path) -> list[str]:
    """Class names, one a line; empty where there is no such file.

    Raises:
        ValueError: not text, one twice, or more than a mask can tell apart.
    """
    if not path.is_file():
        return []
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except ValueError as error:
        raise ValueError(f"{path} is not text; expected one class name a line.") from error
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path} names `{twice[:60]}` twice; expected one class name a line, each once.")
    if len(names) > MOST_CLASSES:
        raise ValueError(f"{path} has {len(names)} names; at most {MOST_CLASSES} classes can be told apart.")
    return names


def without_background(names: Sequence[str]) -> tuple[str, ...]:
    """The classes of a list that may begin with the background.

    >>> without_background(["Background", "cat"])
    ('cat',)
    """
    return tuple(names[1:] if names and names[0].casefold() in BACKGROUND else names)


def split_called(name: str) -> str | None:
    """Which split a folder of this name is, in capitals or not; None: none.

    >>> split_called("Valid"), split_called("cats")
    ('val', None)
    """
    return SPLITS.get(name.lower())


def split_folders(path: Path) -> dict[Path, str]:
    """The folders in a folder that are called as splits, and which they are; beside a train also those of ALSO_SPLITS."""
    folders = [child for child in sorted(path.iterdir()) if child.is_dir()]
    found = {child: split for child in folders if (split := split_called(child.name))}
    for child in folders if "train" in found.values() else ():
        free = [split for split in ALSO_SPLITS.get(child.name.lower(), ()) if split not in found.values()]
        found |= {child: free[0]} if free else {}
    return found


def inside(root: Path, name: str) -> Path:
    """The file `name` under `root`.

    Raises:
        ValueError: it is absolute, climbs with `..`, or is a link that leads outside.
    """
    if not name or "\0" in name or "\\" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"`{name!r}` is not a plain path below the data folder; refused")
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"`{name}` leads outside the data folder; refused")
    return path


def existing_folder(path: Path) -> Path:
    """The folder a user named.

    Raises:
        ValueError: there is none.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; name one that holds pictures or COCO annotations.")
    return path


def with_val(found: Mapping[str, Item]) -> dict[str, Item]:
    """By split what is found, train in the place of val where there is none: a part of it will be held out (`of_split`).

    >>> with_val({"test": 1, "train": 2})
    {'train': 2, 'val': 2, 'test': 1}
    """
    every = {"val": found["train"], **found} if "train" in found else found
    return {split: every[split] for split in ("train", "val", "test") if split in every}


class NothingToHoldOut(ValueError):
    """Of the training pictures none can be val."""


def of_split(items: Sequence[Item], split: str, file: Callable[[Item], Path | bytes]) -> list[Item]:
    """What of the training pictures is train, or val: about VAL_SHARE, one of two at least, by the files' content, copies together; all of another split."""
    return of_split_by_class([items], split, file)[0]


def of_split_by_class(classes: Sequence[Sequence[Item]], split: str, file: Callable[[Item], Path | bytes]) -> list[list[Item]]:
    """As `of_split` the pictures of each class; one with copies in several classes is val in all of them if it is so in one.

    Raises:
        NothingToHoldOut: val of pictures of which no class has two that differ.
    """
    if split not in ("train", "val"):
        return [list(items) for items in classes]
    digests = [[_digest(file(item)) for item in items] for items in classes]
    val = {digest for some in digests for digest in _lowest(some)}
    if split == "val" and not val and any(digests):
        raise NothingToHoldOut("no split `val`, and too few pictures to hold any out of train: a class needs two at least, unlike each other. Add some.")
    return [
        [item for item, digest in zip(items, some, strict=True) if (digest in val) == (split == "val")] for items, some in zip(classes, digests, strict=True)
    ]


def _digest(file: Path | bytes) -> str:
    return hashlib.sha256(file if isinstance(file, bytes) else file.read_bytes()).hexdigest()


def _lowest(digests: list[str]) -> list[str]:
    return sorted(digests)[: max(1, round(VAL_SHARE * len(digests)))] if len(set(digests)) > 1 else []
