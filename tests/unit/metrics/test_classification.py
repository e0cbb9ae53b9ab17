"""Classification figures: known cases, a perfect model, torchmetrics and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import multiclass_accuracy

from genrep.metrics.base import bootstrap, mean_of_repetitions, wilson
from genrep.metrics.classification import auroc, confidence_auroc, confusion_matrix, expected_calibration_error, negative_log_likelihood, reliability, top1


def _random(num: int = 400, num_classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, num_classes, generator=generator).mul(2).log_softmax(1), torch.randint(num_classes, (num,), generator=generator)


def test_perfect_output() -> None:
    labels = torch.arange(10) % 3
    log_probs = torch.nn.functional.one_hot(labels, 3).float().mul(200).log_softmax(1)
    assert top1(log_probs, labels).value == top1(log_probs, labels).high == 1
    assert negative_log_likelihood(log_probs, labels) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(log_probs, labels) == pytest.approx(0, abs=1e-6)


def test_uniform_output_has_the_likelihood_of_a_guess() -> None:
    labels = torch.arange(8) % 4
    log_probs = torch.full((8, 4), -math.log(4))
    assert negative_log_likelihood(log_probs, labels) == pytest.approx(math.log(4))
    assert expected_calibration_error(log_probs, labels) == pytest.approx(0, abs=1e-6)


def test_top1_is_torchmetrics() -> None:
    log_probs, labels = _random()
    assert top1(log_probs, labels).value == pytest.approx(float(multiclass_accuracy(log_probs, labels, num_classes=5, average="micro")))


def test_reliability_bins_add_up_to_the_calibration_error() -> None:
    log_probs, labels = _random()
    bins = reliability(log_probs, labels)
    gaps = sum(n * abs(a - c) for a, c, n in zip(bins.accuracy, bins.confidence, bins.count, strict=True)) / sum(bins.count)
    assert sum(bins.count) == len(labels)
    assert gaps == pytest.approx(expected_calibration_error(log_probs, labels), abs=1e-6)


def test_confusion_matrix_is_sklearns() -> None:
    log_probs, labels = _random()
    found = confusion_matrix(log_probs.argmax(1), labels, num_classes=5)
    np.testing.assert_array_equal(found.numpy(), sklearn_confusion(labels.numpy(), log_probs.argmax(1).numpy()))


def test_area_under_the_curve_is_sklearns() -> None:
    """Scores near 1 that differ by less than a float of 32 bits can tell there are still told apart, and ties are halves."""
    log_probs, labels = _random()
    right = log_probs.argmax(1) == labels
    assert confidence_auroc(log_probs, labels) == pytest.approx(roc_auc_score(right, log_probs.max(1).values))
    coarse = log_probs.max(1).values.mul(3).round()
    assert auroc(coarse, right) == pytest.approx(roc_auc_score(right, coarse)) and len(coarse.unique()) < 12
    assert auroc(torch.tensor([-1e-9, -2e-9, -3e-9]), torch.tensor([True, False, False])) == 1
    assert math.isnan(auroc(coarse, torch.ones(400, dtype=torch.bool))) and math.isnan(auroc(coarse, torch.zeros(400, dtype=torch.bool)))


def test_a_mean_has_students_interval() -> None:
    found = mean_of_repetitions([4.0, 6.0, 8.0])  # standard error 2 / sqrt(3), quantile 4.3027 with two degrees of freedom
    assert (found.value, found.low, found.high) == pytest.approx((6.0, 6 - 4.3027 * 2 / 3**0.5, 6 + 4.3027 * 2 / 3**0.5), rel=1e-4)
    with pytest.raises(ValueError, match="at least 2 repetitions; found 1"):
        mean_of_repetitions([1.0])


def test_wilson_known_interval() -> None:
    found = wilson(81, 263)  # Newcombe 1998, table I, method 3
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize("num_right", [0, 20])
def test_wilson_stays_inside_at_the_ends(num_right: int) -> None:
    found = wilson(num_right, 20)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_wilson_covers_its_share() -> None:
    num, share = 60, 0.85
    chances = [math.comb(num, k) * share**k * (1 - share) ** (num - k) for k in range(num + 1)]
    covered = sum(chance for k, chance in enumerate(chances) if wilson(k, num).low <= share <= wilson(k, num).high)
    assert 0.93 < covered < 0.98


def test_wilson_needs_a_count() -> None:
    with pytest.raises(ValueError, match="found 0 of 0"):
        wilson(0, 0)


def test_the_interval_of_a_calibration_error_holds_it() -> None:
    """Of one who is as sure as right resampling alone makes errors, and more of them."""
    g = torch.Generator().manual_seed(0)
    below = 0
    for _ in range(10):
        log_probs = (2.5 * torch.randn(300, 10, generator=g)).log_softmax(1)
        labels = torch.multinomial(log_probs.exp(), 1, generator=g).squeeze(1)

        def error(rows: torch.Tensor, of: torch.Tensor = log_probs, truth: torch.Tensor = labels) -> float:
            return expected_calibration_error(of[rows], truth[rows])

        found, plain = (bootstrap(error, 300, num_resamples=50, distance=distance) for distance in (True, False))
        assert 0 <= found.low <= found.value <= found.high and found.value == plain.value
        below += plain.value < plain.low
    assert below > 0
