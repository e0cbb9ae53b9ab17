"""The bench of alignment: it finds the rule exact, finds out another one, and times what it says."""

from __future__ import annotations

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


def test_aligning_is_a_small_part_of_a_step() -> None:
    pytest.importorskip("torchjd")
    with mock.patch.object(step_bench, "SMALL_DIT", TRUNK), mock.patch.object(align_bench, "OF_STEP", {2: 0.5}):
        whole, step, peer = cost_figures(config(), rectangles(8, size=16), num_rounds=1)
    assert step.name == "alignment / joint step, batch 2 + 2" and step.value > 0 and step.met is None
    assert whole.name == "joint step / the same without alignment, batch 2 + 2" and whole.value > 0 and whole.target == 1.5
    assert peer.name == "alignment / TorchJD" and peer.value > 0 and "the cheapest of PCGrad, MGDA, AlignedMTL" in peer.how
