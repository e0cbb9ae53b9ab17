"""Runs side by side: what differs, by how much, and whether that is more than testing leaves open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from genrep.cli.main import main
from genrep.evaluation.comparison import Row, figures_of_runs, settings_of_runs
from genrep.evaluation.comparison_page import write_comparison
from genrep.storage import write_json

FIRST = {"classification/top1": 0.9, "classification/top1_low": 0.88, "classification/top1_high": 0.92, "generation/kid": 0.05, "generation/kid_real": 0.001}
SECOND = {"classification/top1": 0.94, "classification/top1_low": 0.92, "classification/top1_high": 0.96, "generation/kid": 0.02, "generation/kid_real": 0.002}


def run(folder: Path, figures: dict[str, float] | None, **train: Any) -> Path:
    folder.mkdir()
    write_json(folder / "config.json", {"name": "tiny", "train": {"lr": 1e-3, "seed": 0, **train}, "data": {"sets": ["fashion"]}})
    if figures is not None:
        write_json(folder / "eval.json", figures)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return [run(tmp_path / "one", FIRST), run(tmp_path / "two", SECOND | {"more/ap": 0.5}, lr=3e-3, extra=[1, 2])]


def test_settings_that_differ_are_named_by_their_path(pair: list[Path]) -> None:
    assert settings_of_runs(pair) == {"train.lr": (1e-3, 3e-3), "train.extra": (None, [1, 2])}
    assert settings_of_runs([pair[0], pair[0]]) == {}


def test_figures_stand_side_by_side(pair: list[Path]) -> None:
    rows = {row.key: row for row in figures_of_runs(pair)}
    assert list(rows) == ["classification/top1", "generation/kid", "generation/kid_real", "more/ap"]
    top1, kid, real, more = rows.values()
    assert top1.differences == (pytest.approx(0.04),) and top1.best == 1 and top1.intervals == ((0.88, 0.92), (0.92, 0.96))
    assert kid.best == 1 and kid.clear(1) is None and real.best is None
    assert more.values == (None, 0.5) and more.differences == (None,) and more.best is None


@pytest.mark.parametrize(("second", "clear"), [(0.53, True), (0.52, False), (0.47, True)])
def test_a_difference_is_clear_beyond_both_intervals_together(second: float, clear: bool) -> None:
    """Half-widths .015 and .02 make .025."""
    row = Row("x/top1", (0.5, second), ((0.485, 0.515), (second - 0.02, second + 0.02)))
    assert row.clear(1) is clear


@pytest.mark.parametrize(("second", "clear"), [(0.3, True), (0.23, False)])
def test_a_figure_is_less_open_on_one_side_than_on_the_other(second: float, clear: bool) -> None:
    """None of eight right leaves much open above and nothing below: with half of it to each side .23 would be clear."""
    row = Row("x/top1", (0.0, second), ((0.0, 0.25), (second - 0.05, second + 0.3)))
    assert row.clear(1) is clear and Row("x/top1", row.values[::-1], row.intervals[::-1]).clear(1) is clear


def test_figures_of_other_sets_are_shown_and_not_compared(pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run(tmp_path / "cells", SECOND)
    write_json(other / "config.json", {"name": "own", "train": {}, "data": {"sets": ["/photos/cells"]}})
    (row, *_) = figures_of_runs([*pair, other])
    assert row.differences == (pytest.approx(0.04), None) and row.clear(2) is None and row.best is None
    assert main(["compare", *map(str, (*pair, other))]) == 0
    out = capsys.readouterr().out
    assert "measured on other sets do not compare with A:\nA: fashion\nB: fashion\nC: /photos/cells\n" in out
    assert "+0.04 *" in out and "0.94 [0.92, 0.96]" in out


def test_no_figure_of_many_runs_is_cut(pair: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, pair * 3)]) == 0
    out = capsys.readouterr().out
    assert out.count("0.94 [0.92, 0.96]") == 3 and "…" not in out


@pytest.mark.parametrize(
    ("key", "best"),
    [("depth/abs_rel", 0), ("depth/rmse_m", 0), ("generation/scenes_kid", 0), ("generation/fid_imagenet", 0), ("posterior/head_nll", 0), ("depth/order", 1)],
)
def test_of_errors_and_distances_less_is_better(key: str, best: int) -> None:
    assert Row(key, (0.1, 0.3), (None, None)).best == best


def test_equal_figures_have_no_best() -> None:
    assert Row("x/top1", (0.5, 0.5), (None, None)).best is None


def test_what_cannot_be_compared(pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(pair[0])]) == 2
    assert "one run has nothing to be compared with" in capsys.readouterr().err
    assert main(["compare", str(pair[0]), str(run(tmp_path / "raw", None))]) == 2
    assert "raw has no eval.json: expected a finished run; `genrep eval" in capsys.readouterr().err


def test_the_tables_and_the_file(pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, pair), "--out", str(tmp_path / "both.json")]) == 0
    out = capsys.readouterr().out
    assert f"A: {pair[0]}" in out and f"B: {pair[1]}" in out and "B - A" in out
    lines = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    assert "0.001" in lines["train.lr"] and "0.003" in lines["train.lr"] and "1,2" in lines["train.extra"]
    assert "+0.04 *" in lines["classification/top1"] and "0.9 [0.88, 0.92]" in lines["classification/top1"] and "-0.03" in lines["generation/kid"]
    written = json.loads((tmp_path / "both.json").read_text())
    assert written["figures"]["generation/kid"] == {"values": [0.05, 0.02], "intervals": [None, None]} and written["settings"]["train.lr"] == [1e-3, 3e-3]


def test_the_same_settings_are_said(pair: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(pair[0]), str(pair[0])]) == 0
    assert "all settings are the same" in capsys.readouterr().out


def test_other_judges_are_said(pair: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A distance in one network's features says nothing beside one in another's."""
    for run, judge in zip(pair, ("mine", "yours"), strict=True):
        assert main(["compare", *map(str, pair)]) == 0 and "judged by different networks" not in capsys.readouterr().out
        write_json(run / "eval_details.json", {"generation": {"judge": judge}})
    assert main(["compare", *map(str, pair)]) == 0
    out = capsys.readouterr().out
    assert "samples were judged by different networks:\nA: mine\nB: yours\n" in out


