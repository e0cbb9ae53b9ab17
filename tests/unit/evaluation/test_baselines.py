"""Logistic regression: scikit-learn's optimum, hidden labels, the choice of l2."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rectangles import rectangles
from sklearn.linear_model import LogisticRegression

from genrep.datasets import ArrayDataset
from genrep.evaluation.baselines import fit_logistic_regression

TRAIN, VAL = rectangles(80, size=8), rectangles(40, size=8, seed=1)


def test_is_sklearns() -> None:
    l2 = 1e-2
    found = fit_logistic_regression(TRAIN, VAL, l2_grid=(l2,), num_iterations=300)
    rows = TRAIN.pixels.flatten(1).double() / 255
    expected = LogisticRegression(C=1 / (l2 * len(rows)), max_iter=2000, tol=1e-8).fit(rows.numpy(), TRAIN.label.numpy())
    coefficients = torch.as_tensor(expected.coef_)[:, found.varies].float()
    torch.testing.assert_close(found.weight[:, :-1], coefficients, atol=5e-3, rtol=1e-2)
    judged = found(VAL.pixels)
    assert float((judged.numpy() == expected.predict(VAL.pixels.flatten(1).double().numpy() / 255)).mean()) > 0.95


def test_hidden_labels_and_their_images_do_not_count() -> None:
    visible = torch.arange(80) < 50
    hidden = TRAIN.with_labels_for(visible)
    scrambled = replace(hidden, pixels=torch.where(visible[:, None, None, None], hidden.pixels, 255 - hidden.pixels))
    one, other = (fit_logistic_regression(data, VAL, num_iterations=5) for data in (hidden, scrambled))
    assert torch.equal(one.weight, other.weight)


def test_l2_is_chosen_on_val() -> None:
    grid = (10.0, 1e-4)

    def right(l2: float, val: ArrayDataset) -> float:
        return float((fit_logistic_regression(TRAIN, val, l2_grid=(l2,))(val.pixels) == val.label).double().mean())

    best = max(grid, key=lambda l2: right(l2, VAL))
    assert fit_logistic_regression(TRAIN, VAL, l2_grid=grid).l2 == best


def test_it_needs_a_label() -> None:
    with pytest.raises(ValueError, match="labelled images"):
        fit_logistic_regression(TRAIN.with_labels_for(torch.zeros(80, dtype=torch.bool)), VAL)
