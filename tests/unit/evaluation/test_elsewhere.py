"""A run's model on data it was not trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from own_folders import write_photos
from PIL import Image
from rectangles import rectangles
from small_models import small_model

from genrep.cli.main import main
from genrep.datasets import ArrayDataset, check_data
from genrep.evaluation import evaluate_elsewhere
from genrep.evaluation.evaluate import homes_of
from genrep.evaluation.perception import MEASURES, see
from genrep.model import GenRep
from genrep.overrides import to_dict
from genrep.training import RunFolder
from genrep.types import IGNORE

MakeRun = Callable[..., Path]


def test_a_test_split_is_measured_as_it_would_be_at_home(make_run: MakeRun) -> None:
    run = make_run()
    path, figures = evaluate_elsewhere(run, ("fashion-scenes",))
    assert path == run / "eval-fashion-scenes.json" and json.loads(path.read_text()) == figures
    model = GenRep.from_pretrained(run / "model")
    expected = see(model, rectangles(24, num_objects=2, size=16, name="fashion-scenes", seed=len("test")))
    for task in ("detection", "segmentation"):
        for key, value in MEASURES[task](expected, model.class_names).figures.items():
            assert figures[f"fashion-scenes/{task}/{key}"] == pytest.approx(value)
    assert figures["fashion-scenes/n"] == 24 and not any("classification" in name for name in figures)
    assert not (run / "eval.json").exists()


@pytest.fixture
def of_colours(make_run: MakeRun, tmp_path: Path) -> Path:
    """A run whose model knows colours by name."""
    run = RunFolder(make_run(tasks=("classification",)))
    model = small_model(tasks=("classification",), class_names=("blue", "green", "red"), codec="pixels")
    model.save_pretrained(tmp_path / "model")
    settings = json.loads(run.config.read_text())
    run.config.write_text(json.dumps(settings | {"model": to_dict(replace(model.config))}))
    for file in (tmp_path / "model").iterdir():
        (run.model / file.name).write_bytes(file.read_bytes())
    return run.path


def test_of_a_folder_without_splits_every_picture_counts(of_colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos", 7)
    assert main(["eval", str(of_colours), "--data", str(photos)]) == 0
    out = capsys.readouterr().out
    assert "photos/classification/top1" in out and f"wrote {of_colours / 'eval-photos.json'}" in out
    figures = json.loads((of_colours / "eval-photos.json").read_text())
    assert figures["photos/n"] == 21 and "photos/n_val" not in figures and "perception of photos, all of it" in out


def test_a_picture_of_some_classes_is_enough(of_colours: Path, tmp_path: Path) -> None:
    """The other classes can be seen in it, and count as errors."""
    photos = write_photos(tmp_path / "photos", 7)
    whole = evaluate_elsewhere(of_colours, (str(photos),))[1]
    right, num = 0.0, 0
    for name in ("blue", "red"):
        few = tmp_path / name / "photos"
        shutil.copytree(photos / name, few / name)
        figures = evaluate_elsewhere(of_colours, (str(few),))[1]
        right, num = right + 7 * figures["photos/classification/top1"], num + 7
        for file in sorted((few / name).iterdir())[1:]:
            file.unlink()
        one = evaluate_elsewhere(of_colours, (str(few),))[1]
        assert figures["photos/n"] == 7 and one["photos/n"] == 1 and "photos/n_val" not in one and one["photos/classification/top1"] in (0, 1)
    shutil.rmtree(photos / "blue")
    shutil.rmtree(photos / "red")
    of_green = evaluate_elsewhere(of_colours, (str(photos),))[1]["photos/classification/top1"]
    assert whole["photos/classification/top1"] == pytest.approx((right + 7 * of_green) / 21)


def test_folders_of_one_name_have_a_file_each(of_colours: Path, tmp_path: Path) -> None:
    here, there = (write_photos(tmp_path / site / "photos", num) for site, num in (("here", 7), ("there", 5)))
    first, second = (evaluate_elsewhere(of_colours, (str(each),))[0] for each in (here, there))
    assert first == of_colours / "eval-photos.json" != second
    assert [json.loads(path.read_text())["photos/folder"] for path in (first, second)] == [str(here), str(there)]
    before = first.read_text()
    assert [evaluate_elsewhere(of_colours, (str(each),))[0] for each in (here, there)] == [first, second] and first.read_text() == before


def test_of_what_a_model_was_trained_on_val_counts_alone(of_colours: Path, tmp_path: Path) -> None:
    """Where there is no test split; the same folder under another path is the same."""
    photos = write_photos(tmp_path / "photos", 7)
    run = RunFolder(of_colours)
    settings = json.loads(run.config.read_text())
    run.config.write_text(json.dumps(settings | {"data": settings["data"] | {"sets": [str(photos)]}}))
    num = check_data(photos).num_images["val"]
    assert 0 < num < 10 and evaluate_elsewhere(of_colours)[1]["photos/n"] == num
    assert evaluate_elsewhere(of_colours, (str(photos / ".." / "photos"),))[1]["photos/n"] == num
    assert evaluate_elsewhere(of_colours)[1]["photos/n_val"] == num


def test_other_classes_are_named(of_colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (16, 16), (30 * i,) * 3).save(tmp_path / "pets" / name / f"{i}.png")
    assert main(["eval", str(of_colours), "--data", str(tmp_path / "pets")]) == 2
    assert "`pets` has the classes cat, dog in train; the model has blue, green, red. All must be among the model's" in capsys.readouterr().err


def test_nothing_to_measure_and_no_run(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`fashion-scenes` has no annotations of what this model sees \(classification\)"):
        evaluate_elsewhere(make_run(tasks=("classification",)), ("fashion-scenes",))
    with pytest.raises(ValueError, match="is not a finished run"):
        evaluate_elsewhere(tmp_path, ("fashion",))


def test_segmentation_is_at_home_where_masks_are() -> None:
    """Boxes may come from one set and masks from another; without masks it stays with the objects."""
    boxes = rectangles(2, num_objects=2, size=16, name="boxes")
    masks = replace(boxes, name="masks", has_objects=torch.zeros(2, dtype=torch.bool))
    bare = replace(boxes, semantic_mask=torch.full_like(boxes.semantic_mask, IGNORE))
    model = small_model(tasks=("classification",))

    def homes(*sets: ArrayDataset) -> tuple[str | None, str | None]:
        found = homes_of([replace(see(model, boxes), name=each.name, truth=each.batch(torch.arange(2))) for each in sets])
        return found["detection"], found["segmentation"]

    assert homes(bare, masks) == ("boxes", "masks") and homes(masks, boxes) == ("boxes", "boxes") and homes(bare) == ("boxes", "boxes")
