"""What the figures of reading data count: breaks, hangs and refusals, of mutants that are really damaged."""

from __future__ import annotations

import time

import pytest
import torch
from rectangles import rectangles

from genrep.evaluation import data_bench
from genrep.evaluation.data_bench import data_figures, speed_figures


def refuse(message: str) -> None:
    raise ValueError(message)


def test_what_ends_in_no_single_line_is_a_break_and_what_takes_long_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_bench, "HANG_S", 0.05)
    trials = [lambda: 3, lambda: {}["missing"], lambda: refuse("one line"), lambda: refuse("two\nlines"), lambda: time.sleep(0.1)]
    broke, hung, vanished, refused = data_bench._mutants("files", "five", iter(trials), judged=True)
    assert (broke.value, broke.met) == (2, False) and "KeyError" in broke.how
    assert (hung.value, vanished.value, vanished.met, refused.value) == (1, 3, False, 2 / 5)


def test_a_batch_is_what_torchvision_makes_of_its_samples() -> None:
    single, scenes = rectangles(256), rectangles(256, num_objects=3, seed=1)
    figures = {figure.name: figure for figure in speed_figures(single, scenes, num_rounds=1)}
    assert figures["largest difference between the two"].met
    assert figures["torchvision / a batch, images alone"].met is None, "one round judges nothing"


def test_every_figure_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_bench, "BATCH", 16)
    monkeypatch.setattr(data_bench, "NUM_DOCUMENTS", 250)
    monkeypatch.setattr(data_bench, "NUM_PICTURES", 1000)
    said: list[str] = []
    figures = data_figures(rectangles(32), rectangles(32, num_objects=2), quick=True, progress=said.append)
    assert len(figures) == 4 + 1 + 4 + 4 + 1 and len(said) == 3
    assert all(figure.value is not None and torch.isfinite(torch.tensor(figure.value)) for figure in figures)
