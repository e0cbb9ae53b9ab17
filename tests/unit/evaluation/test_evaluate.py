"""Whole evaluations of untrained models: every figure and file, what is left out, and that nothing is drawn twice differently."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toy_runs import config, load_rectangles

from genrep.datasets import ArrayDataset
from genrep.evaluation import evaluate
from genrep.evaluation.evaluate import Evaluation
from genrep.evaluation.perception import Figures, Measured
from genrep.model import GenRep
from genrep.objective import ObjectiveConfig
from genrep.training import data

MakeRun = Callable[..., Path]

INTERVALS = (
    *(f"classification/{name}" for name in ("top1", "logistic_regression_top1")),
    *(f"generation/{name}" for name in ("kid", "kid_real", "kid_unguided", "sample_accuracy", "sample_accuracy_unguided")),
)
SINGLE = (
    *INTERVALS,
    *(f"classification/{name}" for name in ("ece", "nll", "auroc")),
    *(f"detection/{name}" for name in ("ap", "ap50")),
    *(f"posterior/{side}{name}" for side in ("", "head_", "combined_") for name in ("top1", "ece", "nll")),
    *(f"segmentation/{name}" for name in ("miou", "miou_foreground")),
    *(f"robustness/{kind}_{name}" for kind in ("clean", "noise", "corruptions") for name in ("top1", "ap50", "miou_foreground")),
    "likelihood/bits_per_dim",
    "fashion-scenes/likelihood/bits_per_dim",
    *(
        f"generation/{name}"
        for name in ("fid", "fid_real", "fid_unguided", "precision", "recall", "recall_unguided", "recall_real", "judge_accuracy", "guidance", "n")
    ),
)


@pytest.fixture(scope="module")
def run(make_run: MakeRun) -> Path:
    path = make_run(keeps_posterior=True)
    evaluate(path)
    return path


def test_every_figure_is_there(run: Path) -> None:
    figures = json.loads((run / "eval.json").read_text())
    assert set(SINGLE) <= set(figures)
    assert {"fashion/detection/ap50", "fashion/segmentation/miou"} <= set(figures)
    assert all(figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"] for name in INTERVALS)
    assert all(isinstance(value, float | int) for value in figures.values())


def test_tables_say_what_was_measured_on_what(run: Path) -> None:
    details = json.loads((run / "eval_details.json").read_text())
    assert [details[task]["set"] for task in ("classification", "detection", "segmentation", "generation")] == ["fashion", *["fashion-scenes"] * 2, "fashion"]
    assert details["posterior"] == {"n": 8, "set": "fashion"}
    assert details["generation"]["judge"].startswith("fashion-judge-v") and details["generation"]["resize"] == "none"
    assert {gate["kind"]: (gate["weight"], gate["teaches"]) for gate in details["gates"]} == {"image": (0.18, True), "object": (0.01, False)}
    assert {row["guidance"] for row in details["generation"]["guidance_tried"]} == {1.0, 2.0}
    assert sum(map(sum, details["classification"]["confusion"])) == details["classification"]["n"] == 16


def test_pictures_are_written(run: Path) -> None:
    files = {path.name for path in (run / "samples").iterdir()}
    assert {"generated.png", "denoising.png", "scenes.png", "class_00.png", "film_0.png", "neighbours_00.png"} <= files


def test_again_gives_the_same(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in (run / "samples").iterdir()}
    assert evaluate(run) == json.loads((run / "eval.json").read_text())
    assert before == {path.name: path.read_bytes() for path in (run / "samples").iterdir()}


def test_one_task_and_scenes_alone(make_run: MakeRun) -> None:
    base = config()
    path = make_run(tasks=("segmentation",), data=replace(base.data, sets=("fashion-scenes",)))
    figures = evaluate(path)
    assert {name.split("/")[0] for name in figures} == {"segmentation", "robustness", "generation", "likelihood"}
    assert {name.split("/")[1] for name in figures if name.startswith("generation")} == {
        f"scenes_{kind}{real}{end}" for kind in ("f1", "kid") for real in ("", "_real") for end in ("", "_low", "_high")
    }
    notes = " ".join(json.loads((path / "eval_details.json").read_text())["notes"])
    assert "samples: not measured, no set has one object per image." in notes and "detection on fashion-scenes: not measured" in notes
    assert "depth" not in notes, "which nobody asked for"
    drawn = json.loads((path / "eval_details.json").read_text())["pictures"]
    assert drawn["guidance"] == 2.0 and len(drawn["film"]) == 3 and all((path / "samples" / strip["file"]).is_file() for strip in drawn["samples"])
    assert (path / "samples" / "generated.png").is_file() and (path / "samples" / "denoising.png").is_file()


def test_single_garments_alone_without_generation(make_run: MakeRun) -> None:
    base = config()
    path = make_run(tasks=("classification",), data=replace(base.data, sets=("fashion",)), objective=ObjectiveConfig(jobs=("perception",)))
    figures = evaluate(path)
    assert "classification/top1" in figures and "classification/logistic_regression_top1" in figures
    assert not any(name.startswith(("generation", "detection")) for name in figures)
    details = json.loads((path / "eval_details.json").read_text())
    assert "the run trained no generation" in " ".join(details["notes"]) and "pictures" not in details
    assert not any((path / "samples").iterdir())


def test_generation_alone(make_run: MakeRun) -> None:
    path = make_run(objective=ObjectiveConfig(jobs=("generation",)))
    figures = evaluate(path)
    assert {name.rsplit("/", 2)[-2] for name in figures} == {"generation", "likelihood"}
    assert "perception: not measured, the run trained none." in json.loads((path / "eval_details.json").read_text())["notes"]


def test_samples_are_left_unjudged_where_none_are_asked_for(make_run: MakeRun) -> None:
    path = make_run(objective=ObjectiveConfig(jobs=("generation",)), eval=replace(config().eval, num_samples=0, num_scene_samples=0))
    assert {name.rsplit("/", 2)[-2] for name in evaluate(path)} == {"likelihood"} and (path / "samples" / "generated.png").is_file()
    assert "samples: not measured, `eval.num_samples` is 0." in json.loads((path / "eval_details.json").read_text())["notes"]


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a finished run"):
        evaluate(tmp_path)


def samples_of(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, change: Callable[[ArrayDataset], ArrayDataset]) -> tuple[Figures, str]:
    """Figures and notes of generation alone, where garments are changed first."""
    monkeypatch.setattr(data, "load_dataset", lambda name, split, **options: change(load_rectangles(name, split, **options)))
    base = config()
    path = make_run(
        objective=ObjectiveConfig(jobs=("generation",)), data=replace(base.data, sets=("fashion",)), eval=replace(base.eval, guidance=2.0, num_likelihood=0)
    )
    return evaluate(path), " ".join(json.loads((path / "eval_details.json").read_text())["notes"])


def test_pictures_of_several_objects_of_one_class_are_no_single_ones(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have a label; but samples of one object are not like them. They are made as sets, with the guidance that was asked for."""
    asked = []
    found = Measured({"scenes_kid": 0.2, "scenes_kid_real": 0.0, "scenes_f1_real": 0.9})
    monkeypatch.setattr(sys.modules[evaluate.__module__], "measure_scenes", lambda studio, val, test, *, guidance: asked.append(guidance) or found)

    def several(found: ArrayDataset) -> ArrayDataset:
        twice = found.object_labels.clone()
        twice[:, 1] = twice[:, 0]
        return replace(found, object_labels=twice)

    figures, notes = samples_of(make_run, monkeypatch, several)
    assert "no set has one object per image" in notes and asked == [2.0] and len(figures) == 3
    monkeypatch.setattr(Evaluation, "of_val", ["fashion"])
    figures, _ = samples_of(make_run, monkeypatch, several)
    assert figures == {"generation/scenes_kid": 0.2, "generation/scenes_f1_real": 0.9}, "of val standing in for test the floor would be val against itself"


def test_of_one_class_and_of_too_few_pictures_samples_are_not_judged(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, notes = samples_of(make_run, monkeypatch, lambda found: found.first(5))
    assert not figures and "needs more than 5 images of val and of test; fashion has 5 and 5" in notes
    drawn: list[int] = []
    monkeypatch.setattr(sys.modules[evaluate.__module__], "draw_unjudged", lambda model, seen, folder, **options: drawn.append(len(seen)) or {})
    monkeypatch.setattr(GenRep, "class_names", ("a",))
    figures, notes = samples_of(make_run, monkeypatch, lambda found: found)
    assert not figures and "a judge that knows one class alone recognises everything" in notes and drawn == [1], "they are shown all the same"
