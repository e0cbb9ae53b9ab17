"""Pictures with depth beside them, in NYU's layout: metres come out, what is missing or wrong is named and the picture kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from own_folders import write_rooms
from PIL import Image

from genrep.datasets import read_folder, splits_of
from genrep.datasets.check import check_data
from genrep.datasets.depth_pairs import read_inv_depth

SIZE = (16, 16)


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    return write_rooms(tmp_path / "rooms")


def test_classes_are_kinds_of_scenes_and_whole_recordings_are_held_out(rooms: Path) -> None:
    assert splits_of(rooms) == ("train", "val")
    train, problems = read_folder(rooms, "train", image_size=SIZE)
    val, _ = read_folder(rooms, "val", image_size=SIZE)
    assert train.class_names == val.class_names == ("bath", "kitchen") and not problems
    assert len(train) == 9 and len(val) == 3  # four recordings of three pictures, one of them held out
    assert not bool(train.has_objects.any()) and bool(train.has_depth.all()) and bool(train.annotated.all())


def test_split_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    write_rooms(tmp_path / "train")
    write_rooms(tmp_path / "test")
    (tmp_path / "test" / "kitchen_0002").rename(tmp_path / "test" / "kitchen")
    assert splits_of(tmp_path) == ("train", "val", "test")
    assert len(read_folder(tmp_path, "test", image_size=SIZE)[0]) == 12


def test_depth_is_in_metres(rooms: Path) -> None:
    data, _ = read_folder(rooms, "train", image_size=(32, 24))
    batch = data.batch(torch.arange(len(data)))
    expected = 1 / (1.0 + data.label.float())  # `write_rooms`: 1 m in the bath, 2 m in the kitchen, unknown at the left end
    assert bool(batch.inv_depth[:, :, :3].isnan().all())
    torch.testing.assert_close(batch.inv_depth[:, 4:-4, 8:-8].mean((1, 2)), expected)


def test_new_pixels_are_means_of_what_is_known(tmp_path: Path) -> None:
    depth_mm = np.array([[1000, 0, 0, 0], [2000, 2000, 0, 4000]], np.uint16)
    Image.fromarray(depth_mm).save(tmp_path / "d.png")
    found = read_inv_depth(tmp_path / "d.png", (1, 2), own=(2, 4))
    assert float(found[0, 0]) == pytest.approx((1 + 0.5 + 0.5) / 3) and bool(found[0, 1].isnan())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text("no png"), "cannot be read as depth"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot be read as depth"),
        (lambda path: Image.new("L", (32, 24)).save(path), "expected 24 x 32 px of depth in 16-bit grey"),
        (lambda path: Image.fromarray(np.ones((5, 5), np.uint16)).save(path), "is 5 x 5 px"),
    ],
)
def test_what_is_wrong_with_a_depth_is_named_and_the_picture_kept(rooms: Path, spoil: object, says: str) -> None:
    spoil(rooms / "kitchen_0001" / "sync_depth_0.png")  # type: ignore[operator]
    report = check_data(rooms)
    assert [str(problem) for problem in report.problems] == [next(str(p) for p in report.problems if says in p.what)]
    assert report.layout == "depth-pairs" and sum(report.num_images.values()) == 12
    assert report.problems[0].where == "kitchen_0001/sync_depth_0.png" and report.problems[0].what.endswith("the picture is kept without depth")


def test_a_broken_picture_is_left_out(rooms: Path) -> None:
    (rooms / "bath_0001" / "rgb_0.jpg").write_text("no picture")
    assert "cannot be read as a picture" in str(check_data(rooms).problems[0])
