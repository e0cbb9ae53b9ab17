"""Crowds, which are neither objects nor their absence, and annotations that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from genrep.config import Config, DataConfig
from genrep.datasets import ArrayDataset, Problem, read_folder
from genrep.model_config import ModelConfig
from genrep.training.data import RunData
from genrep.types import IGNORE

CAR, CUP, UNKNOWN = 3, 7, 4


def _box(label: int, bbox: list[float], image: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": label, "bbox": bbox, **more}


def _rectangle(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def _write(root: Path, annotations: list[dict[str, Any]]) -> Path:
    """Two pictures of 20 x 40 px, with these annotations in train and in val."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        Image.new("RGB", (40, 20), (number, 0, 0)).save(root / "images" / f"{number}.png")
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in (1, 2)],
        "annotations": [{"id": number} | each for number, each in enumerate(annotations)],
        "categories": [{"id": CAR, "name": "car"}, {"id": CUP, "name": "cup"}],
    }
    for split in ("train", "val"):
        (root / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def _train(root: Path, annotations: list[dict[str, Any]]) -> tuple[ArrayDataset, list[Problem]]:
    return read_folder(_write(root, annotations), "train", image_size=(10, 20), max_objects=3)


def test_a_crowd_leaves_unknown_whether_its_class_is_there(tmp_path: Path) -> None:
    """Unless an object of the same class is; and alone it is no label."""
    objects = [_box(CAR, [0, 0, 8, 8]), _box(CAR, [0, 0, 8, 8], image=2), _box(CUP, [9, 0, 8, 8], image=2)]
    crowds = [_box(CUP, [20, 0, 20, 20], iscrowd=1), _box(CUP, [20, 0, 20, 20], iscrowd=1, image=2)]
    data, _ = _train(tmp_path, objects + crowds)
    present, known = data.batch(torch.arange(2)).class_sets
    assert data.label.tolist() == [-1, -1] and known.tolist() == data.classified.tolist() == [False, True] and present[1].all()
    assert data.has_objects.all() and data.annotated.all()
    data, _ = _train(tmp_path, crowds[:1])
    assert data.label.tolist() == [-1, -1] and data.batch(torch.arange(2)).class_sets[1].tolist() == [False, True]


def test_a_crowd_without_mask_is_ignored_where_its_box_is(tmp_path: Path) -> None:
    whole = _box(CAR, [0, 0, 8, 8], segmentation=_rectangle(0, 0, 8, 8))
    data, _ = _train(tmp_path, [whole, _box(CAR, [20, 0, 20, 20], iscrowd=1)])
    expected = torch.zeros(10, 20, dtype=torch.uint8)
    expected[:4, :4], expected[:, 10:] = 1, IGNORE
    assert torch.equal(data.instance_mask[0], expected) and torch.equal(data.semantic_mask[0], expected)


def test_the_mask_of_a_crowd_makes_no_set_of_masks(tmp_path: Path) -> None:
    crowd = _box(CAR, [20, 0, 20, 20], segmentation=_rectangle(20, 0, 20, 20), iscrowd=1)
    data, _ = _train(tmp_path, [_box(CAR, [0, 0, 8, 8]), crowd])
    assert (data.semantic_mask == IGNORE).all()


@pytest.mark.parametrize(
    ("lost", "ignored"),
    [
        (_box(UNKNOWN, [20, 0, 20, 20]), slice(10, 20)),
        (_box(UNKNOWN, [20, 0, 20, 20], segmentation=_rectangle(29, 0, 10, 20)), slice(14, 20)),
        (_box(CUP, [20, 0, -4, 20], segmentation=_rectangle(20, 0, 19, 20)), slice(10, 20)),
        (_box(CUP, [20, 0, -4, 20]), slice(0, 20)),
        (_box(CUP, [90, 0, 4, 20], iscrowd=1), slice(0, 20)),
    ],
)
def test_a_picture_that_lost_an_annotation_is_unlabelled(tmp_path: Path, lost: dict[str, Any], ignored: slice) -> None:
    """What is left of its objects is kept, but not that there are no more; where the lost one touches a pixel, what that is is unknown."""
    data, problems = _train(tmp_path, [_box(CAR, [0, 0, 8, 8], segmentation=_rectangle(0, 0, 8, 8)), lost])
    expected = torch.zeros(10, 20, dtype=torch.uint8)
    expected[:4, :4] = 1
    expected[:, ignored] = IGNORE
    assert torch.equal(data.semantic_mask[0], expected) and (data.semantic_mask[1] == 0).all()
    assert data.has_objects.tolist() == data.classified.tolist() == data.batch(torch.arange(2)).class_sets[1].tolist() == [False, True]
    assert data.label[0] == -1 and data.object_labels[0].tolist() == [0, -1, -1] and data.annotated.all()
    assert sum(problem.num_dropped for problem in problems) == 1


def test_what_is_lost_beneath_an_object_leaves_a_gap(tmp_path: Path) -> None:
    """Else its picture would have a mask without gaps, which says what is there."""
    data, _ = _train(tmp_path, [_box(CAR, [0, 0, 8, 8], segmentation=_rectangle(0, 0, 8, 8)), _box(UNKNOWN, [3, 3, 1, 1])])
    assert data.semantic_mask[0, 1, 1] == IGNORE and not data.batch(torch.arange(1)).class_sets[1]


def test_a_class_is_the_label_where_one_of_its_objects_is_lost(tmp_path: Path) -> None:
    data, _ = _train(tmp_path, [_box(CUP, [0, 0, 4, 4]), _box(CUP, [10, 4, 0, 8])])
    assert data.label[0] == 1 and data.has_objects.tolist() == [False, True] and data.classified.all()


def test_a_run_keeps_the_slots_of_crowds(tmp_path: Path) -> None:
    """And no others, though a folder has room for 254 objects."""
    root = _write(tmp_path / "set", [_box(CAR, [0, 0, 8, 8]), _box(CUP, [20, 0, 20, 20], iscrowd=1)])
    config = Config(data=DataConfig(sets=(str(root),)), model=ModelConfig(image_size=(16, 32), codec="pixels"))
    batch = RunData(config).training()[0].batch(torch.arange(2))
    assert batch.slots.shape == (2, 2) and sorted(batch.ignored_labels[:, 1].tolist()) == [-1, 1]
