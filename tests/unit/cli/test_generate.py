"""`genrep generate`: what it writes where, and what it refuses before it has made anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_models import small_model

from genrep.cli.main import main

Generate = Callable[..., int]


@pytest.fixture
def generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generate:
    """Runs `genrep generate ARGUMENTS`, two images a row in two steps, in a folder of its own; other arguments are fields of the model's configuration."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, **changes: Any) -> int:
        small_model(**changes).save_pretrained("model")
        return main(["generate", "--model", "model", "--count", "2", "--steps", "2", *arguments])

    return call


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*.png")}


def test_rows_of_one_name_have_files_of_their_own(generate: Generate) -> None:
    rows = "x y,x_y,2,2"
    assert generate("--classes", rows, "--single", "singles", class_names=("x y", "x_y", "c", "d")) == 0
    stems = ("x_y", "x_y_2", "c", "c_2")
    assert files() == {"grid.png", *(f"singles/{stem}_{number:03d}.png" for stem in stems for number in range(2))}
    assert len({Path("singles", f"{stem}_000.png").read_bytes() for stem in stems}) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--film", "./grid.png"], "grid.png would be written twice"),
        (["--single", "s", "--film", "s/b_000.png"], "b_000.png would be written twice"),
        (["--single", "s", "--out", "s/a_001.png"], "a_001.png would be written twice"),
        (["--single", "kept"], "kept/a_000.png exists"),
        (["--single", "kept/a_000.png"], "a_000.png is no folder to write into"),
        (["--film", "kept", "--overwrite"], "kept cannot be written: it is a folder"),
    ],
)
def test_files_that_would_be_lost_are_named_before_anything_is_made(
    generate: Generate, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("kept").mkdir()
    Path("kept", "a_000.png").write_text("mine")
    monkeypatch.setattr("genrep.model.GenRep.generate", None)
    assert generate("--classes", "a,b", *arguments) == 2
    assert message in capsys.readouterr().err and files() == {"kept/a_000.png"} and Path("kept", "a_000.png").read_text() == "mine"


def test_what_is_seen_is_drawn_or_written_below_and_refused_where_nothing_is_seen(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--classes", "a", "--seen", tasks=("depth",)) == 2
    assert "`--seen` draws classes, boxes and masks; this model sees depth." in capsys.readouterr().err and not files()
    for tasks in (("classification",), ("multilabel",)):
        assert generate("--classes", "a", "--seen", "--overwrite", tasks=tasks) == 0
        with Image.open("grid.png") as grid:
            assert grid.height > 256 + 2 * 8, "words below the images"


def test_a_picture_that_is_read_is_not_replaced_and_a_png_is_called_one(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    Image.effect_noise((16, 16), 60).save("mine.png")
    mine = Path("mine.png").read_bytes()
    assert generate("--classes", "a", "--image", "mine.png", "--out", "mine.png", "--overwrite") == 2
    assert "mine.png is read, and would be overwritten" in capsys.readouterr().err and Path("mine.png").read_bytes() == mine
    for option in ("--out", "--film"):
        assert generate("--classes", "a", option, "grid.jpg") == 2
        assert "grid.jpg would be a png by another name; end it in .png." in capsys.readouterr().err and not Path("grid.jpg").exists()


def test_a_reference_that_nothing_would_come_of_is_refused(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    Image.effect_noise((16, 16), 60).save("like.jpg")
    for modulator, sampler, message in (("none", "ancestral", "has the modulator none"), ("spread", "heun", "this sampler draws none; ancestral does.")):
        asked = ["--reference", "like.jpg", "--sampler", sampler]
        assert generate("--classes", "a", *asked, modulator=modulator) == 2
        assert message in capsys.readouterr().err and not files()
    assert generate("--classes", "a", "--reference", "like.jpg", modulator="spread") == 0 == generate("--classes", "a", "--out", "free.png", modulator="spread")
    assert Path("grid.png").read_bytes() != Path("free.png").read_bytes()
