"""A user's image files: found, read safely, brought to the model's size, and what was done to them is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.cli.images import find_images, read_picture
from genrep.cli.runs import numbered
from genrep.datasets import images


def write_image(path: Path, size: tuple[int, int] = (32, 32), mode: str = "L") -> Path:
    channels = () if mode == "L" else (3,)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, *channels), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_grey_image_of_the_right_size_is_left_alone(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")
    picture = read_picture(path, (32, 32), grey=True)
    assert picture.changes == ""
    bytes_back = ((picture.image + 1) * 127.5).round().to(torch.uint8)
    assert np.array_equal(bytes_back.numpy(), np.broadcast_to(np.asarray(Image.open(path)), (3, 32, 32)))


def test_colour_becomes_grey_and_sizes_fit(tmp_path: Path) -> None:
    picture = read_picture(write_image(tmp_path / "a.jpg", (50, 40), "RGB"), (32, 24), grey=True)
    assert picture.changes == "made grey, resized from 50 x 40 to 32 x 24"
    assert picture.size == (50, 40)
    assert picture.image.shape == (3, 32, 24)
    assert torch.equal(picture.image[0], picture.image[1])
    assert read_picture(tmp_path / "a.jpg", (50, 40), grey=False).changes == ""


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40], ids=["empty", "text", "broken"])
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png: cannot be read"):
        read_picture(path, (32, 32), grey=True)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"a\.png: cannot be read"):
        read_picture(path, (32, 32), grey=True)


def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"a\.png: .*32 x 32 are more than 1000 pixels"):
        read_picture(write_image(tmp_path / "a.png"), (32, 32), grey=True)


def test_folders_files_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    b, a = write_image(tmp_path / "b.png"), write_image(tmp_path / "a.JPG")
    (tmp_path / "notes.txt").write_text("")
    assert find_images([tmp_path, b]) == [a, b, b]
    with pytest.raises(ValueError, match="empty has no images"):
        find_images([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError, match=r"c\.png does not exist"):
        find_images([tmp_path / "c.png"])


def test_outputs_of_equal_names_do_not_collide() -> None:
    assert numbered(["x", "x_2", "x"]) == ["x", "x_2", "x_3"]
