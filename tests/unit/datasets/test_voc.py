"""Pascal VOC: boxes counted from 1, difficult objects set aside, masks by index, and xml that declares nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from own_folders import write_voc
from PIL import Image

from genrep.boxes import to_xyxy_px
from genrep.datasets import check_data, read_folder, splits_of
from genrep.datasets.voc import VOC_CLASSES, splits
from genrep.datasets.voc_xml import parse_xml
from genrep.types import IGNORE, UNLABELLED

SIZE = (24, 32)
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>8</xmax><ymax>6</ymax></bndbox>"


def _annotate(root: Path, objects: str, *, number: int = 0, name: str | None = None) -> None:
    named = f"<filename>{name}</filename>" if name else ""
    (root / "Annotations" / f"{number}.xml").write_text(f"<annotation>{named}{objects}</annotation>")


def test_boxes_are_counted_from_1_with_both_ends(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    _annotate(root, f"<object><name>dog</name>{BOX}</object>")
    assert splits_of(root) == ("train", "val")
    data, problems = read_folder(root, "train", image_size=SIZE)
    assert problems == [] and data.class_names == ("car", "dog") and len(data) == 15
    torch.testing.assert_close(to_xyxy_px(data.boxes_cxcywh, SIZE)[0, 0], torch.tensor([0.0, 0, 8, 6]))
    assert data.object_labels[0, :2].tolist() == [1, UNLABELLED] and int(data.label[0]) == 1 and data.has_objects.all()
    assert (data.semantic_mask == IGNORE).all(), "boxes alone say nothing of masks"


def test_masks_have_the_sets_own_indices(tmp_path: Path) -> None:
    data, problems = read_folder(write_voc(tmp_path / "set", masks=True), "train", image_size=SIZE)
    assert problems == [] and data.class_names == VOC_CLASSES
    for row in range(len(data)):
        x0, y0, x1, y1 = to_xyxy_px(data.boxes_cxcywh, SIZE)[row, 0].round().int().tolist()
        assert (data.semantic_mask[row, y0:y1, x0:x1] == data.object_labels[row, 0] + 1).all()
        assert int((data.semantic_mask[row] > 0).sum()) == (y1 - y0) * (x1 - x0)
    assert (data.instance_mask == IGNORE).all()


@pytest.mark.parametrize("first", ["background\n", "_BACKGROUND_\n", ""])
def test_named_classes_count_from_1_in_masks_with_the_background_or_without(tmp_path: Path, first: str) -> None:
    root = write_voc(tmp_path / "set", masks=True)
    for file in (root / "SegmentationClass").iterdir():
        with Image.open(file) as opened:
            mask = opened.point(lambda index: {7: 1, 12: 2}.get(index, 0))
        mask.save(file)
    (root / "classes.txt").write_text(f"{first}car\ndog\n")
    data, problems = read_folder(root, "train", image_size=SIZE, strict=True)
    assert problems == [] and data.class_names == ("car", "dog")
    assert [sorted(mask.unique().tolist()) for mask in data.semantic_mask] == [[0, label + 1] for label in data.object_labels[:, 0].tolist()]


def test_a_mask_of_other_classes_than_its_objects_is_left_out(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set", masks=True)
    _annotate(root, f"<object><name>cat</name>{BOX}</object>")
    data, problems = read_folder(root, "train", image_size=SIZE)
    assert (data.semantic_mask[0] == IGNORE).all() and not (data.semantic_mask[1:] == IGNORE).any()
    assert [str(each) for each in problems] == ["0.jpg: its mask shows none of the classes of its objects; it is left out: which index is which class?"]
    (root / "classes.txt").write_text("background\n")
    with pytest.raises(ValueError, match=r"classes\.txt names no class beside the background"):
        read_folder(root, "train", image_size=SIZE)


def test_a_picture_is_that_of_the_annotation_called_as_it(tmp_path: Path) -> None:
    """Whatever the file says: tools that copy annotations leave the first one's name in all."""
    root = write_voc(tmp_path / "set")
    expected = [read_folder(root, split, image_size=SIZE)[0].pixels for split in ("train", "val")]
    for file in (root / "Annotations").iterdir():
        file.write_text(file.read_text().replace(f"{file.stem}.jpg", "0.jpg"))
    found = [read_folder(root, split, image_size=SIZE, strict=True) for split in ("train", "val")]
    assert all(torch.equal(data.pixels, pixels) for (data, _), pixels in zip(found, expected, strict=True))
    assert [len(problems) for _, problems in found] == [14, 5]
    assert str(found[0][1][0]) == "1.xml: names `0.jpg` as its picture; `1.jpg` is, which is called as it"


