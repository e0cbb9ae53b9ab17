"""Model folders: what is loaded is what was saved, or nothing is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from rectangles import rectangles
from small_models import small_model

from genrep.model import GenRep
from genrep.model_folder import PACKAGED, model_card
from genrep.posteriors import DenoisingGap
from genrep.posteriors.calibration import Calibration, ObjectCalibration
from genrep.posteriors.gate import Gate
from genrep.samplers import Ancestral
from genrep.schedules import CosineVP
from genrep.storage import MANIFEST, read_json, sha256_of, write_folder, write_json
from genrep.tasks.confidence import Confidence

FILES = ("config.json", "model.safetensors", "README.md", MANIFEST)


@pytest.fixture(scope="module")
def model() -> GenRep:
    model = small_model(schedule=CosineVP(max_logsnr=18.0), prediction="v", tasks=("segmentation", "classification"))
    model.calibration = Calibration(tau=0.3, bias=(0.1, 0.2, 0.3, 0.4))
    model.gate = Gate(weight=0.3, standard_error=0.1, head=0.8)
    model.object_calibration = ObjectCalibration(tau=0.2, gamma=0.5, bias=(0.0, 0.0, 0.1, -0.1))
    model.heads["classification"].confidence = Confidence(slope=0.4)
    return model


@pytest.fixture
def folder(model: GenRep, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model", results={"top1": 0.8765, "top1_low": 0.87, "top1_high": 0.88, "AP50": 0.5}, recipe="recipe `demo`")
    return tmp_path / "model"


def reseal(folder: Path) -> None:
    """A manifest that fits whatever the files now are."""
    write_json(folder / MANIFEST, {name: sha256_of(folder / name) for name in FILES if name != MANIFEST})


def test_a_loaded_model_is_the_saved_one(model: GenRep, folder: Path) -> None:
    found = GenRep.from_pretrained(folder)
    assert found.config == model.config and not found.training
    assert (found.calibration, found.object_calibration, found.gate) == (model.calibration, model.object_calibration, model.gate)
    assert {name: head.confidence for name, head in found.tasks()} == {"classification": Confidence(slope=0.4), "segmentation": Confidence()}
    image = rectangles(3, size=16).batch(torch.arange(3)).image
    seen, expected = found.perceive(image), model.perceive(image)
    assert torch.equal(seen.class_log_probs, expected.class_log_probs) and torch.equal(seen.semantic_mask, expected.semantic_mask)
    sampler, estimator = Ancestral(num_steps=3), DenoisingGap(budget=2)
    made = [m.generate(torch.tensor([0, 3]), guidance=2.0, sampler=sampler) for m in (found, model)]
    assert torch.equal(*made)
    assert torch.equal(found.posterior(image, estimator=estimator), model.posterior(image, estimator=estimator))


def test_a_model_without_calibration_comes_back_without(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path / "model")
    found = GenRep.from_pretrained(tmp_path / "model")
    assert found.calibration is None and found.object_calibration is None and found.gate is None
    with pytest.raises(ValueError, match="weigh beside each other"):
        found.combined(rectangles(1, size=16).batch(torch.arange(1)).image)


def test_a_folder_of_before_gates_confidence_and_estimators_were_kept_still_loads(model: GenRep, folder: Path) -> None:
    stored = read_json(folder / "config.json")
    del stored["gate"], stored["confidence"], stored["estimator"]
    write_json(folder / "config.json", stored)
    reseal(folder)
    found = GenRep.from_pretrained(folder)
    assert found.gate is None and all(head.confidence == Confidence() for _, head in found.tasks())
    assert found.calibration == model.calibration and found.estimator == DenoisingGap(budget=8)


@pytest.mark.parametrize("estimator", [{"name": "of_another_program", "level": 3}, {"budget": 4}])
def test_what_an_unknown_estimator_was_calibrated_for_is_nothing_to_others(folder: Path, estimator: dict[str, object]) -> None:
    write_json(folder / "config.json", read_json(folder / "config.json") | {"estimator": estimator})
    reseal(folder)
    found = GenRep.from_pretrained(folder)
    assert found.calibration is None and found.perceive(rectangles(1, size=16).batch(torch.arange(1)).image).class_log_probs is not None


def test_the_folder_holds_four_files_and_a_card_with_the_figures(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    card = (folder / "README.md").read_text()
    assert "| top1 | 0.8765 | 0.87 to 0.88 |\n| AP50 | 0.5 |  |" in card and "top1_low" not in card
    assert "Classes: a, b, c, d." in card and "Made by recipe `demo`" in card
    assert "segmentation, classification" in card and str(folder.parent) not in card


def test_the_card_says_what_this_model_is_and_whose_it_is_is_not_known_here(folder: Path) -> None:
    (tags,) = (line for line in (folder / "README.md").read_text().splitlines() if line.startswith("tags:"))
    assert "image-segmentation" in tags and "object-detection" not in tags and "license" not in (folder / "README.md").read_text()
    card = model_card(small_model(tasks=()), {}, "")
    assert "tags: [diffusion, image-generation]" in card and "A diffusion model that generates class-conditional images" in card and "perceive" not in card


def test_the_cards_example_runs(folder: Path) -> None:
    """With this folder for the place holder."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0].replace("PATH_OF_THIS_FOLDER", str(folder))
    found: dict[str, object] = {}
    exec(code, found)
    assert found["images"].shape == (3, 3, 16, 16) and found["seen"].class_log_probs.shape == (3, 4)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_by_file_name(folder: Path, name: str) -> None:
    file = folder / name
    whole = file.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=name):
            GenRep.from_pretrained(folder)
    file.write_bytes(whole)
    GenRep.from_pretrained(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        GenRep.from_pretrained(folder)


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere is not a model folder: there is no such folder"):
        GenRep.from_pretrained(tmp_path / "nowhere")


def test_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    other = small_model(tasks=("classification",))
    other.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder / "model.safetensors")
    reseal(folder)
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit its config\.json: first at `denoiser\.trunk\.|first at `heads\.segmentation"):
        GenRep.from_pretrained(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 99, "format 99; this version reads 2. Update genrep"),
        ("format", 1, "Train the model anew: its trunk was another one"),
        ("config", {"codecs": "grey"}, "`codec`"),
    ],
)
def test_configurations_it_does_not_know_are_refused(folder: Path, key: str, value: object, message: str) -> None:
    stored = read_json(folder / "config.json")
    write_json(folder / "config.json", {**stored, key: value})
    reseal(folder)
    with pytest.raises(ValueError, match=message):
        GenRep.from_pretrained(folder)


