"""Micro-batches change the memory of a step and nothing else: uneven labels, glimpses, lessons and all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_runs import assert_same_model_tensors, config, load_rectangles, rows, stopped, weights

from genrep.config import Config
from genrep.evaluation import scaling_bench
from genrep.evaluation.scaling_bench import difference
from genrep.evaluation.step_bench import PeakMemory
from genrep.model import GenRep
from genrep.processes import counted_by, total
from genrep.training import RunFolder, data, train
from genrep.training.data import RunData
from genrep.training.loop import Session
from genrep.training.records import Silent
from genrep.types import Features, Seen, SeenObjects

pytestmark = pytest.mark.usefixtures("toy_world")
NUM_STEPS = 5
ATOL, ATOL_TAUGHT = 1e-10, 2e-9
"""Posteriors are estimated at noise times in float32, hence the second."""


def settings(*, posterior: bool = False, steps: int = NUM_STEPS, **changes: Any) -> Config:
    """Half of the images annotated, of a second look and glimpses; joint steps of 6 and 3 images."""
    base = scaling_bench.exact(config())
    objective = replace(base.objective, pseudo_confidence=0.05, posterior=base.objective.posterior if posterior else None, prior_steps=0)
    return replace(
        base,
        data=replace(base.data, labelled_fraction=0.5),
        model=replace(base.model, proposals=3),
        objective=objective,
        train=replace(base.train, **{"stage1_glimpses": 3, "glimpses": 3, "stage2_images": steps * 6, "log_every": 1, **changes}),
    )


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(("one_pass", "num"), [(False, 3), (True, 2)])
def test_micro_batches_make_the_run_of_the_whole(tmp_path: Path, one_pass: bool, num: int) -> None:
    """Uneven ones: stage 1 has 8 images and 3 that are glimpsed."""
    one, several = (train(settings(micro_batches=of, one_pass=one_pass, probe_every=2), tmp_path / str(of)) for of in (1, num))
    assert difference(weights(one), weights(several)) < ATOL
    for mine, whole in zip(rows(several), rows(one), strict=True):
        for name, value in whole.items():
            assert mine[name] == value or float(mine[name]) == pytest.approx(float(value), rel=1e-4, abs=2e-6), name


@pytest.mark.usefixtures("in_float64")
def test_micro_batches_are_taught_as_their_whole(tmp_path: Path) -> None:
    one, two = (train(settings(posterior=True, micro_batches=num), tmp_path / str(num)) for num in (1, 2))
    assert difference(weights(one), weights(two)) < ATOL_TAUGHT
    assert any(float(row["loss/distil"]) > 0 for row in rows(two))


@pytest.mark.usefixtures("in_float64")
def test_micro_batches_are_taught_by_what_the_teacher_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that sees one object, of a place and a class that the image's shade decides, and is sure of it in every other image."""

    def seen(self: GenRep, features: Features, confidence: float) -> Seen:
        shade, num = features.stem[0].mean((1, 2, 3)), len(features.stem[0])
        label = (shade.abs() * 1e4).long() % 4
        boxes = torch.tensor([0.4, 0.5, 0.5, 0.5], dtype=shade.dtype).expand(num, 1, 4)
        mask = torch.zeros(num, *self.image_size, dtype=torch.uint8)
        mask[:, 4:12, 3:11] = 1
        return Seen(torch.zeros(num, 4), torch.ones(num, dtype=torch.long), SeenObjects(label[:, None], label[:, None] % 2 == 1, boxes, mask))

    monkeypatch.setattr(GenRep, "seen", seen)
    runs = []
    for num in (1, 2):
        base = settings(micro_batches=num)
        runs.append(train(replace(base, objective=replace(base.objective, self_training=True)), tmp_path / str(num)))
    assert difference(weights(runs[0]), weights(runs[1])) < ATOL
    assert any(float(row["loss/distil"]) > 0 for row in rows(runs[1]))


@pytest.mark.usefixtures("in_float64")
def test_averaging_means_of_micro_batches_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What usual gradient accumulation does is another loss."""
    one = train(settings(steps=2), tmp_path / "one")
    monkeypatch.setattr("genrep.training.micro_batches.counted_by", lambda _: counted_by(lambda value: 2 * value))
    assert difference(weights(one), weights(train(settings(steps=2, micro_batches=2), tmp_path / "wrong"))) > 1e4 * ATOL


def test_a_run_in_micro_batches_resumes_to_the_bit(tmp_path: Path) -> None:
    halves = settings(posterior=True, micro_batches=2, bf16=True, muon=True)
    whole = train(halves, tmp_path / "whole")
    for steps in (2, 3):
        stopped(tmp_path / "parts", steps, halves)
    assert_same_model_tensors(whole, train(halves, tmp_path / "parts"))


@pytest.mark.parametrize("one_pass", [False, True])
def test_micro_batches_need_less_memory(tmp_path: Path, one_pass: bool) -> None:
    peaks = []
    for num in (1, 3):
        asked = settings(micro_batches=num, one_pass=one_pass, stage1_images=0, batch_size=24, stage1_glimpses=0, glimpses=0)
        session = Session(RunData(asked), RunFolder(tmp_path / str(num)), command="", screen=Silent(), look=None)
        session._step()
        with PeakMemory() as memory:
            session._step()
        peaks.append(memory.peak)
    assert peaks[1] < 0.7 * peaks[0]


def test_what_stands_in_for_a_sum_leaves_with_its_block() -> None:
    with counted_by(lambda value: 3 * value):
        assert total(torch.ones(1)).tolist() == [3]
    assert total(torch.ones(1)).tolist() == [1]


def test_each_micro_batch_has_an_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "load_dataset", load_rectangles)
    with pytest.raises(ValueError, match=r"`train.batch_size` is 6; of 1 processes x 7 micro-batches .* each needs an image. Set it to at least 7"):
        train(settings(micro_batches=7), tmp_path / "run")
    with pytest.raises(ValueError, match="`micro_batches` must be at least 1; found 0"):
        settings(micro_batches=0)