def test_a_picture_of_two_annotations_is_left_out_and_said(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    for number, of in ((1, 0), (2, 99), (16, 99)):
        (root / "JPEGImages" / f"{number}.jpg").rename(root / "JPEGImages" / f"{'99' if number == 2 else f'old {number}'}.jpg")
        _annotate(root, f"<object><name>dog</name>{BOX}</object>", number=number, name=f"{of}.jpg")
    report = check_data(root)
    assert report.num_images == {"train": 13, "val": 4}
    assert [str(problem) for problem in report.problems] == [
        "1.xml: its picture `0.jpg` is that of 0.xml; left out",
        "2.xml: its picture `99.jpg` is named by several annotations; left out",
        "16.xml: its picture `99.jpg` is named by several annotations; left out",
    ]
    (root / "Annotations/16.xml").unlink()
    assert check_data(root).num_images == {"train": 14, "val": 4}, "of one alone it may be the picture, however it is called"
    (root / "ImageSets/Main/test.txt").write_text("0\n19\n")
    report = check_data(root)
    assert report.num_images == {"train": 13, "val": 3, "test": 2} and "0.xml: is in the list of test, too; left out" in map(str, report.problems)


def test_without_lists_pictures_without_annotation_are_unlabelled(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    for file in (root / "ImageSets/Main").iterdir():
        file.unlink()
    for number in range(10):
        (root / "Annotations" / f"{number}.xml").unlink()
    (root / "JPEGImages/scan.TIF").touch()
    report = check_data(root)
    assert report.num_images == {"train": 18, "val": 2} and report.num_objects == 10
    assert [str(problem) for problem in report.problems] == [
        "scan.TIF: not one of .jpg, .jpeg, .png, .webp, .bmp; left out",
        "0.jpg: has no annotation, nor have 9 others; what they show is not known",
    ]
    data = [read_folder(root, split, image_size=SIZE)[0] for split in ("train", "val")]
    assert sum(int(each.has_objects.sum()) for each in data) == 10


def test_numbers_at_the_end_of_names_are_no_flags(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    for number in range(2):
        for folder, suffix in (("Annotations", "xml"), ("JPEGImages", "jpg")):
            (root / folder / f"{number}.{suffix}").rename(root / folder / f"cell {number}.{suffix}")
    (root / "ImageSets/Main/train.txt").write_text("cell 0\ncell 1\n2 1\n3 -1\n")
    data, problems = read_folder(root, "train", image_size=SIZE)
    assert len(data) == 4 and len(problems) == 2 and not any(problem.is_wrong for problem in problems)


def test_lists_of_many_names_take_no_longer_for_each(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set", num=4)
    for split, start in (("train", 0), ("val", 30_000)):
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(str(number) for number in range(start, start + 30_000)))
    begun = time.process_time()
    assert splits(root) == ("train", "val") and time.process_time() - begun < 10, "a set for each name took minutes"


def test_difficult_objects_are_set_aside_and_said(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    _annotate(root, f"<object><name>dog</name><difficult>1</difficult>{BOX}</object><object><name>car</name>{BOX}</object>")
    data, problems = read_folder(root, "train", image_size=SIZE, strict=True)
    batch = data.batch(torch.arange(len(data)))
    assert batch.object_labels[0, :2].tolist() == [0, UNLABELLED] and batch.ignored_labels[0, :2].tolist() == [UNLABELLED, 1]
    assert data.label[0] == UNLABELLED and not batch.class_sets[1][0] and batch.class_sets[1][1:].all(), "the dog may be there or not"
    assert [(str(each), each.num_dropped) for each in problems] == [("0.jpg: 1 difficult objects are set aside, as crowds are", 1)]


def test_without_lists_val_is_held_out_and_without_annotation_a_picture_is_unlabelled(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    (root / "ImageSets/Main/train.txt").write_text("0 1\n1 -1\n77\n")
    Image.new("RGB", (32, 24)).save(root / "JPEGImages" / "77.png")
    data, problems = read_folder(root, "train", image_size=SIZE)
    assert data.has_objects.tolist() == [True, True, False] and "the picture has no objects that are known" in str(problems[0])
    for file in (root / "ImageSets/Main").iterdir():
        file.unlink()
    assert check_data(root).num_images == {"train": 19, "val": 2}


@pytest.mark.parametrize(
    ("objects", "says", "fixed", "dropped"),
    [
        (f"<object>{BOX}</object>", "0.xml object 1: needs a `name`, the class; left out", 0, 1),
        (f"<object><name>cat</name>{BOX}</object>", "0.xml object 1: unknown class cat; known: car, dog; left out", 0, 1),
        ("<object><name>car</name></object>", "`xmin` must be a number; found nothing", 0, 1),
        (f"<object><name>car</name>{BOX.replace('8', 'nan')}</object>", "`xmax` must be finite", 0, 1),
        (f"<object><name>car</name>{BOX.replace('8', 'x')}</object>", "`xmax` must be a number; found x", 0, 1),
        (f"<object><name>car</name>{BOX.replace('8', '-8')}</object>", "must have xmin <= xmax and ymin <= ymax; found 1, 1, -8, 6", 0, 1),
        (f"<object><name>car</name>{BOX.replace('8', '80')}</object>", "reaches outside the image of 32 x 24; cut to it", 1, 0),
        ("<size><width>9</width><height>9</height></size>", "0.jpg: is (height, width) (24, 32), its annotation says (9, 9)", 0, 1),
    ],
)
def test_wrong_objects_are_named_and_counted(tmp_path: Path, objects: str, says: str, fixed: int, dropped: int) -> None:
    root = write_voc(tmp_path / "set")
    (root / "classes.txt").write_text("car\ndog\n")
    _annotate(root, objects)
    data, problems = read_folder(root, "train", image_size=SIZE)
    assert len(problems) == 1 and says in str(problems[0]) and "\n" not in str(problems[0])
    assert (problems[0].num_fixed, problems[0].num_dropped) == (fixed, dropped)
    assert int((data.object_labels >= 0).sum()) == 14 + fixed
    assert int((~data.has_objects).sum()) == dropped * (len(data) - 14), "one without all its objects says nothing of what is not there"
    with pytest.raises(ValueError, match=r"0\.(xml|jpg)"):
        read_folder(root, "train", image_size=SIZE, strict=True)


ENTITY = '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object></annotation>'
LAUGHS = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (ENTITY, "declares a document type or entities"),
        (LAUGHS, "declares a document type or entities"),
        ("<!DOCTYPE annotation><annotation/>", "declares a document type or entities"),
        ("<annotation>", "is not valid xml"),
        ("", "is not valid xml"),
        ('<?xml version="1.0" encoding="cp9999"?><annotation/>', "is not valid xml"),
        ("<annotation>&x;</annotation>", "is not valid xml"),
        ("<a/>", "is no annotation; expected <annotation>, found <a>"),
    ],
)
def test_xml_that_declares_something_or_is_none_is_refused(tmp_path: Path, content: str, says: str) -> None:
    root = write_voc(tmp_path / "set")
    (root / "Annotations/0.xml").write_text(content)
    data, problems = read_folder(root, "train", image_size=SIZE)
    assert len(data) == 14 and len(problems) == 1 and str(problems[0]).startswith("0.xml: ") and says in str(problems[0])


def test_large_and_deep_xml_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(b" " * 8_000_001)
    with pytest.raises(ValueError, match="is larger than 8,000,000 bytes"):
        parse_xml(tmp_path / "a.xml")
    (tmp_path / "b.xml").write_text("<a>" * 200_000 + "</a>" * 200_000)
    assert parse_xml(tmp_path / "b.xml").tag == "a"


@pytest.mark.parametrize("name", ["../../outside.jpg", "/etc/passwd", "link.jpg"])
def test_pictures_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    root = write_voc(tmp_path / "set")
    Image.new("RGB", (32, 24)).save(tmp_path / "outside.jpg")
    (root / "JPEGImages/link.jpg").symlink_to(tmp_path / "outside.jpg")
    _annotate(root, f"<object><name>car</name>{BOX}</object>", name=name)
    data, problems = read_folder(root, "train", image_size=SIZE)
    assert len(data) == 14 and "refused; left out" in str(problems[0]) and problems[0].num_dropped == 2
    (root / "ImageSets/Main/val.txt").write_text("../../outside\n15\n")
    val, problems = read_folder(root, "val", image_size=SIZE)
    assert len(val) == 1 and "refused" in str(problems[0])
