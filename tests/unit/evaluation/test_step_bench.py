"""The benches of the step: what is measured, that memory is counted rightly, and that one pass needs more of it than two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from unittest import mock

import pytest
import torch
from rectangles import rectangles
from small_models import TRUNK
from toy_runs import config

from genrep.evaluation import step_bench
from genrep.evaluation.step_bench import PeakMemory, Rig, memory_figures, time_figures

SECONDS = {"perception": 1.0, "generation": 3.0, "one pass": 3.8, "a pass each": 5.0}


def timed(work: Mapping[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Everything is done once, and has taken what is written above."""
    assert num_rounds == 7
    for run in work.values():
        run()
    return {name: SECONDS[name] for name in work}


def test_a_joint_step_is_set_beside_its_two_halves() -> None:
    with mock.patch.multiple(step_bench, SMALL_DIT=TRUNK, OF_TWO_STEPS={2: {"one pass": 0.97, "a pass each": 1.01}}, cpu_seconds=timed):
        found = {figure.name: (figure.value, figure.met) for figure in time_figures(config(), rectangles(8, size=16))}
    assert found == {"joint step / two steps, one pass, batch 2 + 2": (0.95, True), "joint step / two steps, a pass each, batch 2 + 2": (1.25, False)}


def test_a_step_is_what_training_does() -> None:
    """The gradients of one pass and of two are the same; steps that the bench calls by a job leave the other's parameters alone."""
    with mock.patch.object(step_bench, "SMALL_DIT", TRUNK):
        rig = Rig(replace(config(), train=replace(config().train, bf16=False)), rectangles(8, size=16))
    found = []
    for options in ({"one_pass": True}, {"one_pass": False}):
        rig.gradient(4, **options)()
        found.append({name: p.grad.clone() for name, p in rig.model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-5)
    rig.step(4, jobs=["generation"])()
    assert not any(p.grad is not None for p in rig.model.heads.parameters()) and any(p.grad is not None for p in rig.model.projector.parameters())


def test_memory_of_both_passes_at_once_is_more() -> None:
    with mock.patch.object(step_bench, "SMALL_DIT", TRUNK):
        one, each = memory_figures(config(), rectangles(64, size=16), batches=[32])
    assert one.name == "memory / generation alone, one pass, batch 32 + 32" and one.value > 1.1 * each.value > 1.1
    assert one.met is (one.value <= 1.3)


@pytest.mark.parametrize("keep", [False, True])
def test_peak_memory_counts_what_is_alive_at_once(keep: bool) -> None:
    """Views and writing in place take nothing; what a graph keeps for its way back counts as long as the graph is there."""
    x = torch.ones(1000, requires_grad=keep)
    with PeakMemory() as memory:
        made = torch.zeros(500)
        made.view(10, 50)[2:].add_(1)
        assert memory.now == memory.peak == 2000
        del made
        assert memory.now == 0
        loss = (x.exp() + 1).square().sum()
        between = memory.now
        if keep:
            loss.backward()
        del loss
    assert between == (2 * 4000 if keep else 0) + 4
    assert memory.now == (4000 if keep else 0) and memory.peak >= 2 * 4000
