"""What the figures of reading data count: breaks, hangs and refusals, of mutants that are really damaged."""

from __future__ import annotations

import json
import random
import time
from itertools import islice
from pathlib import Path

import pytest
import torch
from rectangles import rectangles

from genrep.evaluation import data_bench
from genrep.evaluation.data_bench import data_figures, of_documents, of_pictures, speed_figures


def refuse(message: str) -> None:
    raise ValueError(message)


def test_what_ends_in_no_single_line_is_a_break_and_what_takes_long_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_bench, "HANG_S", 0.05)
    trials = [lambda: None, lambda: {}["missing"], lambda: refuse("one line"), lambda: refuse("two\nlines"), lambda: time.sleep(0.1)]
    broke, hung, refused = data_bench._mutants("files", 5, iter(trials), judged=True)
    assert (broke.value, broke.met) == (2, False) and "KeyError" in broke.how
    assert (hung.value, refused.value) == (1, 2 / 5)


def test_mutants_are_damaged_and_few_break_what_should_hold(tmp_path: Path) -> None:
    """Most documents still parse, so that it is the reader that is tried and not the json parser; no two are alike."""
    texts = []
    for trial in islice(of_documents(tmp_path, random.Random(1)), 60):
        texts.append((tmp_path / "coco" / "annotations" / "instances_train.json").read_bytes())
        try:
            trial()
        except ValueError as error:
            assert "\n" not in str(error)
    assert len(set(texts)) > 50 and data_bench._document().encode() not in texts
    assert sum(parses(text) for text in texts) > 30


def parses(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_pictures_of_every_format_are_tried(tmp_path: Path) -> None:
    outcomes = set()
    for trial in islice(of_pictures(tmp_path, random.Random(1)), 80):
        try:
            trial()
            outcomes.add("read")
        except ValueError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
    assert {path.suffix for path in tmp_path.iterdir()} == {".jpg", ".png", ".webp", ".bmp"}


def test_a_batch_is_what_torchvision_makes_of_its_samples() -> None:
    single, scenes = rectangles(256), rectangles(256, num_objects=3, seed=1)
    figures = {figure.name: figure for figure in speed_figures(single, scenes, num_rounds=1)}
    assert figures["largest difference between the two"].met
    assert figures["torchvision / a batch, images alone"].met is None, "one round judges nothing"


def test_every_figure_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_bench, "BATCH", 16)
    said: list[str] = []
    figures = data_figures(rectangles(32), rectangles(32, num_objects=2), quick=True, progress=said.append)
    assert len(figures) == 4 + 1 + 3 + 3 and len(said) == 3
    assert all(figure.value is not None and torch.isfinite(torch.tensor(figure.value)) for figure in figures)
