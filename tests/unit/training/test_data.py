"""The one place that loads: folders beside embedded sets, what they are called, what they lack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from own_folders import write_boxes, write_photos, write_rooms
from rectangles import rectangles

from genrep.config import Config, DataConfig
from genrep.model_config import ModelConfig
from genrep.training.data import RunData, filled, left_out
from genrep.types import Batch


def config_for(*sets: Path | str, size: tuple[int, int] = (24, 32), codec: str = "pixels", **data: object) -> Config:
    return Config(data=DataConfig(sets=tuple(map(str, sets)), **data), model=ModelConfig(image_size=size, codec=codec))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("own") / "photos", 12)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("own") / "boxes", most=20)


def test_class_folders_train_classification_alone(photos: Path) -> None:
    data = RunData(config_for(photos))
    sets = data.training()
    config = filled(data.config, sets)
    assert config.model.class_names == ("blue", "green", "red")
    assert config.model.tasks == ("classification",)
    assert config.data.sets == (str(photos),)
    assert left_out(data.config, config) == [f"{task} is left out: no set has annotations for it" for task in ("detection", "segmentation")]
    assert filled(config, sets) == config, "filling is done once"
    assert sets[0].image_size == (24, 32) and sets[0].pixels.shape[1] == 3


def test_a_set_named_twice_is_read_once_and_has_two_shares(photos: Path, boxes: Path) -> None:
    data = RunData(config_for(photos, boxes, photos / "."))
    assert (data.names, data.shares) == (("photos", "boxes"), (2, 1))
    assert filled(data.config, data.training()).data.sets == (str(photos), str(boxes), str(photos))


def test_masks_decide_whether_segmentation_is_trained(boxes: Path, tmp_path: Path) -> None:
    tasks = {}
    for folder in (boxes, write_boxes(tmp_path / "masks", masks=True)):
        data = RunData(config_for(folder))
        tasks[folder.name] = filled(data.config, data.training()).model.tasks
    assert tasks == {"boxes": ("classification", "detection"), "masks": ("classification", "detection", "segmentation")}


def test_depth_in_metres_needs_metres(tmp_path: Path) -> None:
    data = RunData(config_for(write_rooms(tmp_path / "rooms")))
    deep = replace(data.config, model=replace(data.config.model, tasks=("classification", "detection", "depth"), depth="metric"))
    (rooms,) = data.training()
    assert filled(deep, [rooms]).model.tasks == ("classification", "depth")
    with pytest.raises(ValueError, match="layers: known is what lies before what"):
        filled(deep, [rooms, replace(rectangles(4), name="layers", layered=True, inv_depth=None)])


def test_there_are_as_many_slots_as_the_fullest_picture_needs(boxes: Path) -> None:
    (train,) = RunData(config_for(boxes)).training()
    assert train.object_labels.shape[1] == 20


def test_sets_with_other_numbers_of_objects_make_one_batch(boxes: Path, tmp_path: Path) -> None:
    few = write_boxes(tmp_path / "few", most=2)
    sets = RunData(config_for(boxes, few)).training()
    batch = Batch.cat([data.batch(torch.arange(3)) for data in sets])
    assert batch.object_labels.shape == (6, 20)


def test_the_first_samples_are_of_all_classes_and_always_the_same(photos: Path) -> None:
    first, again = (RunData(config_for(photos, num_train=12)).training()[0] for _ in range(2))
    assert set(first.label.tolist()) == {0, 1, 2}
    assert torch.equal(first.pixels, again.pixels)
    assert len(RunData(config_for(photos, num_train=10_000)).training()[0]) == 33, "of a folder at most so many"


def test_val_stands_in_for_test_and_the_lines_say_so(photos: Path) -> None:
    data = RunData(config_for(photos, codec="grey"))
    assert torch.equal(data.split("photos", "test").pixels, data.split("photos", "val").pixels)
    assert data.stand_in("photos", "test") == "val"
    lines = data.lines(data.training())
    assert lines[0].startswith("33 training and 3 val images of photos, 24 x 32 px, read as grey")
    assert "photos has no test split" in lines[1]
    assert any("broken.jpg: cannot be read" in line for line in lines) and any("notes.txt" in line for line in lines)


def test_an_own_test_split_is_used(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_photos(tmp_path / "split" / split, 4)
    data = RunData(config_for(tmp_path / "split"))
    assert data.stand_in("split", "test") == "test"
    assert len(data.split("split", "test")) == 12


def test_a_test_split_of_other_classes_is_said_before_training(tmp_path: Path) -> None:
    root = write_boxes(tmp_path / "boxes")
    val = (root / "annotations/instances_val.json").read_text()
    (root / "annotations/instances_test.json").write_text(val)
    data = RunData(config_for(root))
    data.lines(data.training())
    assert ("boxes", "test") not in data._read, "its pictures are not read"
    for content, message in ((val.replace("green", "violet"), "`boxes` has the classes blue, violet in test; the model has blue, green"), ("{", "not valid")):
        (root / "annotations/instances_test.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            data.lines(data.training())


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ((), "`data.sets` is empty"),
        (("fashoin",), "unknown data set `fashoin`: it is not a folder, nor one of fashion, fashion-scenes. Did you mean `fashion`"),
        (("a/photos", "b/photos"), "two data sets are called `photos`"),
        (("fashion", ""), "`data.sets` has an empty entry in fashion,;"),
    ],
)
def test_sets_that_cannot_be_are_one_line(sets: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/photos", "b/photos"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=message):
        RunData(config_for(*sets))


def test_strict_stops_at_the_first_mistake(photos: Path, boxes: Path) -> None:
    for folder, message in ((photos, "notes.txt: not one of"), (boxes, "annotation 900: unknown class 9")):
        with pytest.raises(ValueError, match=message):
            RunData(config_for(folder, strict=True)).training()


def test_splits_must_have_the_classes_of_the_model(photos: Path) -> None:
    config = config_for(photos)
    config = replace(config, model=replace(config.model, class_names=("green", "blue", "grey")))
    with pytest.raises(ValueError, match=r"`photos` has the classes blue, green, red in val; the model has green, blue, grey\. They must be the same"):
        RunData(config).split("photos", "val")


def test_classes_are_the_models_by_name(photos: Path) -> None:
    """Class folders come in the order of the alphabet, a model's classes in its own."""
    config = config_for(photos)
    own = RunData(config).split("photos", "val")
    found = RunData(replace(config, model=replace(config.model, class_names=("red", "blue", "green")))).split("photos", "val")
    assert found.class_names == ("red", "blue", "green") and own.class_names == ("blue", "green", "red")
    assert [found.class_names[label] for label in found.label] == [own.class_names[label] for label in own.label]
