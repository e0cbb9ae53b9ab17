from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask

from genrep.boxes import to_xyxy_px
from genrep.datasets.coco import read_coco, splits
from genrep.datasets.coco_masks import mask_of
from genrep.types import IGNORE

CATEGORIES = [{"id": 7, "name": "cup"}, {"id": 3, "name": "car"}]
SIZE = (20, 40)
"""(height, width) of the pictures."""


def _box(label: int, bbox: list[float], image: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": 11, "image_id": image, "category_id": label, "bbox": bbox, **more}


def _rectangle(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def _write(root: Path, annotations: list[Any], *, name: str = "annotations/instances_train.json", **parts: Any) -> Path:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        Image.new("RGB", SIZE[::-1], (number, 0, 0)).save(root / "images" / f"{number}.png")
    content = {
        "images": [{"id": number, "file_name": f"{number}.png", "height": 20, "width": 40} for number in (1, 2)],
        "annotations": annotations,
        "categories": CATEGORIES,
        **parts,
    }
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return root


def _train(root: Path, **options: Any):
    if not (root / "annotations/instances_val.json").exists():
        _write(root, [], name="annotations/instances_val.json")
    return read_coco(root, "train", image_size=(10, 20), max_objects=3, **options)


def test_annotated_pictures_that_are_turned_are_told_of(tmp_path: Path) -> None:
    """Nothing tells whether their boxes are."""
    root, exif = _write(tmp_path, [_box(7, [0, 0, 4, 4])]), Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    assert not _train(root)[1]
    for number in (1, 2):  # of the second there is nothing that could be misplaced
        Image.new("RGB", SIZE[::-1], (number, 0, 0)).save(root / "images" / f"{number}.png", exif=exif)
    data, (problem,) = _train(root)
    assert len(data) == 2 and not problem.is_wrong
    assert "1 annotated pictures of train are turned by their EXIF; boxes and masks must be of them as they are seen" in problem.what


def test_boxes_are_scaled_and_ids_become_consecutive(tmp_path: Path) -> None:
    data, problems = _train(_write(tmp_path, [_box(7, [0, 0, 4, 4]), _box(3, [10, 4, 20, 8])]))
    assert problems == [] and data.class_names == ("car", "cup") and len(data) == 2
    assert data.object_labels.tolist() == [[0, 1, -1], [-1, -1, -1]]
    corners = torch.tensor([[5.0, 2, 15, 6], [0, 0, 2, 2], [0, 0, 0, 0]])
    torch.testing.assert_close(to_xyxy_px(data.boxes_cxcywh, (10, 20))[0], corners)
    batch = data.batch(torch.arange(2))
    assert batch.classes.tolist() == [[1, 1], [0, 0]] and batch.has_objects.all()
    assert (batch.instance_mask == IGNORE).all(), "boxes without masks leave the masks unknown"


def test_a_single_class_is_the_label(tmp_path: Path) -> None:
    data, _ = _train(_write(tmp_path, [_box(7, [0, 0, 4, 4]), _box(7, [10, 4, 20, 8]), _box(7, [0, 0, 4, 4], image=2), _box(3, [1, 1, 9, 9], image=2)]))
    assert data.label.tolist() == [1, -1]


def test_polygons_are_painted_large_to_small(tmp_path: Path) -> None:
    small = _box(7, [8, 4, 8, 8], segmentation=_rectangle(8, 4, 8, 8))
    large = _box(3, [0, 0, 24, 16], segmentation=_rectangle(0, 0, 24, 16))
    data, problems = _train(_write(tmp_path, [small, large]))
    expected = torch.zeros(10, 20, dtype=torch.uint8)
    expected[0:8, 0:12] = 1
    expected[2:6, 4:8] = 2
    assert problems == [] and torch.equal(data.instance_mask[0], expected)
    assert torch.equal(data.semantic_mask[0], expected), "car is class 0 and cup class 1"
    assert (data.instance_mask[1] == 0).all() and (data.semantic_mask[1] == 0).all()


def test_box_follows_from_the_mask_where_it_is_missing(tmp_path: Path) -> None:
    data, _ = _train(_write(tmp_path, [{"id": 1, "image_id": 1, "category_id": 3, "segmentation": _rectangle(8, 4, 8, 8)}]))
    torch.testing.assert_close(to_xyxy_px(data.boxes_cxcywh, (10, 20))[0, 0], torch.tensor([4.0, 2, 8, 6]))


def test_crowds_are_counted_and_ignored(tmp_path: Path) -> None:
    whole = _box(3, [0, 0, 8, 8], segmentation=_rectangle(0, 0, 8, 8))
    crowd = _box(3, [20, 0, 20, 20], segmentation=_rectangle(20, 0, 20, 20), iscrowd=1)
    data, problems = _train(_write(tmp_path, [whole, crowd]), strict=True)
    assert [str(problem) for problem in problems] == ["instances_train.json: 1 crowd annotations are no objects; what is in them is ignored"]
    batch = data.batch(torch.arange(2))
    assert batch.object_labels[0].tolist() == [0, -1, -1] and batch.ignored_labels.tolist() == [[-1, 0, -1], [-1, -1, -1]]
    torch.testing.assert_close(to_xyxy_px(batch.boxes_cxcywh, (10, 20))[0, 1], torch.tensor([10.0, 0, 20, 10]))
    assert data.has_objects.all() and int(data.label[0]) == 0
    assert (data.instance_mask[0][:, 10:] == IGNORE).all() and (data.instance_mask[0][:4, :4] == 1).all()


def test_objects_beyond_the_slots_are_ignored_not_background(tmp_path: Path) -> None:
    sides = (16, 12, 8, 4)
    entries = [_box(3, [0, 0, side, side], segmentation=_rectangle(0, 0, side, side)) for side in sides]
    data, problems = _train(_write(tmp_path, entries))
    assert "4 objects, the 3 largest are kept" in str(problems[0])
    assert (data.instance_mask[0][:2, :2] == IGNORE).all() and data.instance_mask[0][3, 3] == 3
    assert data.has_objects.tolist() == [False, True] and int(data.label[0]) == 0
    data, _ = _train(_write(tmp_path, [*entries[:3], _box(7, [0, 0, 4, 4])]))
    assert data.label[0] == -1, "the cup has no slot"


@pytest.mark.parametrize(
    ("entry", "message", "kept"),
    [
        (_box(3, [30, 4, 20, 8]), "annotation 11: box [30.0, 4.0, 50.0, 12.0] reaches outside the image of 40 x 20; cut to it", 1),
        (_box(3, [50, 4, 20, 8]), "annotation 11: box [50.0, 4.0, 70.0, 12.0] lies outside the image of 40 x 20; left out", 0),
        (_box(3, [5, 5, 0, 4]), "annotation 11: `bbox` must be [x, y, width, height] with positive sizes", 0),
        (_box(3, [5, 5, 4]), "annotation 11: `bbox` must be", 0),
        (_box(3, [5, 5, float("nan"), 4]), "annotation 11: `bbox` must be finite", 0),
        (_box(3, [5, 5, 10**400, 4]), "annotation 11: `bbox` must be finite", 0),
        (_box(3, ["5", 5, 4, 4]), "annotation 11: `bbox` must be a list of numbers", 0),
        (_box(4, [5, 5, 4, 4]), "annotation 11: unknown class 4; known: 3 car, 7 cup; left out", 0),
        (_box(3, [5, 5, 4, 4], image=9), "annotation 11: belongs to no picture of the file (image_id 9); left out", 0),
        (_box(3, [5, 5, 4, 4], segmentation=[[1, 2]]), "annotation 11: a polygon needs an even number", 1),
        (_box(3, [5, 5, 4, 4], segmentation={"counts": [5], "size": [20, 40]}), "annotation 11: run lengths add up to 5", 1),
        (_box(3, [5, 5, 4, 4], segmentation="circle"), "annotation 11: `segmentation` must be polygons or run lengths", 1),
        ("text", "annotation number 0: is not an object", 0),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, entry: Any, message: str, kept: int) -> None:
    root = _write(tmp_path, [entry])
    data, problems = _train(root)
    assert len(problems) == 1 and message in str(problems[0])
    assert (data.object_labels >= 0).sum() == kept
    with pytest.raises(ValueError, match="instances_train"):
        _train(root, strict=True)


def test_rounding_beyond_the_edge_is_no_problem(tmp_path: Path) -> None:
    _, problems = _train(_write(tmp_path, [_box(3, [30.3, 4, 10.2, 16.4])]))
    assert problems == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"id": 5, "file_name": "/etc/passwd"}, "refused"),
        ({"id": 5, "file_name": "../outside.png"}, "refused"),
        ({"id": 5, "file_name": "link.png"}, "leads outside the data folder; refused"),
        ({"id": 5, "file_name": "absent.png"}, "`absent.png` is not there"),
        ({"id": 5, "file_name": "broken.png"}, "broken.png: cannot be read as a picture"),
        ({"id": 5, "file_name": "1.png", "height": 40, "width": 20}, "1.png: is (height, width) (20, 40), its annotation says (40, 20)"),
        ({"id": 1, "file_name": "1.png"}, "image 1: needs an integer `id` of its own"),
        ({"id": 5, "file_name": 3}, "needs an integer `id` of its own and a `file_name`"),
    ],
)
def test_wrong_pictures_are_named(tmp_path: Path, image: dict[str, Any], message: str) -> None:
    root = tmp_path / "data"
    good = [{"id": 1, "file_name": "1.png"}]
    _write(root, [], images=[*good, image])
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    (root / "images/link.png").symlink_to(tmp_path / "outside.png")
    (root / "images/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    data, problems = _train(root)
    assert len(data) == 1 and len(problems) == 1 and message in str(problems[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid json"),
        ("[" * 100_000, "is not valid json"),
        ("[]", "expected an object, found list"),
        ('{"images": [], "annotations": []}', "expected a list `categories`, found NoneType"),
        ('{"images": [], "annotations": [], "categories": [{"id": "1", "name": "a"}]}', "a category needs an integer `id`"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "category 1 `b` is there twice"),
        ('{"images": [], "annotations": [], "categories": []}', "has no readable picture in split `train`"),
    ],
)
def test_files_that_are_not_coco_are_refused(tmp_path: Path, content: str, message: str) -> None:
    root = _write(tmp_path, [])
    (root / "annotations/instances_train.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        _train(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["annotations/instances_train2017.json", "train.json", "train/_annotations.coco.json", "labels.json"])
def test_usual_places_of_annotations(tmp_path: Path, name: str) -> None:
    root = _write(tmp_path, [_box(3, [0, 0, 4, 4])], name=name)
    assert splits(root) == ("train", "val")
    train, val = (read_coco(root, split, image_size=(8, 8))[0] for split in ("train", "val"))
    assert len(train) == len(val) == 1, "val is held out of train"
    assert not torch.equal(train.pixels, val.pixels)
    with pytest.raises(ValueError, match=r"unknown split of .* `test`"):
        read_coco(root, "test", image_size=(8, 8))


def test_files_without_annotations_of_objects_make_no_split(tmp_path: Path) -> None:
    """COCO's own download has lists of its test pictures, without annotations, and captions."""
    root = _write(tmp_path, [_box(3, [0, 0, 4, 4])], name="annotations/instances_train2017.json")
    info = {"images": [{"id": 1, "file_name": "1.png"}], "categories": CATEGORIES}
    for name in ("image_info_test2017", "image_info_test-dev2017"):
        (root / "annotations" / f"{name}.json").write_text(json.dumps(info))
    captions = {"images": info["images"], "annotations": [{"id": 1, "image_id": 1, "caption": 'a "categories" of cups'}]}
    (root / "annotations/captions_val2017.json").write_text(json.dumps(captions))
    assert splits(root) == ("train", "val")
    data, problems = read_coco(root, "val", image_size=(8, 8), strict=True)
    assert len(data) == 1, "held out of train"
    assert [str(problem) for problem in problems] == [
        "captions_val2017.json: holds no annotations of objects; there is no split val",
        "image_info_test-dev2017.json: holds no annotations of objects; there is no split test",
    ]
    _write(root, [], name="annotations/instances_val2017.json")
    assert len(read_coco(root, "val", image_size=(8, 8))[0]) == 2
    (root / "annotations/instances_val2017.json").rename(root / "annotations/val.json")
    (root / "annotations/val.json").write_text((root / "annotations/val.json").read_text()[:-40])
    with pytest.raises(ValueError, match=r"val\.json is not valid json"):
        read_coco(root, "val", image_size=(8, 8))


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    root = _write(_write(tmp_path, [], name="annotations/train_a.json"), [], name="annotations/train_b.json")
    with pytest.raises(ValueError, match="both annotations of the same split"):
        read_coco(root, "train", image_size=(8, 8))


def test_number_of_slots_is_limited(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`max_objects` must be from 1 to 254; found 255"):
        read_coco(_write(tmp_path, []), "train", image_size=(8, 8), max_objects=255)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.99, 1.0])
def test_run_lengths_agree_with_the_reference(density: float) -> None:
    mask = np.random.default_rng(3).random((70, 90)) < density
    runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(mask_of({"counts": runs["counts"].decode(), "size": [70, 90]}, (70, 90)), mask)
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(np.concatenate([flat, ~flat[-1:]])))
    counts = np.diff(np.concatenate([[0], edges])).tolist() if density not in (0.0, 1.0) else [0, 6300] if density else [6300]
    assert np.array_equal(mask_of({"counts": counts, "size": [70, 90]}, (70, 90)), mask)


