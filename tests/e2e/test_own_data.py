"""A user's own folders through the command line: from the check to the report, without a line of code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from own_folders import write_boxes, write_masks, write_pets, write_photos, write_plain, write_rooms, write_table, write_voc
from PIL import Image

pytestmark = pytest.mark.slow

Genrep = Callable[..., tuple[str, str]]
SHARED = Path(os.environ.get("GENREP_SHARED_DATA", "nowhere"))


def train(genrep: Genrep, folder: Path | str, out: str, *more: str) -> str:
    return genrep("train", "tiny", "--data.sets", str(folder), "--model.codec", "pixels", "--out", out, *more)[0]


def test_class_folders_from_the_check_to_the_report(genrep: Genrep, work: Path) -> None:
    write_photos(work / "own" / "photos", 80)
    said = train(genrep, "own/photos", "runs/photos", "--model.image_size", "32,32")
    for line in (
        "64 training and 24 val images of photos, 32 x 32 px; classes: blue, green, red",
        "photos has no test split",
        "broken.jpg: cannot be read",
        "detection is left out: no set has annotations for it",
        "a look at the data: runs/photos/data.png",
    ):
        assert line in said
    assert "detection" not in said.split("left out")[-1]
    assert "broken.jpg" in (work / "runs/photos/log.txt").read_text()
    said = genrep("eval", "runs/photos")[0]
    figures = json.loads((work / "runs/photos/eval.json").read_text())
    assert {"classification/top1", "generation/sample_accuracy", "generation/kid"} <= figures.keys()
    assert not any(name.startswith(("detection", "segmentation")) or "kid_real" in name for name in figures)
    assert "note: photos has no test split: its figures are of val" in said and "--classes red,blue+green" in said
    assert "red" in (work / "runs/photos/report.html").read_text()
    genrep("predict", "own/photos/red/3.png", "--model", "runs/photos", "--out", "own/seen")
    entry = json.loads((work / "own/seen/predictions.json").read_text())["images"][0]
    assert set(entry["class_probabilities"]) == {"red", "green", "blue"} and "objects" not in entry
    genrep("generate", "--model", "runs/photos", "--classes", "red,blue+green", "--count", "2", "--steps", "2", "--out", "own/grid.png")
    assert "nothing is left to train" in train(genrep, work / "own/photos", "runs/photos", "--model.image_size", "32,32")


def test_boxes_at_another_size_and_too_few_images_for_a_judge(genrep: Genrep, work: Path) -> None:
    write_boxes(work / "own" / "boxes")
    said = train(genrep, "own/boxes", "runs/boxes", "--model.image_size", "48,64")
    assert "boxes: instances_train.json annotation 900: unknown class 9" in said
    assert "segmentation is left out: no set has annotations for it" in said
    with Image.open(work / "runs/boxes/data.png") as picture:
        assert min(picture.size) > 200
    assert "note: samples: not measured" in genrep("eval", "runs/boxes")[0]
    figures = json.loads((work / "runs/boxes/eval.json").read_text())
    assert "detection/ap50" in figures and not any(name.startswith(("segmentation", "generation")) for name in figures)
    genrep("predict", "own/boxes/images", "--model", "runs/boxes", "--out", "own/seen_boxes", "--min-score", "0")
    objects = json.loads((work / "own/seen_boxes/predictions.json").read_text())["images"][0]["objects"]
    assert all(0 <= x0 <= x1 <= 32.01 and 0 <= y0 <= y1 <= 24.01 for found in objects for x0, y0, x1, y1 in [found["box_xyxy_px"]])


def test_masks_train_segmentation(genrep: Genrep, work: Path) -> None:
    write_boxes(work / "own" / "masks", masks=True)
    assert "left out: no set" not in train(genrep, "own/masks", "runs/masks", "--model.image_size", "24,32")
    out, _ = genrep("eval", "runs/masks")
    assert ("on val" in out) == ("has no test split: its figures are of val" in out) and "on test" not in out
    report = (work / "runs/masks/report.html").read_text()
    assert "come from validation images" in report and "test images that neither" not in report and "test images of masks" not in report
    out, _ = genrep("calibrate", "runs/masks")
    assert (
        "was said of the model before is in runs/masks/eval-before.json, runs/masks/report-before.html;" in out and not (work / "runs/masks/eval.json").exists()
    )
    genrep("eval", "runs/masks")
    assert "segmentation/miou_foreground" in json.loads((work / "runs/masks/eval.json").read_text())


def test_sets_that_know_different_things_train_together(genrep: Genrep, work: Path) -> None:
    """Classes from one, boxes from another, masks from a third, nothing from a fourth; the best model is kept beside the last."""
    shutil.rmtree(write_photos(work / "own" / "two", 16) / "red")
    for name, write in (("located", write_boxes), ("parts", write_masks), ("plain", write_plain)):
        write(work / "own" / name)
    sets = ",".join(f"own/{name}" for name in ("two", "located", "parts", "plain"))
    short = ["--train.stage1_images", "32", "--train.stage2_images", "16", "--objective.posterior", "none", "--objective.prior_steps", "0"]
    said = train(genrep, sets, "runs/mixed", "--model.image_size", "24,32", "--train.best_by", "mean", "--train.validations", "2", *short)
    assert "18 training and 2 val images of plain, 24 x 32 px; classes: blue, green" in said and "left out: no set" not in said
    assert "validation: step" in said and "runs/mixed/model_best, of step" in said
    genrep("eval", "runs/mixed", "--weights", "best")
    best = json.loads((work / "runs/mixed/eval-best-two+located+parts+plain.json").read_text())
    assert {"two/classification/top1", "located/detection/ap50", "parts/segmentation/miou"} <= best.keys()
    assert "parts/detection/ap50" not in best and "plain/n" not in best
    genrep("eval", "runs/mixed")
    figures = json.loads((work / "runs/mixed/eval.json").read_text())
    assert {"classification/top1", "detection/ap50", "segmentation/miou"} <= figures.keys()
    genrep("predict", "own/plain/3.jpg", "--model", "runs/mixed/model_best", "--out", "own/seen_best")


@pytest.mark.parametrize(
    ("write", "known"),
    [(write_masks, "segmentation/miou"), (write_voc, "detection/ap50"), (write_pets, "segmentation/miou")],
)
def test_other_layouts_train_by_their_path(genrep: Genrep, work: Path, write: Callable[[Path], Path], known: str) -> None:
    name = write.__name__
    write(work / "own" / name)
    short = ["--train.stage1_images", "16", "--train.stage1_batch_size", "8", "--train.stage2_images", "16", "--train.batch_size", "8"]
    genrep("train", f"own/{name}", "--out", f"runs/{name}", *short, "--objective.posterior", "none", "--objective.prior_steps", "0")
    genrep("eval", f"runs/{name}")
    assert known in json.loads((work / "runs" / name / "eval.json").read_text())
    assert (work / "runs" / name / "model_best" / "model.safetensors").is_file()


def test_class_sets_train_a_model_and_judge_what_it_makes(genrep: Genrep, work: Path) -> None:
    """A table of which every class is known: real pictures are judged by it as it says, and what is seen is written below a picture."""
    write_table(work / "own" / "table", num=400)
    short = ["--train.stage1_images", "16", "--train.stage1_batch_size", "8", "--train.stage2_images", "16", "--train.batch_size", "8"]
    cheap = ["--objective.posterior", "none", "--objective.prior_steps", "0", "--eval.num_scene_samples", "40"]
    said, line = genrep("train", "own/table", "--out", "runs/table", *short, *cheap)
    assert "with any number of classes" in line and "classes: blue, green, red" in said
    genrep("eval", "runs/table")
    figures = json.loads((work / "runs/table/eval.json").read_text())
    assert figures["generation/scenes_f1_real"] > 0.8 > figures["generation/scenes_f1"] and 0 < figures["multilabel/map"] <= 1
    genrep("predict", "own/table/images/3.png", "--model", "runs/table", "--out", "own/of_table")
    with Image.open(work / "own/of_table/3_overlay.png") as overlay:
        assert overlay.height > overlay.width * 20 / 24 + 16, "there is room for words"


def test_a_folder_chooses_its_recipe(genrep: Genrep, work: Path) -> None:
    write_photos(work / "own" / "looked_at", 8)
    short = ["--train.stage1_images", "8", "--train.stage1_batch_size", "4", "--train.stage2_images", "8", "--train.batch_size", "4"]
    said, line = genrep("train", "own/looked_at", "--out", "runs/chosen", *short, "--objective.posterior", "none", "--objective.prior_steps", "0")
    assert "25 pictures of about 20 x 24 px, in colour; chosen for them: --model.image_size 20,24 --model.codec pixels" in line
    assert "classes: blue, green, red" in said
    made = json.loads((work / "runs/chosen/model/config.json").read_text())["config"]
    assert made["image_size"] == [20, 24] and made["tasks"] == ["classification"]


def test_rooms_train_metric_depth(genrep: Genrep, work: Path) -> None:
    write_rooms(work / "own" / "rooms", per_scene=12)
    small = ["--model.image_size", "16,16", "--model.tasks", "classification,depth", "--model.depth", "metric"]
    said = train(genrep, "own/rooms", "runs/rooms", *small)
    assert "36 training and 12 val images of rooms, 16 x 16 px; classes: bath, kitchen" in said
    genrep("eval", "runs/rooms")
    figures = json.loads((work / "runs/rooms/eval.json").read_text())
    assert {"depth/abs_rel", "depth/rmse_m", "depth/delta1_low"} <= figures.keys()
    assert "Depth within 25 %" in (work / "runs/rooms/report.html").read_text()
    genrep("predict", "own/rooms/bath_0001/rgb_0.jpg", "--model", "runs/rooms", "--out", "own/deep")
    (entry,) = json.loads((work / "own/deep/predictions.json").read_text())["images"]
    with Image.open(work / "own/deep" / entry["depth"]) as depth:
        assert depth.size == (32, 24) and depth.mode.startswith("I;16")


def test_one_class_and_a_handful_of_pictures_are_enough_to_train_on(genrep: Genrep, work: Path) -> None:
    (work / "own" / "one" / "disc").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (16, 16), (60 * number, 90, 90)).save(work / "own" / "one" / "disc" / f"{number}.png")
    said = train(genrep, "own/one", "runs/one", "--model.image_size", "16,16")
    assert "3 training and 1 val images of one, 16 x 16 px; classes: disc" in said
    genrep("generate", "--model", "runs/one", "--count", "1", "--steps", "1", "--out", "own/one.png")
    assert "note: samples: not measured" in genrep("eval", "runs/one")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.sets", "own/absent"], "unknown data set `own/absent`: it is not a folder"),
        (["--data.sets", "own/empty"], "empty has no pictures; expected CLASS/*.jpg"),
        (["--data.sets", "own/discs", "--data.strict", "true"], "notes.txt: not one of"),
        (["--data.sets", "own/discs", "--model.image_size", "50,64"], "must be a multiple of 4"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(genrep: Genrep, work: Path, arguments: list[str], message: str) -> None:
    (work / "own" / "empty").mkdir(parents=True, exist_ok=True)
    if not (work / "own" / "discs").exists():
        write_photos(work / "own" / "discs", 4)
    error = genrep("train", "tiny", "--model.codec", "pixels", "--out", "runs/mistake", *arguments, code=2)[1]
    assert message in error and error.startswith("genrep: error: ") and error.count("\n") == 1
    assert not (work / "runs" / "mistake").exists()


def test_from_the_packaged_model_on_other_classes_and_not_from_one_that_does_not_fit(genrep: Genrep, work: Path) -> None:
    write_photos(work / "own" / "few", 8)
    begin = ["train", "tiny", "--init", "packaged", "--data.sets", "own/few", "--train.stage1_images", "8", "--train.stage1_batch_size", "4"]
    begin += ["--train.stage2_images", "8", "--train.batch_size", "4", "--objective.posterior", "none", "--out", "runs/tuned"]
    said = genrep(*begin)[0]
    assert "begins from" in said and "its classes are others (t-shirt, trouser" in said
    made = json.loads((work / "runs/tuned/model/config.json").read_text())["config"]
    assert made["class_names"] == ["blue", "green", "red"] and made["trunk"]["width"] == 128
    error = genrep(*begin[:-1], "runs/unfit", "--model.trunk.width", "32", code=2)[1]
    assert "`genrep train --init` takes the model's settings from the folder" in error and not (work / "runs" / "unfit").exists()


@pytest.mark.skipif(not (SHARED / "eth80").is_dir(), reason="$GENREP_SHARED_DATA has no eth80")
def test_eth80_has_all_tasks_at_96_px(genrep: Genrep, work: Path) -> None:
    said = train(genrep, SHARED / "eth80", "runs/eth80", "--model.image_size", "96,96")
    assert "64 training and 656 val images of eth80, 96 x 96 px; classes: apple, car, cow, cup, dog, horse, pear, tomato" in said
    assert "left out: no set" not in said


@pytest.mark.skipif(not (SHARED / "bccd").is_dir(), reason="$GENREP_SHARED_DATA has no bccd")
def test_bccd_has_boxes_and_no_masks(genrep: Genrep, work: Path) -> None:
    said = train(genrep, SHARED / "bccd", "runs/bccd", "--model.image_size", "96,128")
    assert "64 training and 87 val images of bccd, 96 x 128 px; classes: RBC, WBC, Platelets" in said
    assert "segmentation is left out" in said and "detection is left out" not in said
    genrep("eval", "runs/bccd")
    assert "detection/ap50" in json.loads((work / "runs/bccd/eval.json").read_text())
