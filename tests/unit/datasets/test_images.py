from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.datasets.images import NothingToHoldOut, inside, of_split, of_split_by_class, read_picture


def _halves(top: tuple[int, ...], bottom: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (8, 8), top)
    image.paste(bottom, (0, 4, 8, 8))
    return image


def _save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def _colours(path: Path, channels: int = 3) -> tuple[list[int], list[int]]:
    pixels, _ = read_picture(path, (8, 8), channels)
    assert pixels.dtype == torch.uint8 and pixels.shape == (channels, 8, 8)
    return pixels[:, 0, 0].tolist(), pixels[:, -1, -1].tolist()


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    assert _colours(_save(_halves((10, 200, 30), (90, 5, 60)), tmp_path / f"a.{suffix}", **options)) == ([10, 200, 30], [90, 5, 60])


def test_exif_turns_the_picture_and_its_size(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned left: to be shown turned right by 90 degrees
    path = _save(image, tmp_path / "a.jpg", exif=exif, quality=95)
    pixels, size = read_picture(path, (8, 8), 3)
    assert size == (40, 20)
    assert pixels[2, 0, 4] > 200 and pixels[0, -1, 4] > 200


def test_large_jpeg_keeps_its_own_size(tmp_path: Path) -> None:
    path = _save(Image.new("RGB", (801, 403), (50, 100, 150)), tmp_path / "a.jpg")
    pixels, size = read_picture(path, (16, 24), 3)
    assert size == (403, 801) and pixels.shape == (3, 16, 24)
    assert (pixels.float().mean((1, 2)) - torch.tensor([50.0, 100.0, 150.0])).abs().max() < 3


def test_transparency_becomes_white(tmp_path: Path) -> None:
    assert _colours(_save(_halves((0, 0, 0, 0), (9, 8, 7, 255), "RGBA"), tmp_path / "a.png")) == ([255, 255, 255], [9, 8, 7])
    assert _colours(_save(_halves((0, 0), (9, 255), "LA"), tmp_path / "b.png")) == ([255, 255, 255], [9, 9, 9])


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = _halves((255, 0, 0), (0, 0, 255)).quantize(4)
    assert _colours(_save(image, tmp_path / "a.png")) == ([255, 0, 0], [0, 0, 255])
    red = image.getpixel((0, 0))
    assert _colours(_save(image, tmp_path / "b.png", transparency=red)) == ([255, 255, 255], [0, 0, 255])


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.full((8, 8), 65535, np.uint16)
    values[4:] = 257 * 100
    path = _save(Image.fromarray(values), tmp_path / "a.png")
    assert _colours(path) == ([255] * 3, [100] * 3)
    assert _colours(path, channels=1) == ([255], [100])


def test_every_value_of_sixteen_bits_goes_to_the_nearest_of_eight(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels, _ = read_picture(_save(Image.fromarray(values), tmp_path / "a.png"), (256, 256), 1)
    assert (pixels[0].numpy() == (values / 257).round()).all()


@pytest.mark.parametrize("mode", ["1", "L", "CMYK"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    path = _save(_halves((255, 255, 255), (0, 0, 0)).convert(mode), tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    assert torch.tensor(_colours(path)).sub(torch.tensor([[255] * 3, [0] * 3])).abs().max() < 12


def test_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    for side in (8_100, 30_000):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        path = tmp_path / "bomb.png"
        picture = struct.pack(">I", 4) + b"IDAT" + bytes(8)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + picture)
        with pytest.raises(ValueError, match="more than 64000000 pixels"):
            read_picture(path, (8, 8), 3)


def test_formats_outside_the_list_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    _halves((1, 2, 3), (4, 5, 6)).save(path, format="GIF")
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        read_picture(path, (8, 8), 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path: Path, suffix: str) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(generator.integers(0, 256, (24, 24, 3)).astype(np.uint8)).save(path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(100):
        damaged = content[: generator.integers(1, len(content) + 1)].copy()
        damaged[generator.integers(0, len(damaged), 4)] = generator.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            read_picture(path, (8, 8), 3)
        except ValueError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.png", "a/../../up.png", "", "a\0.png", "..", "C:\\a.png", "link/secret.png"])
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.png").touch()
    (root / "link").symlink_to(outside)
    with pytest.raises(ValueError, match="refused"):
        inside(root, name)
    assert inside(root, "a/b.png") == root / "a" / "b.png"


def test_held_out_files_follow_their_content(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.jpg" for number in range(40)]
    for number, file in enumerate(files):
        file.write_text(str(number // 2))
    train, val, test = (of_split(files, split, lambda file: file) for split in ("train", "val", "test"))
    assert len(val) == 4 and sorted([*train, *val]) == sorted(files) and test == files
    numbers = {int(file.stem) // 2 for file in val}
    assert val == [file for file in files if int(file.stem) // 2 in numbers]
    apart = of_split_by_class([files[:20], files[20:]], "val", lambda file: file)
    assert apart == [of_split(some, "val", lambda file: file) for some in (files[:20], files[20:])], "without copies each class is as if alone"
    both = of_split_by_class([files[:4], files], "val", lambda file: file)
    assert both[0] == [file for file in files[:4] if file in both[1]] != [] and set(val) <= set(both[1])
    assert len(of_split(files[1:3], "val", lambda file: file)) == 1 and of_split([], "val", lambda file: file) == []
    for alike in (files[:1], files[:2]):
        assert of_split(alike, "train", lambda file: file) == alike
        with pytest.raises(NothingToHoldOut):
            of_split(alike, "val", lambda file: file)
