"""What sampling costs and how few steps are enough: ratios of one run, pairs of one noise, targets judged only where enough was measured."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from rectangles import rectangles
from small_models import small_model

from genrep.config import EvalConfig
from genrep.evaluation import sampling_bench
from genrep.evaluation.generation import Studio
from genrep.evaluation.judge import Judge
from genrep.evaluation.sampling_bench import FEW, batch_figure, line_up, quality_figures, time_figures
from genrep.samplers import Ancestral, Heun


def test_samplers_compared_ask_the_network_about_as_often() -> None:
    evaluations = {name: 2 * each.num_steps - 1 if isinstance(each, Heun) else each.num_steps for name, each in line_up().items()}
    assert len(evaluations) == 13 and set(evaluations.values()) == {FEW, FEW - 1}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_times_are_beside_their_bounds_and_few_rounds_judge_nothing() -> None:
    pytest.importorskip("diffusers")
    figures = {figure.name: figure for figure in time_figures(small_model(), num_rounds=1)}
    assert set(figures) == {
        "whole / network, batch 4",
        "whole / network, batch 1",
        "whole / diffusers, batch 1",
        *(f"{name}: outside the network, per step" for name in ("euler", "heun", "dpm_solver", "unipc")),
    }
    assert all(figure.met is None and figure.value > 0 and figure.at_most and "too few" in figure.how for figure in figures.values())


def test_the_best_of_val_is_compared_on_pairs_of_test(judge: Judge) -> None:
    """With a model that answers in one step whatever the step, all samplers are alike and their difference is none."""
    studio = Studio(small_model(), judge, EvalConfig(batch_size=40))
    data, few = rectangles(60, size=16), {"dpm": line_up()["dpm_solver, uniform"], "ancestral": Ancestral(num_steps=3)}
    with mock.patch.object(sampling_bench, "line_up", lambda: few):
        figures = {figure.name: figure for figure in quality_figures(studio, data, data, quick=True)}
    (difference,) = (figure for name, figure in figures.items() if name.startswith("KID of 20 steps less"))
    best = min(few, key=lambda name: figures[f"{name}: KID, val"].value)
    slow = "ancestral, 40 evaluations"
    assert difference.met is None and f"{best} was chosen on val" in difference.how and "too few" in difference.how
    assert difference.value == pytest.approx(figures[f"{best}, 20 evaluations: KID"].value - figures[f"{slow}: KID"].value, abs=1e-9)
    assert all(f"{name}: {what}" in figures for name in (f"{best}, 20 evaluations", slow) for what in ("KID", "recognised", "recall"))


def test_images_of_other_batches_are_the_same_to_the_eye() -> None:
    figure = batch_figure(small_model(), num=9)
    assert figure.met and 0 <= figure.value <= 2 / 255
    other = torch.Tensor.abs
    with mock.patch.object(torch.Tensor, "abs", lambda self: other(self) + 0.1):
        assert batch_figure(small_model(), num=9).met is False
