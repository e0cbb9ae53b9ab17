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


def test_what_was_said_before_a_calibration_is_kept_under_another_name(tmp_path: Path) -> None:
    """All that speaks of the last weights; the best ones stay as they are."""
    (tmp_path / "eval-best-photos.json").write_text("best")
    for after in ("before", "before-2", "before-3"):
        for name in ("eval.json", "eval-photos.json", "report.html"):
            (tmp_path / name).write_text(after)
        assert [path.name for path in set_aside(tmp_path)] == [f"eval-{after}.json", f"eval-photos-{after}.json", f"report-{after}.html"]
    assert len(list(tmp_path.iterdir())) == 10 and set_aside(tmp_path) == []
    assert (tmp_path / "eval-photos-before-2.json").read_text() == "before-2" and (tmp_path / "eval-best-photos.json").read_text() == "best"
