"""What real folders are like: capitals, spaces, marks of Windows, pictures of phones, and folders that are no classes."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path

import pytest
import torch
from own_folders import write_boxes, write_masks, write_voc
from PIL import ExifTags, Image

from genrep.datasets import check_data, read_folder, splits_of
from genrep.datasets.folders import recognise
from genrep.datasets.glance import glance
from genrep.datasets.images import NothingToHoldOut

SIZE = (24, 32)
MARK = b"\xef\xbb\xbf"
"""What Windows puts before a text."""


def photos(root: Path, *folders: str) -> Path:
    """Six pictures of each of two classes in every folder."""
    for i, (folder, name) in enumerate(product(folders, ("cat", "dog"))):
        (root / folder / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 6), (20 * i, 20 * number, 0)).save(root / folder / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Test"),
        ("train", "Test"),
        ("TRAIN", "VALID", "test"),
        ("training", "validation", "testing"),
        ("train", "dev", "eval"),
        ("train", "Eval", "test"),
    ],
)
def test_splits_may_be_called_in_capitals(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = photos(tmp_path / "set", *names)
    found = check_data(root)
    assert found.layout == "image-folder" and not found.problems and sum(found.num_images.values()) == 12 * len(names)
    assert set(found.num_per_class["train"]) == set(check_data(photos(tmp_path / "plain", "train")).num_per_class["train"])


def test_names_that_may_be_splits_are_classes_where_there_is_no_train(tmp_path: Path) -> None:
    assert set(check_data(photos(tmp_path / "set", "dev/deep", "eval/low")).num_per_class["train"]) == {"dev", "eval"}
    found = check_data(photos(tmp_path / "all", "train", "val", "test", "dev"))
    assert {split: sum(found.num_per_class[split].values()) for split in found.num_images} == {"train": 12, "val": 12, "test": 12}
    assert sum(problem.num_dropped for problem in found.problems) == 12, "a fourth split"
    with pytest.raises(ValueError, match=r"train and .*training are both train; put the pictures of one into the other"):
        check_data(photos(tmp_path / "twice", "train", "training"))


@pytest.mark.parametrize("folders", [("photos",), ("part 1", "part 2"), ("train/photos", "test/photos")])
def test_classes_that_lie_too_deep_are_said(tmp_path: Path, folders: tuple[str, ...]) -> None:
    root = photos(tmp_path / "set", *folders)
    with pytest.raises(ValueError, match=r"the classes would be (photos|part 1, part 2), which hold no pictures but folders: cat, dog\. If these") as caught:
        check_data(root)
    assert "\n" not in str(caught.value)
    Image.new("RGB", (8, 6)).save(root / folders[0] / "more.png")
    assert recognise(root) == "image-folder"


def test_classes_may_have_folders_of_their_own(tmp_path: Path) -> None:
    root = tmp_path / "set"
    photos(root / "animal", ".")
    photos(root / "thing", ".")
    (root / "thing" / "cat").rename(root / "thing" / "car")
    (root / "thing" / "dog").rename(root / "thing" / "bus")
    assert set(check_data(root).num_per_class["train"]) == {"animal", "thing"}
    for split, name in (("train", "animal"), ("train", "thing"), ("val", "animal")):
        shutil.copytree(root / name, tmp_path / "splits" / split / name)
    assert check_data(tmp_path / "splits").num_images == {"train": 24, "val": 12}, "one class in val is none too deep"


def test_what_lies_in_no_split_is_said_however_deep(tmp_path: Path) -> None:
    root = photos(tmp_path / "set", "train", "holiday")
    found = check_data(root)
    assert sum(problem.num_dropped for problem in found.problems) == 12
    assert all(problem.where.startswith("holiday/") for problem in found.problems)


def test_hidden_folders_and_those_of_runs_hold_no_pictures(tmp_path: Path) -> None:
    root = photos(tmp_path / "set", ".")
    num = sum(check_data(root).num_images.values())
    first = next(folder for folder in sorted(root.iterdir()) if folder.is_dir())
    shutil.copytree(first, root / "__MACOSX" / first.name)
    shutil.copytree(first, tmp_path / "kept")
    shutil.move(tmp_path / "kept", first / ".ipynb_checkpoints")
    run = root / "runs" / "set-2026-11-28"
    shutil.copytree(first, run / "samples")
    (run / "command.txt").write_text("genrep train .\n")
    found = check_data(root)
    assert sum(found.num_images.values()) == num and set(found.num_per_class["train"]) == {"cat", "dog"}


@pytest.mark.parametrize("second", ["masks", "labels", "Annotations"])
def test_folders_of_other_layouts_are_no_classes(tmp_path: Path, second: str) -> None:
    root = tmp_path / "set"
    photos(root, ".")
    (root / "cat").rename(root / "images")
    (root / "dog").rename(root / second)
    for file in sorted((root / second).iterdir()):
        file.rename(file.with_stem(f"{file.stem}_mask"))
    with pytest.raises(ValueError, match="but nothing that says what they show; expected"):
        recognise(root)


def test_masks_may_end_in_capitals(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "set")
    plain = read_folder(root, "train", image_size=SIZE)[0]
    for mask in sorted((root / "masks").rglob("*.png")):
        mask.rename(mask.with_suffix(".PNG"))
    data, problems = read_folder(root, "train", image_size=SIZE)
    assert problems == [] and torch.equal(data.semantic_mask, plain.semantic_mask)


def test_masks_of_0_and_255_hold_no_class(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "set")
    for mask in sorted((root / "masks").rglob("*.png")):
        with Image.open(mask) as opened:
            picture = opened.convert("L").point(lambda value: 255 * (value > 0))
        picture.save(mask)
    (problem,) = {problem.what for problem in check_data(root).problems}
    assert "hold no class, only 0, the background, and 255, which is ignored; write 1, 2, ..." in problem


def test_texts_may_begin_with_a_mark(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "masks")
    (root / "classes.txt").write_bytes(MARK + (root / "classes.txt").read_bytes())
    assert read_folder(root, "train", image_size=SIZE)[0].class_names == ("blue", "green")
    boxes = write_boxes(tmp_path / "boxes")
    plain = check_data(boxes)
    for file in sorted(boxes.rglob("*.json")):
        file.write_bytes(MARK + file.read_bytes())
    assert check_data(boxes) == plain


def test_pictures_of_phones_have_the_size_that_they_are_seen_in(tmp_path: Path) -> None:
    root, exif = tmp_path / "set" / "cats", Image.Exif()
    root.mkdir(parents=True)
    exif[ExifTags.Base.Orientation] = 6
    for number in range(4):
        Image.new("RGB", (160, 120), (number, 0, 0)).save(root / f"{number}.jpg", exif=exif)
    assert glance(tmp_path / "set").size == (160, 120)


def test_names_in_lists_may_have_spaces_and_flags(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    stems = sorted(file.stem for file in (root / "Annotations").glob("*.xml"))[:4]
    for stem in stems:
        (root / "Annotations" / f"{stem}.xml").rename(root / "Annotations" / f"my cat {stem}.xml")
        picture = next((root / "JPEGImages").glob(f"{stem}.*"))
        picture.rename(picture.with_name(f"my cat {stem}{picture.suffix.upper()}"))
    for file in sorted((root / "Annotations").glob("my cat *.xml")):
        file.write_text("<annotation><object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>8</xmax><ymax>6</ymax></bndbox></object></annotation>")
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "train.txt").write_text("".join(f"my cat {stem}  1\r\n" for stem in stems[:3]))
    (lists / "val.txt").write_bytes(MARK + f"my cat {stems[3]}\n".encode())
    found = check_data(root)
    assert found.num_images == {"train": 3, "val": 1} and not found.problems


def test_why_a_split_cannot_be_read_is_said(tmp_path: Path) -> None:
    root = write_boxes(tmp_path / "set")
    shutil.move(root / "images", root / "elsewhere")
    whats = [problem.what for problem in check_data(root).problems]
    assert any("has no readable picture" in what for what in whats) and sum("is not there; looked in" in what for what in whats) > 10


def test_too_few_pictures_to_hold_any_out_are_said(tmp_path: Path) -> None:
    root = photos(tmp_path / "set", ".")
    for file in sorted(root.rglob("*.png")):
        if file.name != "0.png":
            file.unlink()
    for _ in ("alone", "beside a copy of itself"):
        with pytest.raises(NothingToHoldOut, match=f"^{root} has no split `val`, and too few pictures to hold any out of train: a class needs two at least"):
            read_folder(root, "val", image_size=SIZE)
        files = sorted(root.rglob("*.png"))
        assert len(read_folder(root, "train", image_size=SIZE)[0]) == len(files)
        shutil.copy(files[0], files[0].with_name("copy.png"))


def test_of_layouts_without_classes_too(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "alone.png")
    with pytest.raises(NothingToHoldOut):
        read_folder(tmp_path, "val", image_size=SIZE)
    assert len(read_folder(tmp_path, "train", image_size=SIZE)[0]) == 1


def test_json_of_another_program_is_no_annotation(tmp_path: Path) -> None:
    root = photos(tmp_path / "set", ".")
    (root / "train_log.json").write_text(json.dumps({"loss": [1, 2]}))
    assert recognise(root) == "image-folder" and splits_of(root) == ("train", "val")