def test_polygons_agree_with_the_reference() -> None:
    polygons = [[3.2, 4.1, 30.7, 8.0, 25.0, 33.3, 5.5, 28.1], [40, 40, 60, 40, 50, 60]]
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, 70, 90))
    mask = mask_of(polygons, (70, 90))
    again = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert again == runs and mask.sum() == coco_mask.area(runs)


def test_polygons_far_outside_are_cut_before_they_are_drawn() -> None:
    assert mask_of([[-9e8, -9e8, 9e8, -9e8, 9e8, 9e8, -9e8, 9e8]], (10, 12)).all()


@pytest.mark.parametrize("counts", ["", "P", "~~~~", "\0", "oooooooooo", [-1, 101], [100, True], [[100]], None, 5])
def test_hostile_run_lengths_are_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match=r"run lengths|`counts`"):
        mask_of({"counts": counts, "size": [10, 10]}, (10, 10))


@pytest.mark.parametrize(("name", "num", "masks"), [("bccd", 87, False), ("eth80", 656, True), ("eth80/scenes", 250, True)])
def test_real_photos(name: str, num: int, masks: bool) -> None:
    shared = Path(os.environ.get("GENREP_SHARED_DATA", "/absent")) / name
    if not shared.is_dir():
        pytest.skip("set GENREP_SHARED_DATA to the folder of the real sets")
    data, problems = read_coco(shared, "val", image_size=(48, 48), max_objects=40, strict=True)
    assert len(data) == num and problems == []
    assert bool((data.instance_mask != IGNORE).all()) == masks
