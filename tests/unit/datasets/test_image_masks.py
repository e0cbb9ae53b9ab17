"""Pictures with masks of the same name: what an index means, what is unlabelled, and what is wrong."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from own_folders import write_masks
from PIL import Image

from genrep.datasets import check_data, read_folder, splits_of
from genrep.types import IGNORE, UNLABELLED

SIZE = (24, 32)


def test_an_index_is_a_class_and_255_is_ignored(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "set")
    assert splits_of(root) == ("train", "val")
    data, problems = read_folder(root, "train", image_size=SIZE)
    val, _ = read_folder(root, "val", image_size=SIZE)
    assert problems == [] and data.class_names == ("blue", "green") and (len(data), len(val)) == (18, 2)
    assert (data.semantic_mask[:, :, :2] == IGNORE).all() and not data.has_objects.any() and (data.instance_mask == IGNORE).all()
    for pixels, mask, label in zip(data.pixels, data.semantic_mask, data.label, strict=True):
        assert torch.equal(mask.unique(), torch.tensor([0, int(label) + 1, IGNORE], dtype=torch.uint8))
        colour = pixels[:, mask == int(label) + 1].float().mean(1)
        assert int(colour.argmax()) == (2, 1)[int(label)], "blue is mostly blue, green mostly green"


@pytest.mark.parametrize(
    ("names", "classes", "of_zero"),
    [("", ("1", "2"), 0), ("soil\nblue\ngreen\n", ("soil", "blue", "green"), 1), ("background\nblue\ngreen\nred\n", ("blue", "green", "red"), 0)],
)
def test_index_0_is_background_unless_it_has_a_name(tmp_path: Path, names: str, classes: tuple[str, ...], of_zero: int) -> None:
    data, _ = read_folder(write_masks(tmp_path / "set", names=names), "train", image_size=SIZE)
    assert data.class_names == classes and int(data.semantic_mask[:, 0, 31].mode().values) == of_zero


@pytest.mark.parametrize("folders", ["images/{}", "{}/images"])
def test_splits_are_folders_within_or_without(tmp_path: Path, folders: str) -> None:
    for split in ("train", "valid", "test"):
        write_masks(tmp_path / split, num=4)
        for what in ("images", "masks"):
            target = tmp_path / "set" / folders.format(split).replace("images", what)
            target.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / split / what).rename(target)
    assert splits_of(tmp_path / "set") == ("train", "val", "test")
    assert check_data(tmp_path / "set").num_images == {"train": 4, "val": 4, "test": 4}


def _grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey png of few bits, which Pillow reads and does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape
    each = (values[..., None] >> np.arange(bits)[::-1]) & 1
    rows = b"".join(b"\0" + np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in each)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("bits", "last"), [(1, 1), (2, 3), (4, 13), (8, 13)])
def test_masks_of_few_bits_have_the_indices_that_are_stored(tmp_path: Path, bits: int, last: int) -> None:
    root = write_masks(tmp_path / "set", num=4, names="")
    values = np.broadcast_to(np.arange(32) % (last + 1), (24, 32))
    for number in range(4):
        (root / "masks" / f"{number}.png").write_bytes(_grey_png(values, bits))
    data, problems = read_folder(root, "train", image_size=SIZE)
    assert data.class_names == tuple(map(str, range(1, last + 1))) and problems == []
    assert torch.equal(data.semantic_mask[0].long(), torch.tensor(values))


def test_a_new_pixel_is_what_most_of_it_is(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "set", num=4)
    mask = np.zeros((24, 32), np.uint8)
    mask[:3, :3], mask[:, 16:] = 2, 1
    for number in range(4):
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    data, _ = read_folder(root, "train", image_size=(6, 8))
    expected = torch.zeros(6, 8, dtype=torch.uint8)
    expected[0, 0], expected[:, 4:] = 2, 1
    assert torch.equal(data.semantic_mask[0], expected)
    assert (data.label == UNLABELLED).all(), "two classes"


@pytest.mark.parametrize(
    ("spoil", "says", "kept", "fixed", "dropped"),
    [
        (lambda root: (root / "masks/3.png").unlink(), "images/3.png: has no mask, nor have 0 others", 20, 0, 0),
        (lambda root: (root / "images/3.png").unlink(), "masks/3.png: is no png with the name of a picture in images; left out", 19, 0, 1),
        (lambda root: (root / "images/3.png").write_bytes(b"x"), "images/3.png: cannot be read as a picture", 19, 0, 1),
        (lambda root: (root / "masks/3.png").write_bytes(b"x"), "masks/3.png: cannot be read as 8-bit grey or palette", 20, 1, 0),
        (lambda root: Image.new("L", (8, 8)).save(root / "masks/3.png"), "is 8 x 8 px, mode L; expected 24 x 32 px of 8-bit grey", 20, 1, 0),
        (lambda root: Image.new("RGB", (32, 24)).save(root / "masks/3.png"), "mode RGB; expected 24 x 32 px of 8-bit grey or palette", 20, 1, 0),
        (
            lambda root: Image.new("L", (32, 24), 9).save(root / "masks/3.png"),
            "masks/3.png: index 9 is no class (known: 0 to 2); its pixels are ignored",
            20,
            1,
            0,
        ),
        (lambda root: (root / "masks/notes.txt").write_text("x"), "masks/notes.txt: is no png", 20, 0, 1),
    ],
)
def test_what_is_wrong_is_named_and_counted(tmp_path: Path, spoil, says: str, kept: int, fixed: int, dropped: int) -> None:
    root = write_masks(tmp_path / "set")
    spoil(root)
    report = check_data(root)
    assert sum(report.num_images.values()) == kept and len(report.problems) == 1 and says in str(report.problems[0])
    assert report.tally == f"kept {kept} pictures and 0 objects, fixed {fixed}, dropped {dropped}"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("background\n", "name no class"),
        ("a\na\n", "names `a` twice"),
        ("\n".join(map(str, range(300))), "300 names; at most 254"),
        (b"\xff\xfe\xfa", "is not text"),
    ],
)
def test_names_that_cannot_be_are_one_line(tmp_path: Path, names: str | bytes, says: str) -> None:
    root = write_masks(tmp_path / "set", num=4)
    (root / "classes.txt").write_bytes(names if isinstance(names, bytes) else names.encode())
    with pytest.raises(ValueError, match=says) as caught:
        read_folder(root, "train", image_size=SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("index", "rows", "is_known"), [(255, 21, False), (255, 2, True), (9, 2, False)])
def test_a_class_is_the_label_where_little_else_can_be_there(tmp_path: Path, index: int, rows: int, is_known: bool) -> None:
    """Of 24 rows most are ignored, or a border is, or some are of a class that has no name."""
    root = write_masks(tmp_path / "set", num=4)
    for number in range(4):
        mask = np.ones((24, 32), np.uint8)
        mask[:rows] = index
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    data, _ = read_folder(root, "train", image_size=SIZE)
    assert data.label.unique().tolist() == [0 if is_known else UNLABELLED]
    assert (data.batch(torch.arange(len(data))).class_sets[1] == is_known).all()


def test_masks_of_0_and_255_alone_say_what_to_write(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "set", num=4, names="")
    for number in range(4):
        Image.new("L", (32, 24), 255).save(root / "masks" / f"{number}.png")
    with pytest.raises(ValueError, match=r"name no class: 0 is background, 255 ignored, 1 to 254 classes"):
        read_folder(root, "train", image_size=SIZE)


def test_pictures_of_several_classes_are_counted_by_their_masks(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "set", num=4)
    for number in range(4):
        mask = np.zeros((24, 32), np.uint8)
        mask[:12], mask[12:, 16 * (number % 2) :] = 1, 2
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    assert check_data(root).num_per_class["train"] == {"blue": 3, "green": 3}
