"""Average precision of class sets by scikit-learn's, and sets that agree, or do not."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import average_precision_score

from genrep.metrics.base import bootstrap
from genrep.metrics.multilabel import average_precisions, mean_average_precision, set_f1


@pytest.mark.parametrize("seed", range(5))
def test_it_is_scikit_learns(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probs, present = torch.rand(60, 4, generator=generator), torch.rand(60, 4, generator=generator) < 0.3
    expected = [average_precision_score(present[:, k].numpy(), probs[:, k].numpy()) for k in range(4)]
    assert average_precisions(probs, present).tolist() == pytest.approx(expected, abs=1e-5)
    assert mean_average_precision(probs, present) == pytest.approx(sum(expected) / 4, abs=1e-5)


def test_classes_that_no_image_has_do_not_count() -> None:
    probs, present = torch.tensor([[0.9, 0.2], [0.1, 0.8]]), torch.tensor([[True, False], [False, False]])
    found = average_precisions(probs, present)
    assert found[0] == 1 and math.isnan(found[1]) and mean_average_precision(probs, present) == 1
    assert math.isnan(mean_average_precision(probs, torch.zeros_like(present)))


def test_f1_of_sets() -> None:
    found = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 1]]) > 0
    wanted = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]) > 0
    assert set_f1(found, wanted).tolist() == [0.5, 1.0, 0.0, 1.0]


def test_a_draw_without_a_positive_leaves_the_interval_finite() -> None:
    """Two of forty: one draw in eight has none."""
    present = torch.zeros(40, 1)
    present[:2] = 1
    probs = torch.linspace(0.9, 0.1, 40)[:, None]
    found = bootstrap(lambda rows: mean_average_precision(probs[rows], present[rows].bool()), 40, num_resamples=100)
    assert found.value == 1 and 0 < found.low <= found.high <= 1
