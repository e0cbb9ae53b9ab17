"""`genrep predict` and `genrep nll`: what they write where, and that a file's figures are its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_models import small_model

from genrep.cli.main import main
from genrep.cli.seeing import caption
from genrep.posteriors.calibration import Calibration

Save = Callable[..., str]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """A model folder, with a posterior; arguments are fields of its configuration."""

    def saved(**changes: Any) -> str:
        model = small_model(**changes)
        model.calibration = Calibration(tau=0.3, bias=(0.1, 0.2, 0.3, 0.4))
        model.save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return saved


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures, one of which is called as the mask of another would be."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, shade in (("cat", 90), ("cat_mask", 160), ("dog", 230)):
        picture = Image.new("L", (16, 16), 0)
        picture.paste(shade, (2, 3, 11, 13))
        picture.save(folder / f"{name}.png")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def height_of(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.height


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_picture_that_is_looked_at_is_never_overwritten(save: Save, photos: Path, overwrite: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(photos)
    assert main(["predict", str(photos), "--model", save(), "--out", str(photos), *overwrite]) == 2
    assert "cat_mask.png is read, and would be overwritten" in capsys.readouterr().err and contents(photos) == before


def test_every_file_that_exists_is_asked_about(save: Save, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", str(photos / "dog.png"), "--model", save(), "--out", str(tmp_path / "seen")]
    for name in ("dog_mask.png", "dog_overlay.png"):
        (tmp_path / "seen").mkdir(exist_ok=True)
        (tmp_path / "seen" / name).write_text("mine")
        assert main(command) == 2
        assert f"{name} exists" in capsys.readouterr().err and contents(tmp_path / "seen") == {name: b"mine"}
        (tmp_path / "seen" / name).unlink()
    assert main(command) == 0 == main([*command, "--overwrite"])
    assert set(contents(tmp_path / "seen")) == {"predictions.json", "dog_mask.png", "dog_overlay.png"}


def test_the_figures_of_a_file_are_the_same_alone_and_among_others(save: Save, photos: Path, tmp_path: Path) -> None:
    model = save(tasks=("classification",))
    found = []
    for name, asked in (("all", photos), ("alone", photos / "dog.png")):
        assert main(["predict", str(asked), "--model", model, "--out", str(tmp_path / name), "--posterior", "2", "--why"]) == 0
        assert main(["nll", str(asked), "--model", model, "--draws", "2", "--out", str(tmp_path / f"{name}.json")]) == 0
        files = (tmp_path / name / "predictions.json", tmp_path / f"{name}.json")
        found.append([next(entry for entry in json.loads(file.read_text())["images"] if entry["file"].endswith("dog.png")) for file in files])
    (seen, likely), (seen_alone, likely_alone) = found
    assert (tmp_path / "all" / "dog_why.png").read_bytes() == (tmp_path / "alone" / "dog_why.png").read_bytes()
    assert seen["posterior"] == pytest.approx(seen_alone["posterior"], abs=1e-4) and seen["divergence"] == pytest.approx(seen_alone["divergence"], abs=1e-4)
    for among, alone in ((seen["bits_per_dimension"], seen_alone["bits_per_dimension"]), (likely, likely_alone)):
        assert [among[end] for end in ("low", "high")] == pytest.approx([alone[end] for end in ("low", "high")], rel=1e-4)


def test_a_likelihood_does_not_replace_what_it_is_of(save: Save, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = (photos / "dog.png").read_bytes()
    assert main(["nll", str(photos), "--model", save(), "--draws", "2", "--out", str(photos / "dog.png"), "--overwrite"]) == 2
    assert "dog.png is read, and would be overwritten" in capsys.readouterr().err and (photos / "dog.png").read_bytes() == mine


def test_abstention_takes_a_class_to_abstain_from(save: Save, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", str(photos / "dog.png"), "--out", str(tmp_path / "seen"), "--posterior", "2", "--abstain-above", "-1", "--model"]
    assert main([*command, save(tasks=("segmentation",))]) == 2
    assert "this model has segmentation, and no classification" in capsys.readouterr().err and not (tmp_path / "seen").exists()
    assert main([*command, save(tasks=("classification",))]) == 0
    (entry,) = json.loads((tmp_path / "seen" / "predictions.json").read_text())["images"]
    assert entry["abstains"] and caption(entry) == ["abstains"]
    abstains = (tmp_path / "seen" / entry["overlay"]).read_bytes()
    assert main([*command[:-3], "--overwrite", "--model", save(tasks=("classification",))]) == 0
    assert (tmp_path / "seen" / entry["overlay"]).read_bytes() != abstains


def test_a_model_that_detects_abstains_below_its_boxes(save: Save, photos: Path, tmp_path: Path) -> None:
    command = ["predict", str(photos / "dog.png"), "--out", str(tmp_path / "seen"), "--model", save(), "--posterior", "2"]
    assert main(command) == 0
    plain = height_of(tmp_path / "seen" / "dog_overlay.png")
    assert main([*command, "--overwrite", "--abstain-above", "-1"]) == 0
    assert height_of(tmp_path / "seen" / "dog_overlay.png") > plain
    assert "abstains:" in json.loads((tmp_path / "seen" / "predictions.json").read_text())["units"]


def test_a_caption_has_the_number_of_a_class_whose_name_cannot_be_drawn() -> None:
    entry = {"class_probabilities": {"犬": 0.7, "boot": 0.2, "猫": 0.1}}
    assert caption(entry, ("猫", "boot", "犬")) == ["class 2 .70"]


def test_a_model_without_a_calibration_says_what_one_takes(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_model().save_pretrained(tmp_path / "model")
    assert main(["predict", str(photos), "--model", str(tmp_path / "model"), "--posterior", "2", "--out", str(tmp_path / "seen")]) == 2
    assert "on labelled pictures of one object" in " ".join(capsys.readouterr().err.split())


def test_a_picture_in_another_format_is_told_which_are_read(save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (16, 16), 9).save(tmp_path / "an.gif")
    assert main(["predict", str(tmp_path / "an.gif"), "--model", save(), "--out", str(tmp_path / "seen")]) == 2
    assert "formats: JPEG, PNG, WEBP, BMP" in " ".join(capsys.readouterr().err.split())


def test_a_likelihood_takes_no_places(save: Save, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nll", str(photos), "--model", save(), "--class", "a@1:2:3:4", "--out", str(tmp_path / "bits.json")]) == 2
    assert "leave the places out" in capsys.readouterr().err and not (tmp_path / "bits.json").exists()


def test_a_prior_moves_posterior_and_combined_and_is_written_beside_them(save: Save, photos: Path, tmp_path: Path) -> None:
    """By its own log-odds; estimated, it is the frequency of what the posterior finds, to which that is drawn."""
    model, found = save(tasks=("classification",)), {}
    for prior in ("uniform", "b=.7,c=.1", "estimated"):
        assert main(["predict", str(photos), "--model", model, "--out", str(tmp_path / prior), "--posterior", "2", "--prior", prior]) == 0
        found[prior] = json.loads((tmp_path / prior / "predictions.json").read_text())["images"]
    assert not any("prior" in entry for entry in found["uniform"])
    for entry, given in zip(found["uniform"], found["b=.7,c=.1"], strict=True):
        assert given["prior"] == pytest.approx({"a": 0.1, "b": 0.7, "c": 0.1, "d": 0.1}, abs=1e-6) and given["divergence"] == entry["divergence"]
        odds = (each["posterior"]["b"] / each["posterior"]["a"] for each in (given, entry))
        assert next(odds) / next(odds) == pytest.approx(7, rel=1e-4)
    estimated = found["estimated"]
    mean = {name: sum(entry["posterior"][name] for entry in estimated) / 3 for name in "abcd"}
    assert estimated[0]["prior"] == pytest.approx(mean, abs=1e-3) != pytest.approx(dict.fromkeys("abcd", 0.25), abs=0.05)


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ("e=.5", "unknown class `e`"),
        ("a=much", "has `a=much`; expected uniform, estimated, or CLASS=FREQUENCY"),
        ("a=.5,b=.6", "sum up to 1; found 1.1 in all"),
        ("a=0", "frequencies are above 0"),
        ("a=.2,b=.2,c=.2,d=.2", "sum up to 1; found 0.8"),
    ],
)
def test_a_prior_that_is_none_is_refused(save: Save, photos: Path, tmp_path: Path, prior: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", str(photos), "--model", save(), "--out", str(tmp_path / "seen"), "--prior", prior]
    assert main(command) == 2 and "say `--posterior BUDGET` too" in capsys.readouterr().err
    assert main([*command, "--posterior", "2"]) == 2 and said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "seen").exists()
