"""The whole through the command line, on small files: train, stop, go on, evaluate, predict, generate, and every kind of mistake."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genrep.recipes import RECIPES
from genrep.storage import read_json, sha256_of, verify_folder

pytestmark = pytest.mark.slow

Genrep = Callable[..., tuple[str, str]]

FIGURES = ("classification/top1", "detection/ap50", "segmentation/miou_foreground", "generation/sample_accuracy")


def test_a_run_leaves_what_it_promises(run: Path) -> None:
    assert {"config.json", "command.txt", "env.json", "metrics.csv", "events.jsonl", "model"} <= {p.name for p in run.iterdir()}
    verify_folder(run / "model")
    assert (run / "command.txt").read_text().startswith("genrep train tiny --data.root ")


def test_a_finished_run_is_left_alone(run: Path, genrep: Genrep, data_root: Path) -> None:
    before = sha256_of(run / "model" / "model.safetensors"), (run / "metrics.csv").read_bytes()
    assert "nothing is left to train" in genrep("train", "tiny", "--data.root", str(data_root), "--out", "runs/tiny")[0]
    other = genrep("train", "tiny", "--data.root", str(data_root), "--out", "runs/tiny", "--train.lr", "0.5", code=2)
    assert "`train.lr` is 0.0015 there and 0.5 here" in other[1]
    assert before == (sha256_of(run / "model" / "model.safetensors"), (run / "metrics.csv").read_bytes())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    run: Path, genrep: Genrep, data_root: Path, work: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    out = work / "runs" / f"stopped-{number.name}"
    arguments = ["train", "tiny", "--data.root", str(data_root), "--out", str(out), "--train.bf16", "false"]
    process = subprocess.Popen(
        [sys.executable, "-m", "genrep", *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=work, env=environment
    )
    while process.poll() is None and (not (out / "metrics.csv").is_file() or (out / "metrics.csv").read_text().count("\n") < 4):
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "This continues it:\n  genrep train tiny" in err
    assert not (out / "model").exists()
    assert len(list((out / "checkpoints").glob("step_*"))) == 1
    assert "Traceback" not in err
    assert "resume" in genrep(*arguments)[0]
    assert sha256_of(out / "model" / "model.safetensors") == sha256_of(run / "model" / "model.safetensors")


def test_evaluation_and_report(run: Path, genrep: Genrep) -> None:
    out = genrep("eval", "runs/tiny")[0]
    figures = json.loads((run / "eval.json").read_text())
    assert all(0 <= figures[name] <= 1 and name in out for name in FIGURES)
    report = (run / "report.html").read_text()
    assert "<html" in report and len(report) < 5 * 2**20
    assert "http://" not in report.replace("http://www.w3.org", "") and 'src="//' not in report
    assert "report.html" in out


def test_the_demo_does_it_all(genrep: Genrep, data_root: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "demo", RECIPES["tiny"])
    out, _ = genrep("demo", "--data.root", str(data_root), "--out", "runs/demo", "--objective.jobs", "perception,generation")
    assert all((work / "runs" / "demo" / name).exists() for name in ("model", "eval.json", "report.html", "samples"))
    said = ("targets", "logistic regression on pixels", "the judge on real test images", "look at runs/demo/report.html")
    assert all(text in out for text in (*said, "genrep predict IMAGE... --model runs/demo"))


def test_prediction_of_files_good_and_bad(run: Path, genrep: Genrep, work: Path) -> None:
    folder = work / "photos"
    folder.mkdir()
    Image.new("RGB", (60, 40), (200, 30, 30)).save(folder / "red.jpg")
    Image.new("L", (32, 32), 90).save(folder / "grey.png")
    (folder / "broken.png").write_text("not an image")
    out, err = genrep("predict", "photos", "--model", "runs/tiny", "--out", "seen", "--min-score", "0")
    assert "broken.png: cannot be read" in err
    assert "red.jpg: made grey, resized from 40 x 60 to 32 x 32" in out
    written = json.loads((work / "seen" / "predictions.json").read_text())
    grey, red = written["images"]
    assert list(written["skipped"]) == ["photos/broken.png"]
    assert sum(red["class_probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert all(0 <= x0 <= x1 <= 61 and 0 <= y0 <= y1 <= 41 for o in red["objects"] for x0, y0, x1, y1 in [o["box_xyxy_px"]])
    with Image.open(work / "seen" / red["mask"]) as mask, Image.open(work / "seen" / grey["overlay"]) as overlay:
        assert mask.size == (60, 40)
        assert overlay.size[0] > 32
    assert grey["changes"] == ""
    again = genrep("predict", "photos", "--model", "runs/tiny", "--out", "seen", code=2)
    assert "predictions.json exists" in again[1]


def test_a_second_opinion_and_a_likelihood(run: Path, genrep: Genrep, work: Path) -> None:
    Image.effect_noise((32, 32), 40).save(work / "noise.png")
    Image.new("L", (32, 32), 0).save(work / "black.png")
    genrep("predict", "noise.png", "black.png", "--model", "runs/tiny", "--out", "both", "--posterior", "2", "--abstain-above", "0.02", "--why")
    with Image.open(work / "both" / "noise_why.png") as why:
        assert why.width > 2 * 256
    for entry in json.loads((work / "both" / "predictions.json").read_text())["images"]:
        assert sum(entry["posterior"].values()) == pytest.approx(1, abs=1e-5) and entry["posterior_budget"] == 2
        pairs = [(q, entry["posterior"][name]) for name, q in entry["class_probabilities"].items()]
        assert entry["divergence"] == pytest.approx(sum(q * math.log(q / p) for q, p in pairs), abs=1e-4)
        assert sum(entry["combined"].values()) == pytest.approx(1, abs=1e-5) and list(entry["combined"].values()) == sorted(
            entry["combined"].values(), reverse=True
        )
        assert entry["abstains"] is (entry["divergence"] > 0.02)
    out, _ = genrep("nll", "noise.png", "black.png", "--model", "runs/tiny", "--draws", "8", "--class", "bag", "--out", "bits.json")
    assert "mean of 2 images" in out and "wrote bits.json: bits per dimension of 8-bit pixels" in out
    for entry in json.loads((work / "bits.json").read_text())["images"]:
        assert entry["low"] < entry["bits_per_dimension"] < entry["high"] and f"{entry['bits_per_dimension']:.4f}  [{entry['low']:.4f}" in out


def test_a_run_is_calibrated_anew(genrep: Genrep, run: Path, work: Path) -> None:
    """Its weights stay, and so does what it sees."""
    shutil.copytree(run, work / "runs" / "again")
    before, weights = (of(work / "runs" / "again" / "model" / name) for of, name in ((read_json, "config.json"), (sha256_of, "model.safetensors")))
    out, _ = genrep("calibrate", "runs/again", "--images", "24")
    after = read_json(work / "runs" / "again" / "model" / "config.json")
    assert "calibration: tau" in out and "num 24" in out and "wrote runs/again/model" in out
    assert sha256_of(work / "runs" / "again" / "model" / "model.safetensors") == weights and after["config"] == before["config"]
    assert after["calibration"] != before["calibration"] and after["gate"] != before["gate"]
    assert "must be at least 2" in genrep("calibrate", "runs/again", "--images", "1", code=2)[1]


def test_generation_is_a_function_of_its_arguments(run: Path, genrep: Genrep, work: Path) -> None:
    arguments = ["generate", "--model", "runs/tiny", "--classes", "boot,bag+sneaker", "--count", "2", "--steps", "2", "--sampler", "heun"]
    genrep(*arguments, "--out", "a.png", "--single", "singles")
    genrep(*arguments, "--out", "b.png", "--seed", "0")
    genrep(*arguments, "--out", "c.png", "--seed", "1")
    a, b, c = (sha256_of(work / f"{name}.png") for name in "abc")
    assert a == b != c
    assert sorted(p.name for p in (work / "singles").iterdir()) == ["bag_sneaker_000.png", "bag_sneaker_001.png", "boot_000.png", "boot_001.png"]


def test_what_is_not_hidden_of_a_picture_is_kept(run: Path, genrep: Genrep, work: Path) -> None:
    """A half-grey picture whose right half is made anew, and back out of the file the left half is as it was."""
    Image.new("L", (64, 64), 200).save(work / "grey.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    mask.save(work / "mask.png")
    wishes = ["--image", "grey.png", "--hidden", "mask.png", "--single", "kept", "--out", "kept.png"]
    out, _ = genrep("generate", "--model", "runs/tiny", "--classes", "boot", "--count", "1", "--steps", "2", *wishes)
    assert "grey.png: resized from 64 x 64 to 32 x 32" in out
    with Image.open(work / "kept" / "boot_000.png") as picture:
        made = np.asarray(picture)[..., 0]
    assert (made[:, :16] == 200).all() and (made[:, 16:] != 200).mean() > 0.5


def test_objects_are_placed_seen_and_filmed(run: Path, genrep: Genrep, work: Path) -> None:
    rows = ["--classes", "boot@0:8:16:24+bag@18:2:31:30,shirt", "--count", "2", "--steps", "2", "--sampler", "unipc", "--grid", "karras"]
    out, _ = genrep("generate", "--model", "runs/tiny", *rows, "--seen", "--film", "film.png", "--out", "placed.png")
    assert "wrote placed.png: 2 rows (boot+bag, shirt) of 2" in out and "wrote film.png: of each row the first image" in out
    with Image.open(work / "placed.png") as grid, Image.open(work / "film.png") as film:
        assert grid.size[1] > 2 * 256 and film.size[1] > 4 * 32


def test_a_model_folder_is_as_good_as_its_run(run: Path, genrep: Genrep, work: Path) -> None:
    genrep("generate", "--model", "runs/tiny/model", "--classes", "boot", "--count", "1", "--steps", "1", "--out", "from_model.png")
    assert (work / "from_model.png").is_file()


def test_a_measured_run_is_packed_into_a_folder_to_share(run: Path, genrep: Genrep, work: Path) -> None:
    genrep("eval", "runs/tiny")
    out, _ = genrep("pack", "runs/tiny", "--out", "shared")
    assert "MB, weights in float16" in out
    card, figures = (work / "shared" / "README.md").read_text(), json.loads((run / "eval.json").read_text())
    assert (
        f"| segmentation/miou | {figures['segmentation/miou']:.4g} |" in card
        and "recipe `tiny`: 64 + 128 images of fashion, fashion-scenes, seed 0, on cpu" in card
    )
    genrep("generate", "--model", "shared", "--classes", "boot", "--count", "1", "--steps", "1", "--out", "from_shared.png")
    assert "shared exists; name another `--out`" in genrep("pack", "runs/tiny", "--out", "shared", code=2)[1]
    assert "shared is a model folder, not a run" in genrep("pack", "shared", "--out", "again", code=2)[1]


def test_without_a_run_the_packaged_model_is_used(genrep: Genrep, work: Path) -> None:
    genrep("generate", "--classes", "boot", "--count", "1", "--steps", "12", "--out", "packaged.png", "--single", "packaged")
    genrep("predict", "packaged/boot_000.png", "--out", "packaged_seen")
    probabilities = json.loads((work / "packaged_seen" / "predictions.json").read_text())["images"][0]["class_probabilities"]
    assert max(probabilities, key=probabilities.get) == "boot"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "tiny", "--data.root", "nowhere"], "nowhere is not a folder"),
        (["train", "tiny", "--data.sets", "fashoin", "--data.root", "nowhere"], "unknown data set `fashoin`"),
        (["train", "tiny", "--train.lrr", "1"], "unknown field `train.lrr`. Did you mean `train.lr`?"),
        (["train", "nothing.json"], "nothing.json"),
        (["generate", "--model", "runs/tiny", "--classes", "boots"], "unknown class `boots`"),
        (["generate", "--model", "runs/tiny", "--sampler", "eular"], "unknown sampler `eular`"),
        (["generate", "--model", "runs/tiny", "--count", "0"], "`--count` must be at least 1; found 0."),
        (["generate", "--model", "runs/tiny", "--steps", "0"], "`num_steps` must be at least 1; found 0."),
        (["generate", "--model", "runs/tiny", "--grid", "karas"], "unknown grid `karas`; known: karras, logsnr, uniform. Did you mean `karras`?"),
        (["generate", "--model", "runs/tiny", "--interval", "0.7", "0.3"], "two increasing times in [0, 1]; found 0.7 to 0.3"),
        (["generate", "--model", "runs/tiny", "--image", "no-such.png"], "no-such.png"),
        (["generate", "--model", "runs/tiny", "--image", "red.png", "--strength", "0"], "`strength` must lie in (0, 1]; found 0.0."),
        (["generate", "--model", "runs/tiny", "--hidden", "red.png"], "`--hidden` needs `--image`; found none."),
        (["generate", "--model", "runs/tiny", "--likeness", "0.5"], "`--likeness` needs `--reference`; found none."),
        (["generate", "--model", "runs/tiny", "--insistence", "2"], "`--insistence` needs `--classes with places`; found none."),
        (["generate", "--model", "runs/tiny", "--classes", "boot@1:2:3"], "a place is x0:y0:x1:y1"),
        (["predict", "no-such.png", "--model", "runs/tiny"], "no-such.png does not exist"),
        (["predict", "no-such.png", "--min-score", "30"], "`--min-score` must lie in 0 to 1; found 30.0"),
        (["predict", "empty", "--model", "runs/tiny"], "empty has no images"),
        (["predict", "red.png", "--model", "runs/tiny", "--abstain-above", "1"], "say `--posterior BUDGET` too"),
        (["predict", "red.png", "--model", "runs/tiny", "--why"], "`--why` needs the generative side"),
        (["predict", "red.png", "--model", "runs/tiny", "--posterior", "0"], "`budget` must be at least 1 evaluation"),
        (["predict", "red.png", "--model", "runs/tiny", "--posterior", "3"], "`budget` must be even"),
        (["nll", "red.png", "--model", "runs/tiny", "--draws", "1"], "`num_draws` must be at least 2"),
        (["nll", "red.png", "--model", "runs/tiny", "--method", "flwo"], "unknown method `flwo`; known: bound, flow, integral. Did you mean `flow`?"),
        (["nll", "red.png", "--model", "runs/tiny", "--class", "boots"], "unknown class `boots`"),
        (["eval", "empty"], "empty has no model"),
    ],
)
def test_mistakes_are_one_line(run: Path, genrep: Genrep, work: Path, arguments: list[str], message: str) -> None:
    (work / "empty").mkdir(exist_ok=True)
    Image.new("RGB", (32, 32), (200, 30, 30)).save(work / "red.png")
    before = sorted(os.listdir(work))
    error = genrep(*arguments, code=2)[1]
    assert message in error and error.startswith("genrep: error: ") and error.count("\n") == 1
    assert sorted(os.listdir(work)) == before


def test_a_damaged_model_is_refused_by_file_name(run: Path, genrep: Genrep, work: Path) -> None:
    damaged = work / "damaged"
    damaged.mkdir()
    for file in (run / "model").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (damaged / "model.safetensors").write_bytes(weights)
    assert "model.safetensors is damaged" in genrep("generate", "--model", "damaged", code=2)[1]
