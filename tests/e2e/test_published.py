"""From a published pipeline to a model that makes, learns to see and is measured, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from own_folders import write_boxes, write_photos
from PIL import Image
from small_pipelines import save_pipeline

pytestmark = pytest.mark.slow

Genrep = Callable[..., tuple[str, str]]


@pytest.fixture
def model(genrep: Genrep, work: Path) -> str:
    if not (work / "published" / "dit").is_dir():
        save_pipeline(work / "published" / "dit")
    said, _ = genrep("convert", "published/dit", "--out", "published/model", "--overwrite")
    assert "3 classes, images of 16 x 16 px" in said and "genrep train PICTURES --init published/model" in said
    return "published/model"


def test_it_makes_images_at_once_and_sees_nothing(genrep: Genrep, work: Path, model: str) -> None:
    genrep("generate", "--model", model, "--classes", "tench,crane 2", "--count", "2", "--steps", "3", "--sampler", "dpm_solver", "--out", "published/grid.png")
    with Image.open(work / "published/grid.png") as picture:
        assert len(picture.getcolors(1 << 20) or ()) > 10
    write_photos(work / "published" / "photos", 8)
    assert "perceives nothing" in genrep("predict", "published/photos/red", "--model", model, "--out", "published/seen", code=2)[1]


def test_it_learns_to_see_what_is_annotated(genrep: Genrep, work: Path, model: str) -> None:
    """Boxes and classes; what it began from is neither touched nor needed."""
    write_boxes(work / "published" / "boxes")
    short = ("--train.stage1_images", "64", "--train.stage2_images", "64", "--objective.prior_steps", "5", "--objective.gate_images", "8")
    genrep("train", "published/boxes", "--init", model, "--out", "runs/published", *short, "--eval.num_test", "20", "--eval.num_samples", "0")
    whole = json.loads((work / "runs/published/config.json").read_text())
    assert whole["objective"]["noisy_t_max"] == pytest.approx(0.052, abs=0.002), "as much noise as .15 is in the recipe's schedule"
    config = whole["model"]
    assert config["trunk"]["name"] == "plain_dit" and config["schedule"]["name"] == "linear" and config["prediction"] == "eps"
    (work / "published" / "model").rename(work / "published" / "moved")
    genrep("eval", "runs/published")
    assert "detection/ap50" in json.loads((work / "runs/published/eval.json").read_text())
    genrep("predict", "published/boxes/images", "--model", "runs/published", "--out", "published/seen", "--min-score", "0")
    assert any(image["objects"] for image in json.loads((work / "published/seen/predictions.json").read_text())["images"])


def test_folders_that_are_none_are_refused_and_nothing_is_overwritten(genrep: Genrep, model: str) -> None:
    assert "exists; name another `--out`" in genrep("convert", "published/dit", "--out", model, code=2)[1]
    assert "lie in each other" in genrep("convert", "published/dit", "--out", "published/dit/model", code=2)[1]
    assert "expected the folder of a DiT's pipeline" in genrep("convert", "runs", "--out", "published/other", code=2)[1]
