"""Perception's losses aligned task by task: added up they are the whole; each has a gradient of its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_runs import UNSTEADY, assert_same_model_tensors, config, rows, stopped, weights

from genrep.aligners import Aligner, GenRepRule, WeightedSum
from genrep.config import Config
from genrep.evaluation import scaling_bench
from genrep.evaluation.scaling_bench import difference
from genrep.training import train
from genrep.training.step_report import pair_column, report_of

pytestmark = pytest.mark.usefixtures("toy_world")
TASKS = ("classification", "detection", "segmentation")


def settings(aligner: Aligner, *, posterior: bool = False, **changes: Any) -> Config:
    """Half of the images annotated, of a second look and glimpses; a step of stage 1 and three of stage 2."""
    base = scaling_bench.exact(config())
    short = {"stage1_images": 8, "stage2_images": 18, "stage1_glimpses": 3, "glimpses": 3, "log_every": 1}
    return replace(
        base,
        aligner=aligner,
        data=replace(base.data, labelled_fraction=0.5),
        model=replace(base.model, proposals=3),
        objective=replace(base.objective, posterior=base.objective.posterior if posterior else None, prior_steps=0),
        train=replace(base.train, **{"perception_weight": 1.0, "generation_weight": 0.5, **short, **changes}),
    )


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("how", [{}, {"posterior": True, "side_by_side": 3}, {"one_pass": True, "micro_batches": 2}], ids=["plain", "taught", "parts"])
def test_added_up_as_they_are_tasks_make_the_run_of_their_sum(tmp_path: Path, how: dict[str, Any]) -> None:
    whole, by_task = (train(settings(WeightedSum(), by_task=each, **how), tmp_path / str(each)) for each in (False, True))
    assert difference(weights(whole), weights(by_task)) < 2e-9
    for row, expected in zip(rows(by_task), rows(whole), strict=True):
        for name in (name for name in expected if name not in UNSTEADY and not name.startswith("align/harm")):
            assert row[name] == expected[name] or float(row[name]) == pytest.approx(float(expected[name]), rel=1e-4, abs=2e-6), name
    assert ("posterior" in how) == any(float(row["loss/distil"]) > 0 for row in rows(by_task))


def test_aligned_task_by_task_is_another_run_which_tells_of_every_pair_and_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, by_task = (settings(GenRepRule(), by_task=each, posterior=True, side_by_side=2, bf16=False, probe_every=2) for each in (False, True))
    run = train(by_task, tmp_path / "run")
    assert difference(weights(train(whole, tmp_path / "sum")), weights(run)) > 1e-6
    for row in rows(run):
        joint = int(row["step"]) > 1
        pairs = [pair_column(*pair) for pair in combinations((*TASKS, "generation"), 2)]
        assert [name for name in pairs if row[name]] == [name for name in pairs if joint or "generation" not in name]
        assert bool(row["align/cosine"]) == bool(row["align/kept_perception"]) == joint
        probed = not int(row["step"]) % 2
        assert all(bool(row[f"align/actual_{task}"]) == probed for task in TASKS) and bool(row["align/actual_generation"]) == (probed and joint)
    stopped(tmp_path / "parts", 2, by_task)
    assert_same_model_tensors(run, train(by_task, tmp_path / "parts"))


def test_perception_alone_is_aligned_by_task_too(tmp_path: Path) -> None:
    alone = settings(GenRepRule(), by_task=True)
    run = train(replace(alone, objective=replace(alone.objective, jobs=("perception",))), tmp_path / "run")
    assert all(row[pair_column("classification", "detection")] and not row["align/cosine"] for row in rows(run))


def test_of_several_losses_the_last_is_set_against_the_sum_of_the_others() -> None:
    """And what two of them are to each other does not change if the first is two that add up to it."""
    gradients = torch.tensor([[3.0, 0.0, 1.0], [-1.0, 2.0, 0.0], [1.0, 1.0, 4.0]]).double()
    two = torch.stack([gradients[:2].sum(0), gradients[2]])
    coefficients = torch.tensor([[1.0, 0.0, -0.2], [0.0, 1.0, -0.2], [0.3, 0.3, 1.0]]).double()
    of_two = torch.tensor([[1.0, -0.4], [0.3, 1.0]]).double()
    several, both = (report_of(g @ g.T, c, {"stem": g @ g.T}, update=1.0, harmful=False) for g, c in ((gradients, coefficients), (two, of_two)))
    assert several.cosine == pytest.approx(both.cosine) and several.norms == pytest.approx(both.norms) and several.of_parts == pytest.approx(both.of_parts)
    assert several.kept == pytest.approx(both.kept)
    columns = several.columns(("a", "b", "generation"))
    assert columns["align/pair/a-b"] == pytest.approx(-3 / 50**0.5, abs=1e-6) and not both.of_pairs
    assert {name for name in columns if name.startswith("align/pair")} == {"align/pair/a-b", "align/pair/a-generation", "align/pair/b-generation"}


def test_one_loss_among_them_may_be_the_only_one_that_gives_way() -> None:
    assert settings(GenRepRule(only=3), by_task=True).losses(("perception", "generation")) == (*TASKS, "generation")
    with pytest.raises(ValueError, match=r"`aligner.only` must be one of 0 \(classification\), .* 3 \(generation\), or none; found 4"):
        settings(GenRepRule(only=4), by_task=True)
