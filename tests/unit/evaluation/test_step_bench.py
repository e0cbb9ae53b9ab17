"""The benches of the step: what is measured, that memory is counted rightly, and that one pass needs more of it than two."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from rectangles import rectangles
from small_models import TRUNK
from toy_runs import config

from genrep.evaluation import step_bench
from genrep.evaluation.step_bench import PeakMemory, memory_figures, time_figures


def test_a_joint_step_is_set_beside_its_two_halves() -> None:
    with mock.patch.multiple(step_bench, SMALL_DIT=TRUNK, OF_TWO_STEPS={2: {"one pass": 0.97, "a pass each": 1.01}}):
        figures = time_figures(config(), rectangles(8, size=16), num_rounds=1)
    assert [figure.name for figure in figures] == [f"joint step / two steps, {way}, batch 2 + 2" for way in ("one pass", "a pass each")]
    for figure in figures:
        assert figure.value > 0 and figure.met is None and "too few to judge" in figure.how


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
