"""What is shown while training, in a terminal and in a pipe."""

from __future__ import annotations

import os
import signal

import pytest
from rich.console import Console
from rich.live import Live

from genrep.cli.figures import figures_of, print_figures, print_grid, print_targets
from genrep.cli.screen import LiveProgress, PlainProgress, Row, duration, event_text, make_progress
from genrep.cli.stopping import stop_on_signal
from genrep.evaluation.figures import plain
from genrep.metrics.base import Estimate

GATE = {
    "event": "gate",
    "kind": "object",
    "step": 60,
    "weight": 0.5,
    "standard_error": 0.1,
    "head_weight": 0.8,
    "teaches": True,
    "posterior_accuracy": 0.7,
    "head_accuracy": 0.6,
}


def row(step: int, stage: int = 1) -> Row:
    joint = {"loss/denoise": 0.25, "align/cosine": 0.125, "align/kept_perception": None} if stage == 2 else {}
    return {"step": step, "stage": stage, "images_per_s": 100.0, "memory_gb": None, "loss/task": 1.5, **joint}


def test_plain_lines_name_every_loss(capsys: pytest.CaptureFixture[str]) -> None:
    with make_progress() as progress:
        assert isinstance(progress, PlainProgress)
        progress.on_start(["a look at the data"])
        for step in (10, 20, 30):
            progress.on_row(row(step), 100)
        progress.on_row(row(40, stage=2), 100)
        progress.on_event({"event": "resume", "step": 40, "share": 0.123456})
        progress.on_end(["model"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a look at the data"
    assert lines[1] == "step 10/100  stage 1  task 1.500  100 images/s, - left"
    assert lines[2].startswith("step 40/100  stage 2  task 1.500  denoise 0.250  cosine 0.12  100 images/s"), "a new stage is always said"
    assert lines[3:] == ["resume: step 40, share 0.1235", "wrote model"]


def test_the_live_table_shows_the_last_row() -> None:
    console = Console(record=True, width=120, force_terminal=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with Live(console=console, auto_refresh=False) as live:
        progress = LiveProgress(console, live)
        progress.on_start(["data"])
        progress.on_row(row(10), 100)
        progress.on_row(row(60, stage=2), 100)
        progress.on_event(GATE)
        progress.on_end(["end"])
        live.refresh()
    console.file.close()
    shown = console.export_text()
    for text in ["data", "60 of 100, stage 2", "denoise 0.250", "cosine 0.12", "the posterior of objects teaches (fitted weight", "wrote end"]:
        assert text in shown


def test_durations_and_events() -> None:
    assert [duration(s) for s in (59.6, 3600.0, 5400.0)] == ["1 min 00 s", "1 h 00 min", "1 h 30 min"]
    assert event_text({"event": "checkpoint", "step": 3, "time": 1.0}) == "checkpoint: step 3"
    end = {"event": "completion", "step": 3, "model": "model"}
    learns = "step 3: model learns which semantics go with which classes, 3,000 updates and is calibrated and is written"
    assert event_text({**end, "updates": 3000, "calibrates": True}) == learns
    assert event_text({**end, "updates": 0, "calibrates": False}) == "step 3: model is written"
    assert "stays shut (fitted weight 0.50 +- 0.10, the heads' 0.80; right on 0.70 of validation, the heads on 0.60)" in event_text({**GATE, "teaches": False})


def test_targets_are_set_beside_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"classification/top1": 0.9, "classification/top1_low": 0.88, "classification/top1_high": 0.92, "detection/ap50": 0.1}
    print_figures(figures)
    print_targets(figures_of("demo", figures))
    out = capsys.readouterr().out
    first, second = (next(line for line in out.splitlines() if name in line) for name in ("top-1", "AP50"))
    assert "yes" in first and "0.84" in first
    assert "no" in second
    assert "0.88 to 0.92" in out


@pytest.mark.parametrize(("width", "num_tables"), [(200, 1), (80, 2), (30, 8)])
def test_a_grid_is_cut_between_columns(width: int, num_tables: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No name and no number is cut, however narrow the screen."""
    monkeypatch.setenv("COLUMNS", str(width))
    noisy = (f"robustness/noise_{name}" for name in ("map", "ap50", "top1", "miou_foreground"))
    names = ["classification/top1", "segmentation/miou_foreground", *noisy, "a", "b"]
    estimates = [plain(f"{arm}: {name}", Estimate(0.5, 0.25, 0.75), "0 to 1", "") for arm in ("joint", "alone") for name in names]
    print_grid([each for each in estimates if each.name != "alone: a"])
    out = capsys.readouterr().out
    assert out.count("joint") == out.count("alone") == num_tables and out.count("0.5 ± 0.25") == 2 * len(names) - 1 and "…" not in out
    assert all(word in out for word in ("classification/", "miou_", "foreground", "noise_map", "noise_ap50", "noise_miou_"))


def test_the_first_signal_asks_and_the_second_insists(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    assert "finishing the step" in capsys.readouterr().err
