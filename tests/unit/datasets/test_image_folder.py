from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from genrep.datasets.image_folder import read_image_folder
from genrep.types import IGNORE


def _fill(root: Path, names: list[str]) -> Path:
    """One small picture per name; the grey value tells it."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (number, number, number)).save(path)
    return root


SPLIT = ["train/cat/a.png", "train/cat/b.png", "train/dog/deep/c.png", "valid/dog/d.png", "test/cat/e.png"]


def _read(path: Path, split: str = "train", **options: object):
    return read_image_folder(path, split, image_size=(8, 12), **options)


def test_split_layout(tmp_path: Path) -> None:
    root = _fill(tmp_path, SPLIT)
    (train, problems), (val, _), (test, _) = (_read(root, split) for split in ("train", "val", "test"))
    assert problems == []
    assert train.class_names == val.class_names == test.class_names == ("cat", "dog")
    assert (train.label.tolist(), val.label.tolist(), test.label.tolist()) == ([0, 0, 1], [1], [0])
    assert train.pixels[:, 0, 0, 0].tolist() == [0, 1, 2]
    batch = train.batch(torch.tensor([2]))
    assert batch.image.shape == (1, 3, 8, 12) and batch.classes.tolist() == [[0, 1]]
    assert not batch.has_objects.any() and (batch.semantic_mask == IGNORE).all() and (batch.instance_mask == IGNORE).all()


def test_without_val_a_tenth_of_each_class_is_held_out(tmp_path: Path) -> None:
    root = _fill(tmp_path, [f"{name}/{number}.png" for name in ("a", "b") for number in range(30)])
    train, val = (_read(root, split)[0] for split in ("train", "val"))
    assert train.label.bincount().tolist() == [27, 27] and val.label.bincount().tolist() == [3, 3]
    assert set(train.pixels[:, 0, 0, 0].tolist()).isdisjoint(val.pixels[:, 0, 0, 0].tolist())
    with pytest.raises(ValueError, match=r"unknown split of .* `test`; known: train, val"):
        _read(root, "test")


def test_copies_in_several_classes_are_of_one_split(tmp_path: Path) -> None:
    """Of a small class the lowest tenth ends elsewhere than of a large one."""
    root = _fill(tmp_path, [f"large/{number}.png" for number in range(100)])
    (root / "small").mkdir()
    for number in range(0, 100, 5):
        shutil.copy(root / "large" / f"{number}.png", root / "small")
    (train, _), (val, _) = (_read(root, split) for split in ("train", "val"))
    of_small = [set(data.pixels[data.label == 1, 0, 0, 0].tolist()) for data in (train, val)]
    of_large = [set(data.pixels[data.label == 0, 0, 0, 0].tolist()) for data in (train, val)]
    assert of_small[0] and of_small[1] and of_small[0] < of_large[0] and of_small[1] < of_large[1]
    assert len(train) + len(val) == 120 and 10 <= len(of_large[1]) <= 12


def test_grey(tmp_path: Path) -> None:
    data, _ = _read(_fill(tmp_path, SPLIT), channels=1)
    assert data.pixels.shape == (3, 1, 8, 12)
    assert data.batch(torch.tensor([0])).image.shape == (1, 3, 8, 12)


def test_problems_are_named_and_the_rest_is_used(tmp_path: Path) -> None:
    root = _fill(tmp_path, [*SPLIT, "train/stray.png", "test/bird/z.png"])
    (root / "train/cat/a.png").write_bytes(b"not a picture")
    (root / "train/cat/notes.gif").touch()
    (root / "train/cat/.hidden.png").touch()
    (root / "train/fish").mkdir()
    data, problems = _read(root)
    assert data.class_names == ("bird", "cat", "dog", "fish") and data.label.tolist() == [1, 2]
    said = sorted(str(problem) for problem in problems)
    for text, line in zip(
        (
            "test/bird: class `bird` has no picture in train",
            "train/cat/a.png: cannot",
            "train/cat/notes.gif: not one of",
            "train/fish: a class",
            "train/stray.png: lies",
        ),
        said,
        strict=True,
    ):
        assert line.startswith(text)
    with pytest.raises(ValueError, match="test/bird: class"):
        _read(root, strict=True)


@pytest.mark.parametrize("content", [[], ["empty/"], ["cat/notes.txt"]])
def test_nothing_to_read_is_one_clear_line(tmp_path: Path, content: list[str]) -> None:
    for name in content:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"has no pictures; expected CLASS/\*\.jpg") as caught:
        _read(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="absent is not a folder"):
        _read(tmp_path / "absent")


def test_real_photos() -> None:
    shared = Path(os.environ.get("GENREP_SHARED_DATA", "/absent")) / "cifar10"
    if not shared.is_dir():
        pytest.skip("set GENREP_SHARED_DATA to the folder of the real sets")
    data, problems = read_image_folder(shared, "val", image_size=(32, 32), strict=True)
    assert problems == [] and data.label.bincount().tolist() == [200] * 10
