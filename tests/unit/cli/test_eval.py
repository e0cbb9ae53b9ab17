"""`genrep eval` and `genrep calibrate`: which sets are meant, and what becomes of earlier figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genrep.cli.calibrate import set_aside
from genrep.cli.main import main


def test_an_empty_entry_is_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The empty path would be the current directory."""
    asked = []

    def evaluate_elsewhere(path: Path, sets: tuple[str, ...], **_: Any) -> tuple[Path, dict[str, float]]:
        asked.append(sets)
        return path / "eval-photos.json", {}

    monkeypatch.setattr("genrep.evaluation.evaluate_elsewhere", evaluate_elsewhere)
    (tmp_path / "model.safetensors").touch()
    assert main(["eval", str(tmp_path), "--data", "photos,"]) == 0 == main(["eval", str(tmp_path), "--data", ",photos,,more"])
    assert asked == [("photos",), ("photos", "more")]
    assert main(["eval", str(tmp_path), "--data", ","]) == 2
    assert "`--data` must name a data set or a folder; found `,`." in capsys.readouterr().err


def test_figures_of_an_earlier_calibration_are_kept(tmp_path: Path) -> None:
    for name in ("eval-before", "eval-before-2", "eval-before-3"):
        (tmp_path / "eval.json").write_text(name)
        assert set_aside(tmp_path / "eval.json") == tmp_path / f"{name}.json"
    assert all((tmp_path / f"{name}.json").read_text() == name for name in ("eval-before", "eval-before-2", "eval-before-3"))
