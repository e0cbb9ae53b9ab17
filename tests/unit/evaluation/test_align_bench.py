"""The bench of alignment: it finds the rule exact, finds out another one, and times what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from unittest import mock

import pytest
import torch
from rectangles import rectangles
from small_models import TRUNK
from toy_runs import config

from genrep.aligners import WeightedSum
from genrep.evaluation import align_bench, step_bench
from genrep.evaluation.align_bench import by_components, cost_figures, exactness_figures


def test_the_rule_is_exact_and_another_one_is_found_out() -> None:
    (figure,) = exactness_figures(quick=True)
    assert figure.name == "error, 100,000 numbers" and figure.met and 0 < figure.value < 1e-6
    with mock.patch.object(align_bench, "GenRepRule", WeightedSum):
        (figure,) = exactness_figures(quick=True)
    assert figure.met is False and figure.value > 0.01


def test_the_reference_is_the_papers_sum() -> None:
    """At a right angle nothing is damped; opposite gradients lose all."""
    p, g = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    torch.testing.assert_close(by_components(p, g), torch.tensor([0.7, 0.6]).double())
    torch.testing.assert_close(by_components(p, -3 * p), torch.zeros(2).double())


SECONDS = {"step": 4.0, "summed": 3.2, "align": 1.0, "ours": 2.0, "PCGrad": 16.0, "MGDA": 8.0, "AlignedMTL": 20.0}


def timed(work: Mapping[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Everything is done once, and has taken what is written above."""
    assert num_rounds == 7
    for run in work.values():
        run()
    return {name: SECONDS[name] for name in work}


def test_aligning_is_set_beside_a_step_and_beside_torchjd() -> None:
    pytest.importorskip("torchjd")
    with mock.patch.object(step_bench, "SMALL_DIT", TRUNK), mock.patch.multiple(align_bench, OF_STEP={2: 0.3}, cpu_seconds=timed):
        figures = {figure.name: figure for figure in cost_figures(config(), rectangles(8, size=16))}
    found = {name: (figure.value, figure.met) for name, figure in figures.items()}
    assert found == {
        "joint step / the same without alignment, batch 2 + 2": (1.25, True),
        "alignment / joint step, batch 2 + 2": (0.25, True),
        "alignment / TorchJD": (0.25, False),
    }
    assert "TorchJD's MGDA, the cheapest of PCGrad, MGDA, AlignedMTL" in figures["alignment / TorchJD"].how
