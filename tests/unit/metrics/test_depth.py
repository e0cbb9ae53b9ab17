"""Depth: hand counts, the naive pair loop, torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional import mean_absolute_percentage_error, mean_squared_error

from genrep.metrics.depth import depth_errors, fitted, right_order
from genrep.types import IGNORE

NAN = float("nan")


def maps(seed: int) -> torch.Tensor:
    return torch.rand(5, 6, 7, generator=torch.Generator().manual_seed(seed)) + 0.2


def test_a_perfect_map_has_no_error() -> None:
    errors = depth_errors(maps(0), maps(0))
    assert not errors.abs_rel.any() and not errors.rmse_m.any() and (errors.delta1 == 1).all()


def test_hand_count_and_what_is_unknown() -> None:
    truth = torch.tensor([[[1.0, 0.5], [0.25, NAN]], [[NAN, NAN], [NAN, NAN]]])
    found = torch.tensor([[[1.0, 1 / 3], [0.5, 9.0]], [[1.0, 1.0], [1.0, 1.0]]])  # 1, 3 and 2 m for 1, 2 and 4 m
    errors = depth_errors(found, truth)
    assert errors.abs_rel.tolist() == [pytest.approx((0 + 0.5 + 0.5) / 3)]
    assert errors.rmse_m.tolist() == [pytest.approx(((1**2 + 2**2) / 3) ** 0.5)]
    assert errors.delta1.tolist() == [pytest.approx(1 / 3)]


def test_is_torchmetrics() -> None:
    found, truth = maps(0), maps(1)
    errors = depth_errors(found, truth)
    for i in range(5):
        found_m, true_m = 1 / found[i].double(), 1 / truth[i].double()
        assert float(errors.abs_rel[i]) == pytest.approx(float(mean_absolute_percentage_error(found_m, true_m)))
        assert float(errors.rmse_m[i]) == pytest.approx(float(mean_squared_error(found_m, true_m, squared=False)))


def naive_order(found: torch.Tensor, mask: torch.Tensor) -> list[bool]:
    right = []
    for one, labels in zip(found, mask.tolist(), strict=True):
        pairs = set()
        for y in range(len(labels)):
            for x in range(len(labels[0])):
                for other in (labels[y + 1][x] if y + 1 < len(labels) else 0, labels[y][x + 1] if x + 1 < len(labels[0]) else 0):
                    if labels[y][x] not in (0, IGNORE) and other not in (0, IGNORE, labels[y][x]):
                        pairs.add((min(labels[y][x], other), max(labels[y][x], other)))
        where = torch.tensor(labels)
        right += [bool(one[where == near].mean() > one[where == far].mean()) for far, near in sorted(pairs)]
    return right


def test_a_line_through_the_truth_is_that_of_least_squares() -> None:
    """Whatever is unknown; nothing lies farther than the farthest; where all is as near, the mean."""
    truth = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    known = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(1)) > 0.3
    truth = truth.where(known, math.nan)
    seen = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(2))
    found = fitted(seen, truth)
    for i in range(3):
        slope, origin = np.polyfit(seen[i][known[i]].double().numpy(), truth[i][known[i]].double().numpy(), 1)
        expected = (slope * seen[i] + origin).clamp(min=float(truth[known].amin())).float()
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fitted(7 - 3 * truth.nan_to_num(), truth)[known], truth[known], rtol=1e-4, atol=1e-5)
    flat = fitted(torch.zeros(3, 6, 5), truth)
    torch.testing.assert_close(flat[0, 0, 0], truth[0][known[0]].mean())


def test_order_is_the_naive_loop() -> None:
    generator = torch.Generator().manual_seed(3)
    mask = torch.randint(5, (6, 4, 5), generator=generator, dtype=torch.uint8)
    mask[0, 0, :2] = IGNORE
    found = torch.rand(6, 4, 5, generator=generator)
    assert right_order(found, mask).tolist() == naive_order(found, mask)


def test_objects_that_do_not_touch_are_no_pair() -> None:
    mask = torch.tensor([[[1, 0, 2], [1, 0, 2]]], dtype=torch.uint8)
    assert len(right_order(torch.rand(1, 2, 3), mask)) == 0
    assert len(right_order(torch.rand(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.uint8))) == 0
