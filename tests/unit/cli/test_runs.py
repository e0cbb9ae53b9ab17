"""What a configuration is made of where training begins from a finished model."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from own_folders import write_photos
from small_models import small_config, small_model

from genrep.cli.figures import print_next
from genrep.cli.main import main
from genrep.cli.runs import as_noisy, default_run, resolve_config
from genrep.model_folder import PACKAGED
from genrep.recipes import RECIPES
from genrep.schedules import LinearBetas, RectifiedFlow
from genrep.storage import write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_model(proposals=4).save_pretrained(tmp_path / "model")
    return tmp_path


def test_the_model_is_the_folders_but_for_classes_and_tasks(folder: Path) -> None:
    config, recipe = resolve_config("few-labels", {}, init=folder), RECIPES["few-labels"]()
    assert config.model == replace(small_config(proposals=4), class_names=(), tasks=("classification",))
    assert config.train == replace(recipe.train, init=str(folder.resolve() / "model"), best_by="mean")


def test_proposals_are_the_recipes_where_the_folder_detects_nothing(tmp_path: Path) -> None:
    small_model(tasks=("classification",)).save_pretrained(tmp_path / "model")
    assert resolve_config("demo", {}, init=tmp_path).model.proposals == RECIPES["demo"]().model.proposals


def test_overrides_come_last(folder: Path) -> None:
    assert resolve_config("demo", {"model.tasks": "detection"}, init=folder).model.tasks == ("detection",)


def test_a_folder_of_pictures_is_given_the_size_of_the_model(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos", 4)
    config = resolve_config(str(photos), {}, init=folder)
    height, width = config.model.image_size
    assert (config.model.image_size, config.model.codec) == (small_config().image_size, small_config().codec)
    assert f"chosen for them: --model.image_size {height},{width} --model.codec {config.model.codec} " in capsys.readouterr().err


def test_the_packaged_model_has_a_name_that_no_folder_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packaged").mkdir()
    assert resolve_config("demo", {}, init=Path("packaged")).train.init == str(PACKAGED)


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown recipe `.*nodir/`, and there is no folder of that name; recipes: .*demo"):
        resolve_config(f"{tmp_path}/nodir/", {})
    with pytest.raises(ValueError, match=r"Did you mean `demo`\?"):
        resolve_config("dem", {})


def test_a_run_is_called_as_what_it_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    for said, called in ((".", "photos"), ("../photos", "photos"), ("demo", "demo"), ("../old/config.json", "old")):
        assert default_run(said).name.startswith(f"{called}-2") and default_run(said).parent == Path("runs")


def test_what_comes_next_names_classes_that_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for names, said in ((["bag", "boot", "coat"], "--classes coat,bag+boot "), (["c", "c++", "rock, paper"], "--classes 2,0+1 ")):
        write_json(tmp_path / "config.json", {"model": {"class_names": names}})
        print_next(tmp_path)
        assert said in capsys.readouterr().out


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no model"):
        resolve_config("demo", {}, init=tmp_path)


def test_a_device_that_is_not_there_is_said_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("GENREP_DEVICE", raising=False)
    assert main(["generate", "--device", "cuda", "--out", str(tmp_path / "x.png")]) == 2
    assert "genrep: error: there is no device `cuda` to compute on; found cpu" in capsys.readouterr().err
    assert "GENREP_DEVICE" not in os.environ and not list(tmp_path.iterdir())


def test_times_of_a_recipe_mean_as_much_noise_in_another_schedule() -> None:
    """What is set by hand is taken as it is."""
    recipe, linear = RECIPES["demo"](), LinearBetas()
    found = as_noisy(recipe, linear)
    there, here = (torch.tensor([of.objective.noisy_t_max, *of.eval.guidance_interval]) for of in (found, recipe))
    torch.testing.assert_close(linear.logsnr(there), recipe.model.schedule.logsnr(here), rtol=0, atol=0.05)
    assert as_noisy(recipe, RectifiedFlow()) is recipe
