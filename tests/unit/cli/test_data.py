"""`genrep data`, `genrep recipes`, `genrep bench`: what they print and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_folders import write_boxes, write_photos
from small_models import small_model

from genrep.cli.bench import MEASURES
from genrep.cli.catalogue import RECIPES
from genrep.cli.main import main
from genrep.datasets import sources
from genrep.evaluation import posterior_bench
from genrep.posteriors import DenoisingGap


def test_check_says_what_is_there_and_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(tmp_path / "photos", 5)
    assert main(["data", "check", str(tmp_path / "photos")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:6]] == [["train", "val"], ["pictures", "12", "3"], ["blue", "4", "1"], ["green", "4", "1"], ["red", "4", "1"]]
    assert lines[-1] == "2 wrong, 0 remarks"
    write_boxes(tmp_path / "boxes")
    assert main(["data", "check", str(tmp_path / "boxes")]) == 1
    out = capsys.readouterr().out
    assert "annotation 900: unknown class 9" in out and "annotation 901: box [28.0, 20.0, 48.0, 40.0] reaches outside the image" in out


def test_check_of_a_clean_folder_and_of_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_photos(tmp_path / "photos", 3)
    (folder / "red" / "broken.jpg").unlink()
    (folder / "green" / "notes.txt").unlink()
    assert main(["data", "check", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("nothing is wrong\n")
    (tmp_path / "empty").mkdir()
    for path, message in (("empty", "has no pictures"), ("absent", "is not a folder")):
        assert main(["data", "check", str(tmp_path / path)]) == 2
        assert message in capsys.readouterr().err


def test_remarks_count_where_one_is_strict(tmp_path: Path) -> None:
    folder = write_boxes(tmp_path / "boxes")
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"] = [entry for entry in content["annotations"] if entry["id"] < 900]
    content["annotations"].append({"id": 902, "image_id": 0, "category_id": 3, "bbox": [1, 1, 4, 4], "iscrowd": 1})
    file.write_text(json.dumps(content))
    assert main(["data", "check", str(folder)]) == 0
    assert main(["data", "check", str(folder), "--strict"]) == 1


def test_fetch_says_what_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GENREP_CACHE", str(tmp_path))
    monkeypatch.setattr(sources, "fashion_mnist_files", lambda **asked: {"stem": asked["cache"] / "file.gz"} if asked["allow_network"] else {})
    assert main(["data", "fetch"]) == 0
    out = capsys.readouterr().out
    assert f"30 MB, from Debian's package or its authors' mirror, to {tmp_path}" in out and f"{tmp_path}/file.gz" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek", "photos"], "unknown action of `genrep data` `chek`; known: check, fetch. Did you mean `check`?"),
        (["check"], "needs the folder"),
        (["fetch", "photos"], "takes nothing more"),
        (["check", "photos", "--stric", "1"], "no option `--stric`. Did you mean `--strict`?"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_every_recipe_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from genrep.recipes import RECIPES as MADE

    assert list(RECIPES) == list(MADE)
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in MADE)
    assert "2 CPU cores" in out and "70 minutes" in out


def test_bench_writes_figures_and_exits_by_the_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = {
        "classification/top1": 0.9,
        "classification/top1_low": 0.88,
        "classification/top1_high": 0.92,
        "classification/logistic_regression_top1": 0.85,
        "detection/ap50": 0.5,
        "segmentation/miou_foreground": 0.45,
        "generation/sample_accuracy": 0.7,
        "generation/judge_accuracy": 0.91,
    }
    (tmp_path / "eval.json").write_text(json.dumps(good))
    assert main(["bench", "demo", str(tmp_path), "--check"]) == 0
    written = json.loads((tmp_path / "demo.json").read_text())
    assert [set(figure) for figure in written] == [{"name", "value", "interval", "unit", "target", "at_most", "met", "how"}] * 5
    assert written[0] | {"how": ""} == {
        "name": "top-1, one garment", "value": 0.9, "interval": [0.88, 0.92], "unit": "0 to 1", "target": 0.84, "at_most": False, "met": True, "how": "",
    }  # fmt: skip
    assert written[1]["target"] == 0.85 and "the judge on real test images: 0.91" in written[4]["how"]
    for worse in ({"classification/logistic_regression_top1": 0.95}, {"detection/ap50": 0.39}):
        (tmp_path / "eval.json").write_text(json.dumps(good | worse))
        assert main(["bench", "demo", str(tmp_path)]) == 0
        assert main(["bench", "demo", str(tmp_path), "--check"]) == 1
    assert "missed: AP50" in capsys.readouterr().out
    assert main(["bench", "demo", str(tmp_path / "absent")]) == 2


def test_bench_measures_what_no_run_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior_bench, "FAMILY", {"gap, allocated": [DenoisingGap(budget=4), DenoisingGap(budget=16)]})
    monkeypatch.setattr(posterior_bench, "AIMS", posterior_bench.AIMS[:3])
    assert main(["bench", "posterior", "--quick", "--check", "--out", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert out.count("not judged") == 6 and "gap, allocated, 16 evaluations per class" in out and "missed" not in out
    written = json.loads((tmp_path / "new" / "posterior.json").read_text())
    assert len(written) == 13 and [figure["target"] for figure in written[:3]] == [0.02, 0.99, 0.98]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MEASURES, "data", lambda args: [])
    (tmp_path / "mine" / "model").mkdir(parents=True)
    for run, folder in (("mine", "mine"), ("mine/model", "runs/bench")):
        assert main(["bench", "data", run]) == 0 and (tmp_path / folder / "data.json").is_file()
    assert main(["bench", "posterior", str(tmp_path / "absent")]) == 2
    assert "has no model" in capsys.readouterr().err


def test_a_model_that_the_posteriors_bench_cannot_ask_is_refused_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model().save_pretrained(tmp_path / "model")
    monkeypatch.setattr(posterior_bench, "posterior_figures", lambda **options: pytest.fail("computed for nothing"))
    assert main(["bench", "posterior", str(tmp_path), "--quick"]) == 2
    assert "needs a calibrated model with a classification head and the classes of `fashion`" in " ".join(capsys.readouterr().err.split())


def test_the_showcase_may_lose_a_twentieth_of_recall(tmp_path: Path) -> None:
    good = {
        "classification/top1": 0.9, "classification/logistic_regression_top1": 0.85, "detection/ap50": 0.75, "segmentation/miou_foreground": 0.65,
        "depth/order": 0.85, "generation/sample_accuracy": 0.9, "generation/recall": 0.46, "generation/recall_unguided": 0.5,
    }  # fmt: skip
    for recall, code in ((0.46, 0), (0.44, 1)):
        (tmp_path / "eval.json").write_text(json.dumps(good | {"generation/recall": recall}))
        assert main(["bench", "showcase", str(tmp_path), "--check"]) == code
    assert main(["bench", "showcse", str(tmp_path)]) == 2
