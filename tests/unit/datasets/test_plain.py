"""Pictures without labels: a set that takes the classes of those beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from own_folders import write_boxes, write_plain

from genrep.config import Config, DataConfig
from genrep.datasets import check_data, read_folder
from genrep.model_config import ModelConfig
from genrep.training.data import RunData, filled
from genrep.types import UNLABELLED


def _config(*sets: Path) -> Config:
    return Config(data=DataConfig(sets=tuple(map(str, sets))), model=ModelConfig(image_size=(24, 32), codec="pixels"))


def test_nothing_is_known_of_them(tmp_path: Path) -> None:
    root = write_plain(tmp_path / "photos")
    (root / "broken.jpg").write_bytes(b"x")
    data, problems = read_folder(root, "train", image_size=(8, 8))
    assert len(data) + len(read_folder(root, "val", image_size=(8, 8))[0]) == 20 and data.class_names == ()
    assert (data.label == UNLABELLED).all() and not data.annotated.any()
    report = check_data(root)
    assert report.layout == "pictures" and report.tally == "kept 20 pictures and 0 objects, fixed 0, dropped 1"
    assert len(problems) <= 1


def test_pictures_in_other_formats_are_said(tmp_path: Path) -> None:
    root = write_plain(tmp_path / "photos")
    for name in ("x.tif", "y.GIF", "notes.txt", ".hidden.gif"):
        (root / name).touch()
    report = check_data(root)
    assert [str(problem) for problem in report.problems] == [f"{name}: not one of .jpg, .jpeg, .png, .webp, .bmp; left out" for name in ("x.tif", "y.GIF")]
    with pytest.raises(ValueError, match=r"x\.tif: not one of"):
        read_folder(root, "train", image_size=(8, 8), strict=True)


def test_they_take_the_classes_of_the_other_sets(tmp_path: Path) -> None:
    plain, boxes = write_plain(tmp_path / "plain"), write_boxes(tmp_path / "boxes")
    data = RunData(_config(plain, boxes))
    sets = data.training()
    assert [each.class_names for each in sets] == [("blue", "green")] * 2
    data.config = config = filled(data.config, sets)
    assert config.model.class_names == ("blue", "green") and set(config.model.tasks) == {"detection", "classification"}
    batch = data.first_validation(4)
    assert batch.classes.shape == (2 + 4, 2) and (batch.classes[:2] == 0).all() and batch.unannotated.tolist() == [True] * 2 + [False] * 4
    assert data.split("plain", "test").class_names == ("blue", "green")
    assert torch.equal(batch.label[:2], torch.tensor([UNLABELLED] * 2))


def test_alone_they_have_no_classes_and_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="photos has no classes: pictures without any labels train beside a set that has some"):
        RunData(_config(write_plain(tmp_path / "photos"))).training()


def test_sets_of_other_classes_are_refused(tmp_path: Path) -> None:
    one, other = write_boxes(tmp_path / "one"), write_boxes(tmp_path / "other")
    for file in (other / "annotations").iterdir():
        file.write_text(file.read_text().replace("green", "violet"))
    data = RunData(_config(one, other))
    sets = data.training()
    data.config = replace(data.config, model=filled(data.config, sets).model)
    with pytest.raises(ValueError, match="`other` has the classes blue, violet in val; the model has blue, green"):
        data.lines(sets)