def test_half_precision_is_half_the_size_and_computes_in_float32(model: GenRep, folder: Path) -> None:
    model.save_pretrained(folder.parent / "half", half=True)
    found, weights = GenRep.from_pretrained(folder.parent / "half"), dict(model.named_parameters())
    assert (folder.parent / "half" / "model.safetensors").stat().st_size < 0.6 * (folder / "model.safetensors").stat().st_size
    for name, weight in found.named_parameters():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, weights[name], rtol=2**-11, atol=2**-24)


def test_the_packaged_model_makes_what_it_sees() -> None:
    """It comes with the package, small, measured, and recognises the garments that it makes: by chance a tenth would agree."""
    assert sum(file.stat().st_size for file in PACKAGED.iterdir()) <= 11e6
    assert "generation/sample_accuracy" in (PACKAGED / "README.md").read_text()
    model, labels = GenRep.from_pretrained(), torch.arange(10).repeat(2)
    seen = model.perceive(model.generate(labels, sampler=Ancestral(num_steps=12), guidance=2.0))
    assert (seen.class_log_probs.argmax(1) == labels).float().mean() >= 0.6


def test_saving_again_replaces_the_folder(model: GenRep, folder: Path) -> None:
    other = small_model(seed=1)
    other.save_pretrained(folder)
    found = GenRep.from_pretrained(folder)
    assert found.config == other.config != model.config
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("beside", ["notes.txt", "photos/cat.jpg"])
def test_files_of_others_are_not_replaced_by_a_model(model: GenRep, folder: Path, tmp_path: Path, beside: str) -> None:
    for place, message in ((folder, f"holds `{beside}` beside a model"), (tmp_path / "keep", "is no folder of a model")):
        (place / beside).parent.mkdir(parents=True, exist_ok=True)
        (place / beside).write_text("mine")
        with pytest.raises(ValueError, match=message):
            model.save_pretrained(place)
        assert (place / beside).read_text() == "mine"
    assert GenRep.from_pretrained(folder).config == model.config


def test_an_empty_folder_is_filled_and_a_checkpoint_or_a_file_is_left_alone(model: GenRep, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    model.save_pretrained(tmp_path / "empty")
    assert GenRep.from_pretrained(tmp_path / "empty").config == model.config
    write_folder(tmp_path / "step_1", lambda made: write_json(made / "state.json", {}))
    (tmp_path / "file").write_text("mine")
    for name, message in (("step_1", "is no folder of a model"), ("file", "is a file")):
        with pytest.raises(ValueError, match=message):
            model.save_pretrained(tmp_path / name)
    assert read_json(tmp_path / "step_1" / "state.json") == {} and (tmp_path / "file").read_text() == "mine"
