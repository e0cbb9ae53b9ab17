"""A model as an ONNX file says, run by onnxruntime, what the model says: of all tasks, with a second look and without, in grey and in colours."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from small_autoencoders import save_autoencoder
from small_models import small_model

from genrep.cli.main import main
from genrep.exported import OBJECTS, Perceiver, export_onnx
from genrep.model import GenRep
from genrep.tasks.confidence import Confidence

ALL = ("detection", "classification", "multilabel", "segmentation", "depth")


def run(path: Path, image: torch.Tensor) -> dict[str, torch.Tensor]:
    network = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in network.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, network.run(None, {"image": image.numpy()})), strict=True))


def images(model: GenRep, num: int) -> torch.Tensor:
    channels = model.codec.image_channels
    return 2 * torch.rand(num, channels, *model.image_size, generator=torch.Generator().manual_seed(3)) - 1


def objects(labels: Any, scores: Any, boxes: Any) -> np.ndarray:
    """One row each, by class, best first."""
    rows = np.column_stack([labels, scores, boxes])
    return rows[np.lexsort((-rows[:, 1], rows[:, 0]))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "within"),
    [
        ({"proposals": 4, "codec": "grey"}, 0.02),  # its float32 is .004 from its float64: crops of nearly nothing are normalised
        ({"proposals": 0, "codec": "pixels"}, 1e-5),
        ({"proposals": 0, "codec": "autoencoder", "image_size": (32, 48)}, 1e-4),
    ],
    ids=["grey, two looks", "colours, one look", "latents"],
)
def test_the_file_says_what_the_model_says(changes: dict[str, Any], within: float, tmp_path: Path) -> None:
    if changes["codec"] == "autoencoder":
        changes = {**changes, "autoencoder": str(save_autoencoder(tmp_path / "autoencoder"))}
    model = small_model(tasks=ALL, **changes)
    for _, head in model.tasks():
        head.confidence = Confidence(slope=0.8, offset=0.1, of_object=0.7)
    path, some = tmp_path / "model.onnx", images(model, 3)
    shapes = export_onnx(model, path, batch=3)
    found, seen = run(path, some), model.perceive(some.expand(-1, 3, -1, -1).contiguous())
    assert list(found) == list(shapes) and shapes["object_box_xyxy_px"] == ["objects", 4] and shapes["semantic_mask"] == [3, *model.image_size]
    for name in ("class_log_probs", "presence", "inv_depth"):
        assert torch.allclose(found[name], getattr(seen, name), atol=within), name
    assert seen.semantic_mask is not None and seen.detections is not None
    assert float((found["semantic_mask"] == seen.semantic_mask).double().mean()) > 0.999
    for i, ours in enumerate(seen.detections):
        mine = found[OBJECTS[0]] == i
        theirs = objects(*(found[name][mine] for name in OBJECTS[1:]))
        assert len(ours.scores) > 1
        assert theirs == pytest.approx(objects(ours.labels, ours.scores, ours.boxes_xyxy_px), abs=10 * within)


@pytest.mark.slow
def test_the_code_of_the_docs_sees_a_photo_as_the_model_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(tasks=("classification", "detection"), codec="pixels")
    export_onnx(model, tmp_path / "photos.onnx")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)).save(tmp_path / "photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "snippet.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    known = runpy.run_path("snippet.py")
    seen = model.perceive(torch.from_numpy(known["pixels"]))
    assert torch.allclose(torch.from_numpy(known["found"]["class_log_probs"]), seen.class_log_probs, atol=1e-4) and known["known"]["class_names"] == list(
        "abcd"
    )


@pytest.mark.slow
def test_the_command_writes_a_file_that_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_model(tasks=("classification",)).save_pretrained(tmp_path / "model")
    command = ["export", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out" / "small.onnx"), "--batch", "5"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "input `image`, float32, 5 x 1 x 16 x 16, in [-1, 1]" in said and "class_log_probs [5 4]" in said
    assert float(said.split()[-1]) < 1e-3
    known = {prop.key: json.loads(prop.value) for prop in onnx.load(tmp_path / "out" / "small.onnx").metadata_props}
    assert known["class_names"] == ["a", "b", "c", "d"] and known["image_size"] == [16, 16]
    assert main(command) == 2 and "exists" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["small.onnx"]


def test_what_cannot_be_exported_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_model(tasks=()).save_pretrained(tmp_path / "model")
    out = ["--out", str(tmp_path / "model.onnx")]
    for arguments, said in (
        (["--model", str(tmp_path / "model"), *out], "there is nothing to export: this model has no heads."),
        (["--batch", "0", *out], "`--batch` must be at least 1; found 0."),
        (["--out", "model.pt"], "model.pt would be onnx by another name; end it in .onnx."),
    ):
        assert main(["export", *arguments]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_a_file_that_says_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small_model(tasks=("classification",)).save_pretrained(tmp_path / "model")
    monkeypatch.setattr("genrep.exported.export_onnx", lambda model, path, **options: export_onnx(small_model(1, tasks=("classification",)), path, **options))
    assert main(["export", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "model.onnx")]) == 2
    assert "it is not kept" in capsys.readouterr().err and [file.name for file in tmp_path.iterdir()] == ["model"]


def test_export_leaves_the_model_as_it_was() -> None:
    """It uses what is kept of the weights, which is made anew when they change."""
    model, image = small_model(tasks=("classification",)), torch.zeros(1, 3, 16, 16)
    before = model.perceive(image).class_log_probs
    assert before is not None
    with torch.no_grad():
        torch.export.export(Perceiver(model), (image[:, :1],))
    assert torch.equal(model.perceive(image).class_log_probs, before)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    after = model.perceive(image).class_log_probs
    assert after is not None and not torch.allclose(after, before)
