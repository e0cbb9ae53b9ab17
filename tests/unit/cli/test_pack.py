"""What a card says of how its model was made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_models import small_model

from genrep.cli.main import main
from genrep.cli.pack import how_made


def write_run(folder: Path, *, images: int, init: Path | None = None, device: str = "cpu") -> Path:
    train = {"stage1_images": 0, "stage2_images": images, "seed": 3, "init": str(init) if init else None}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"name": "own", "data": {"sets": ["fashion", "/secret/place/photos"]}, "train": train}))
    (folder / "env.json").write_text(json.dumps({"device": device, "cpus": 4}))
    return folder


def test_each_beginning_is_told_and_no_folder(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", images=5_000, device="a GPU")
    second = write_run(tmp_path / "second", images=70, init=first / "model")
    assert how_made(second) == (
        "recipe `own`: 0 + 70 images of fashion, photos, seed 3, on cpu, 4 cores; "
        "begun from recipe `own`: 0 + 5,000 images of fashion, photos, seed 3, on a GPU, 4 cores"
    )


def test_a_model_without_its_run_is_known_by_its_card(tmp_path: Path) -> None:
    (tmp_path / "packaged").mkdir()
    run = write_run(tmp_path / "run", images=70, init=tmp_path / "packaged")
    assert how_made(run).endswith("; begun from the model `packaged`")
    (tmp_path / "packaged" / "README.md").write_text("# A model\n\nMade by recipe `demo`: 10 images.\n\n## Use\n")
    assert how_made(run).endswith("; begun from recipe `demo`: 10 images")


@pytest.mark.parametrize(
    ("out", "message"),
    [("run", "which it would replace"), (".", "which it would replace"), ("run/checkpoints", "lies in the run"), ("run/model", "lies in the run")],
)
def test_a_run_is_not_replaced_by_what_is_packed_of_it(tmp_path: Path, out: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", images=70)
    small_model().save_pretrained(run / "model")
    (run / "eval.json").write_text("{}")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "state.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    assert main(["pack", str(run), "--out", str(tmp_path / out), "--overwrite"]) == 2
    assert message in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before
    assert main(["pack", str(run / "model"), "--out", str(tmp_path / "shared")]) == 2
    assert "model is a model folder, not a run" in capsys.readouterr().err
    assert main(["eval", str(run / "model")]) == 2
    assert "model is a model folder; what is measured is a run" in capsys.readouterr().err
    for _ in range(2):
        assert main(["pack", str(run), "--out", str(tmp_path / "shared"), "--overwrite"]) == 0
