"""Runs of a few steps on rectangles, and what is compared between them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rectangles import rectangles
from small_models import TRUNK

from genrep.config import Config
from genrep.datasets import ArrayDataset
from genrep.recipes import tiny
from genrep.storage import load_tensors, read_json
from genrep.training import Interrupted, RunFolder, train

STEPS1, STEPS2 = 3, 6
UNSTEADY = {"seconds", "images_per_s", "memory_gb"}
OBJECTS = {"fashion": 1, "fashion-scenes": 2}


def config() -> Config:
    """The tiny recipe on 16 x 16 px, three steps and six; lessons at every other of them."""
    base = tiny()
    return replace(
        base,
        data=replace(base.data, num_train=12),
        model=replace(base.model, trunk=TRUNK, image_size=(16, 16)),
        objective=replace(base.objective, distil_every=2, gate_at=(0.2, 0.7)),
        eval=replace(base.eval, num_scene_samples=8),
        train=replace(base.train, stage1_images=STEPS1 * 8, stage1_batch_size=8, stage2_images=STEPS2 * 6, batch_size=6),
    )


def load_rectangles(name: str, split: str, *, num: int | None = None, **_: Any) -> ArrayDataset:
    found = rectangles(24, num_objects=OBJECTS[name], size=16, name=name, seed=len(split))
    return found.first(num) if num else found


def after(steps: int) -> Callable[[], bool]:
    """Asks to stop after so many steps of this sitting."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= steps


def stopped(run: Path, steps: int, settings: Config | None = None) -> Path:
    with pytest.raises(Interrupted) as stop:
        train(settings or config(), run, stop=after(steps))
    assert stop.value.run == run
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of a finished run's model."""
    return load_tensors(RunFolder(run).model / "model.safetensors")


def newest(run: Path) -> Path:
    return RunFolder(run).checkpoint_folders()[0]


def rows(run: Path) -> list[dict[str, str]]:
    with RunFolder(run).metrics.open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in UNSTEADY} for row in csv.DictReader(file)]


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = RunFolder(run).events.read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def assert_same_state(a: Path, b: Path) -> None:
    """Weights, teacher, optimizer, aligner, fitted gates and progress of two checkpoints, bit for bit."""
    one, other = (load_tensors(folder / "state.safetensors") for folder in (a, b))
    assert one.keys() == other.keys() and {name.split(".")[0] for name in one} >= {"model", "teacher", "optimizer"}
    assert not [name for name in one if not torch.equal(one[name], other[name])]
    states = [read_json(folder / "state.json") for folder in (a, b)]
    for state in states:
        del state["progress"]["seconds"]
    assert states[0] == states[1]


def assert_same_model(a: Path, b: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        assert (RunFolder(a).model / name).read_bytes() == (RunFolder(b).model / name).read_bytes()


def assert_same_model_tensors(a: Path, b: Path) -> None:
    one, other = (load_tensors(RunFolder(run).model / "model.safetensors") for run in (a, b))
    assert all(torch.equal(one[name], other[name]) for name in one | other)