def test_a_file_that_exists_is_asked_about(pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", *map(str, pair), "--out", str(tmp_path / "both.json")]
    (tmp_path / "both.json").write_text("mine")
    assert main(command) == 2 and (tmp_path / "both.json").read_text() == "mine"
    assert "both.json exists" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0 and "figures" in json.loads((tmp_path / "both.json").read_text())


def test_settings_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets in a path or a name are no markup."""
    runs = [run(tmp_path / f"run{i}", FIRST, init=name) for i, name in enumerate(("[bold]", "[/red]"))]
    assert main(["compare", *map(str, runs)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "train.init" in line)
    assert "[bold]" in line and "[/red]" in line


def drawn(folder: Path, shade: int, *, sees: bool, makes: bool) -> None:
    """Pictures of a run, as an evaluation leaves them, and what was recorded of its training."""
    (folder / "samples").mkdir()
    details: dict[str, Any] = {}
    if sees:
        pictures = [
            {"group": group, "index": index, "truth": "truth.png", "prediction": "found.png"} for group, index in (("worst", 9), ("first", 0), ("first", 3))
        ]
        details["scenes"] = {"set": "fashion-scenes", "n": 10, "pictures": pictures}
    if makes:
        details["pictures"] = {"samples": [{"class": "<b>ag", "file": "made.png", "num": 8, "share_recognised": None}]}
    for name in ("truth", "found", "made"):
        Image.new("L", (8, 8), shade).save(folder / "samples" / f"{name}.png")
    write_json(folder / "eval_details.json", details)
    lines = ["step,stage,loss/detection,loss/distil", *(f"{step},2,{shade / step if sees else ''},0" for step in range(1, 9))]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def test_a_page_shows_figures_settings_pictures_and_curves_side_by_side(pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run that sees, one that sees and makes, and one of which nothing but its figures is left; whole in itself."""
    drawn(pair[0], 60, sees=True, makes=False)
    drawn(pair[1], 120, sees=True, makes=True)
    bare = run(tmp_path / "bare", FIRST)
    page = tmp_path / "pages" / "three.html"
    assert main(["compare", *map(str, (*pair, bare)), "--out", str(page)]) == 0
    assert f"wrote {page}" in capsys.readouterr().out
    text = page.read_text()
    assert "http" not in text and "<b>ag" not in text and "&lt;b&gt;ag" in text
    assert "<b>0.94 [0.92, 0.96]</b>" in text and "+0.04 *" in text and "<td>train.lr</td><td>0.001</td><td>0.003</td><td>0.001</td>" in text
    assert text.count("<figure>") == 2 and text.count("the truth</figcaption>") == 2 and text.count("data:image/png") == 2 * 3 + 1
    assert text.count('class="chart-title"') == 1 and text.count('class="run run0" points') == 2 and "detection loss" in text
    assert main(["compare", *map(str, pair), "--out", str(page)]) == 2, "it exists"


def test_images_of_other_sets_do_not_stand_beside_each_other(pair: list[Path], tmp_path: Path) -> None:
    for folder, num in zip(pair, (10, 11), strict=True):
        drawn(folder, 60, sees=True, makes=False)
        details = json.loads((folder / "eval_details.json").read_text())
        details["scenes"]["n"] = num
        write_json(folder / "eval_details.json", details)
    assert "What they see" not in write_comparison(tmp_path / "page.html", pair).read_text()
