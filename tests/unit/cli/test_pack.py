"""What a card says of how its model was made."""

from __future__ import annotations

import json
from pathlib import Path

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
