"""The best model beside the last: which figure decides, resumed bit for bit, and the last is what it would be without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rectangles import rectangles
from small_models import small_model
from toy_runs import STEPS1, STEPS2, assert_same_model, assert_same_state, config, events, newest, stopped

from genrep.config import Config, TrainConfig
from genrep.evaluation import evaluate_elsewhere
from genrep.model import GenRep
from genrep.tasks.confidence import Confidence
from genrep.training import RunFolder, best, train
from genrep.training.best import FIGURES, Best, measured

pytestmark = pytest.mark.usefixtures("toy_world")

VAL = rectangles(24, num_objects=2, size=16).batch(torch.arange(24))


def judged(by: str | None = "mean", jobs: tuple[str, ...] = ("perception",)) -> Config:
    """The toy run without lessons, which looks three times."""
    quick = replace(config().objective, posterior=None, jobs=jobs)
    return replace(config(), objective=quick, train=replace(config().train, best_by=by, validations=3, validation_images=12))


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures by which the second look is the best."""
    scores = iter((0.2, 0.9, 0.1))
    monkeypatch.setattr(best, "measured", lambda *_: {"classification": next(scores)})


@pytest.fixture(scope="module")
def whole(toy_world: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = stopped(tmp_path_factory.mktemp("runs") / "whole", STEPS1 + STEPS2, judged())
    return train(judged(), run)


def test_both_are_kept_and_the_last_is_what_it_would_be_alone(whole: Path, tmp_path: Path) -> None:
    alone = train(judged(None), tmp_path / "alone")
    assert_same_model(whole, alone)
    assert not RunFolder(alone).model_best.exists()
    with pytest.raises(ValueError, match="kept no best model; train with"):
        evaluate_elsewhere(alone, weights="best")
    looks = events(whole, "validation")
    assert [look["step"] for look in looks] == [STEPS1 + 2, STEPS1 + 4, STEPS1 + 6]
    assert {"classification", "detection", "segmentation"} <= looks[0].keys() and looks[0]["is_best"]
    assert GenRep.from_pretrained(RunFolder(whole).model_best).class_names == ("a", "b", "c", "d")
    scores = [sum(look[task] for task in FIGURES if task in look) for look in looks]
    assert [look["is_best"] for look in looks] == [score > max(scores[:i], default=-1) for i, score in enumerate(scores)]


def test_each_of_the_two_is_as_sure_as_validation_allows(whole: Path) -> None:
    """Without a posterior, too; and each anew, not the last as the best."""
    fitted = events(whole, "confidence")
    folders = {"model": RunFolder(whole).model, "model_best": RunFolder(whole).model_best}
    models = {name: dict(GenRep.from_pretrained(folder).tasks()) for name, folder in folders.items()}
    assert {event["task"] for event in fitted} == {"classification", "detection"} and {event["model"] for event in fitted} <= models.keys()
    for event in fitted:
        assert (
            models[event["model"]][event["task"]].confidence == Confidence(**{name: event[name] for name in ("slope", "offset", "of_object")}) != Confidence()
        )


@pytest.mark.parametrize("sittings", [(STEPS1 + 3,)], ids=str)
def test_a_resumed_run_has_the_same_best_model(whole: Path, tmp_path: Path, sittings: tuple[int, ...]) -> None:
    run = tmp_path / "run"
    for steps in (*sittings, STEPS1 + STEPS2 - sum(sittings)):
        stopped(run, steps, judged())
    assert_same_state(newest(run), newest(whole))
    train(judged(), run)
    assert_same_model(run, whole)
    for name in ("model.safetensors", "config.json"):
        assert (RunFolder(run).model_best / name).read_bytes() == (RunFolder(whole).model_best / name).read_bytes()
    assert events(run, "validation") == events(whole, "validation")


@pytest.mark.usefixtures("second")
def test_the_best_is_an_earlier_teacher_and_finished_like_the_last(tmp_path: Path) -> None:
    run = train(judged(jobs=("perception", "generation")), tmp_path / "run")
    assert [look["is_best"] for look in events(run, "validation")] == [True, True, False]
    kept, last = (GenRep.from_pretrained(folder) for folder in (RunFolder(run).model_best, RunFolder(run).model))
    assert any(not torch.equal(value, last.state_dict()[name]) for name, value in kept.state_dict().items())
    assert all(model.state_dict()["denoiser.modulator.prior.learnt"] == 1 for model in (kept, last))


def test_each_task_has_a_figure_of_what_is_annotated() -> None:
    model = small_model(tasks=("classification", "detection", "segmentation", "depth"))
    known = Best(TrainConfig(best_by="mean"))
    assert known.settle(model.config.tasks, VAL) == [] and "detection" in known.tasks
    found = measured(model, VAL, known.tasks)
    assert found.keys() <= set(known.tasks) and all(0 <= value <= 1 for value in found.values())
    single = Best(TrainConfig(best_by="segmentation"))
    single.settle(model.config.tasks, VAL)
    assert single.tasks == ("segmentation",) and measured(model, VAL, single.tasks).keys() == {"segmentation"}


def test_what_cannot_decide_is_refused_or_said() -> None:
    unknown = rectangles(4, size=16).with_labels_for(torch.zeros(4, dtype=torch.bool)).batch(torch.arange(4))
    single = rectangles(4, size=16).batch(torch.arange(4))
    with pytest.raises(ValueError, match=r"`train.best_by` is depth; this run can be judged by classification, detection"):
        Best(TrainConfig(best_by="depth")).settle(("classification", "detection"), single)
    said = Best(TrainConfig(best_by="mean"))
    assert "no best model is kept" in said.settle(("classification",), unknown)[0] and not said.is_due(1, 1)
    with pytest.raises(ValueError, match="`validations` must be at least 1; found 0"):
        TrainConfig(validations=0)


def test_the_best_is_measured_into_a_file_of_its_own(whole: Path) -> None:
    path, figures = evaluate_elsewhere(whole, weights="best")
    assert path == whole / "eval-best-fashion+fashion-scenes.json" and "fashion/classification/top1" in figures
    with pytest.raises(ValueError, match="unknown weights `bets`"):
        evaluate_elsewhere(whole, weights="bets")
