from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from genrep.datasets import check_data, read_folder


def _picture(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path)


def _coco(root: Path, split: str, categories: list[str], numbers: range) -> None:
    for number in numbers:
        _picture(root / "images" / f"{number}.png", number)
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in numbers],
        "annotations": [{"id": number, "image_id": number, "category_id": 1, "bbox": [0, 0, 9 + number % 2 * 9, 8]} for number in numbers],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))


def test_image_folder_report(tmp_path: Path) -> None:
    for number, name in enumerate(["train/cat/a.png", "train/cat/b.png", "train/dog/c.png", "val/dog/d.png"]):
        _picture(tmp_path / name, number)
    (tmp_path / "train/dog/broken.jpg").write_bytes(b"\xff\xd8")
    report = check_data(tmp_path)
    assert report.layout == "image-folder" and report.num_images == {"train": 3, "val": 1}
    assert report.num_per_class == {"train": {"cat": 2, "dog": 1}, "val": {"cat": 0, "dog": 1}}
    assert [problem.where for problem in report.problems] == ["train/dog/broken.jpg"]


def test_coco_report_counts_objects_and_compares_classes(tmp_path: Path) -> None:
    _coco(tmp_path, "train", ["cup", "car"], range(4))
    _coco(tmp_path, "val", ["cup", "bus"], range(4, 6))
    report = check_data(tmp_path)
    assert report.layout == "coco" and report.num_images == {"train": 4, "val": 2}
    assert report.num_per_class["train"] == {"cup": 0, "car": 4}
    said = [str(problem) for problem in report.problems]
    assert sum("reaches outside the image of 8 x 8" in line for line in said) == 3
    assert "val: has classes cup, bus; train has cup, car" in said


def test_a_split_that_cannot_be_read_is_a_problem_of_the_report(tmp_path: Path) -> None:
    _coco(tmp_path, "train", ["cup", "car"], range(3))
    (tmp_path / "annotations/instances_val.json").write_text("{")
    report = check_data(tmp_path)
    assert list(report.num_images) == ["train"]
    assert any(problem.where == "val" and "not valid json" in problem.what for problem in report.problems)


def test_folder_is_read_in_the_layout_it_has(tmp_path: Path) -> None:
    _coco(tmp_path / "boxes", "train", ["cup", "car"], range(3))
    _picture(tmp_path / "sorted/cup/a.png", 1)
    boxes, _ = read_folder(tmp_path / "boxes", "train", image_size=(8, 8))
    plain, _ = read_folder(tmp_path / "sorted", "train", image_size=(8, 8))
    assert boxes.has_objects.all() and not plain.has_objects.any()
    assert boxes.object_labels.shape[1] == plain.object_labels.shape[1]


def test_nothing_to_check_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no pictures; expected"):
        check_data(tmp_path)
    with pytest.raises(ValueError, match="absent is not a folder"):
        check_data(tmp_path / "absent")
