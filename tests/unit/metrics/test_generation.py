"""KID, FID, precision and recall, density and coverage: torchmetrics on the same features, closed forms, equal and disjoint sets."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from genrep.metrics.generation import density_coverage, fid, kid, kid_difference, precision_recall


def _normal(num: int, dim: int, *, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)) + shift


class _Given(nn.Module):
    """Hands the features through, so torchmetrics works on ours."""

    num_features = 8

    def forward(self, features: Tensor) -> Tensor:
        return features


def test_kid_is_torchmetrics() -> None:
    real, fake = _normal(150, 8, seed=0), _normal(150, 8, seed=1, shift=0.3)
    with warnings.catch_warnings(action="ignore"):  # of its memory
        metric = KernelInceptionDistance(feature=_Given(), subsets=1, subset_size=150)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    assert kid(real, fake).value == pytest.approx(float(metric.compute()[0]), rel=1e-9)


def test_kid_is_unbiased_and_its_interval_covers() -> None:
    found = [kid(_normal(60, 4, seed=2 * seed), _normal(60, 4, seed=2 * seed + 1, shift=0.5), seed=seed) for seed in range(60)]
    expected = kid(_normal(4000, 4, seed=1000), _normal(4000, 4, seed=1001, shift=0.5), num_resamples=2).value
    values = torch.tensor([f.value for f in found])
    assert abs(float(values.mean()) - expected) < 3 * float(values.std()) / 60**0.5 + 0.01 * expected
    assert sum(f.low <= expected <= f.high for f in found) >= 0.85 * len(found)


def test_kid_of_one_distribution_is_zero_within_its_interval() -> None:
    floor = kid(_normal(300, 8, seed=0), _normal(300, 8, seed=1))
    assert floor.low < 0 < floor.high


def test_kid_is_a_function_of_its_seed() -> None:
    real, fake = _normal(20, 4, seed=0), _normal(20, 4, seed=1)
    assert kid(real, fake, seed=3) == kid(real, fake, seed=3) != kid(real, fake, seed=4)


def test_fid_is_torchmetrics() -> None:
    real, fake = _normal(200, 8, seed=0).double(), _normal(150, 8, seed=1, shift=0.3).double() * 1.2
    metric = FrechetInceptionDistance(feature=_Given(), input_img_size=(8,)).set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert fid(real, fake) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_fid_closed_form_of_a_shift_and_of_a_scale() -> None:
    real = _normal(500, 6, seed=0)
    assert fid(real, real + 2) == pytest.approx(6 * 4, rel=1e-6)
    assert fid(real, real * 3) == pytest.approx(float(4 * torch.cov(real.double().T).trace() + 4 * real.double().mean(0).square().sum()), rel=1e-6)
    assert fid(real, real) == pytest.approx(0, abs=1e-9)


def test_precision_and_recall_of_equal_disjoint_and_partial_sets() -> None:
    left, right = _normal(40, 3, seed=0), _normal(40, 3, seed=1, shift=100)
    assert precision_recall(left, left) == (1, 1)
    assert precision_recall(left, right) == (0, 0)
    both = torch.stack([left, right], 1).flatten(0, 1)
    precision, recall = precision_recall(both, torch.cat([left, left + 1e-3]))  # one of two modes: all good, half missing
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.05)


def test_precision_by_hand() -> None:
    line = torch.arange(6.0)[:, None]  # radius to the 3rd neighbour: 3 2 2 2 2 3
    fake = torch.tensor([[-3.0], [-3.1], [2.5], [8.0], [8.1], [50.0]])
    assert precision_recall(line, fake, k=3)[0] == pytest.approx(3 / 6)


def test_density_and_coverage_by_hand() -> None:
    """An outlier among the generated images makes no room, and one good image is in several neighbourhoods."""
    line = torch.arange(6.0)[:, None]  # radius to the 2nd neighbour: 2 1 1 1 1 2
    fake = torch.tensor([[2.5], [2.5], [2.5], [2.5], [50.0], [-2.0]])
    density, coverage = density_coverage(line, fake, k=2)
    assert density == pytest.approx((4 * 2 + 1) / (2 * 6)) and coverage == pytest.approx(3 / 6)
    assert density_coverage(line, line + 100, k=2) == (0, 0)
    real = _normal(400, 4, seed=0)
    assert density_coverage(real, _normal(400, 4, seed=1)) == pytest.approx((1, 0.96), abs=0.06)


def test_the_difference_of_kids_is_surer_than_each_of_them() -> None:
    real, fake = _normal(200, 8, seed=0), _normal(150, 8, seed=1, shift=0.3)
    near = fake + 0.01 * _normal(150, 8, seed=2)
    found, one, other = kid_difference(real, fake, near), kid(real, fake), kid(real, near)
    assert found.value == pytest.approx(one.value - other.value, abs=1e-9)
    assert found.low < found.value < found.high and found.high - found.low < 0.2 * (one.high - one.low)
    same = kid_difference(real, fake, fake)
    assert same.value == same.low == same.high == 0
    with pytest.raises(ValueError, match="pairs of generated images are needed; found 150 and 149"):
        kid_difference(real, fake, near[:149])


def test_too_few_images() -> None:
    with pytest.raises(ValueError, match="more than 3"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2))
    with pytest.raises(ValueError, match="at least 2"):
        kid(torch.zeros(1, 2), torch.zeros(9, 2))
