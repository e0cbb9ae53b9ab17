"""Against TorchJD, where the definitions coincide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchjd import aggregation
from torchjd.aggregation import Aggregator, Constant, PCGrad

from genrep.aligners import MGDA, AlignedMTL, Aligner, Bisector, GenRepRule, WeightedSum
from genrep.aligners import PCGrad as OurPCGrad


def test_weighted_sum_is_torchjd_constant() -> None:
    grads = torch.randn(2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
    coefficients, _ = WeightedSum()(grads @ grads.T, torch.ones(2).double(), {})
    torch.testing.assert_close(weights @ coefficients @ grads, Constant(weights)(grads))


def test_genrep_rule_tends_to_pcgrad_as_gradients_become_opposite() -> None:
    """PCGrad projects conflicting gradients fully; the rule's share is 0 at a cosine of -1 and of second order beside it."""
    for angle in (0.1, 0.01):
        grads = torch.tensor([[1.0, 0.0], [-1.0, angle]]).double()
        coefficients, _ = GenRepRule()(grads @ grads.T, torch.ones(2).double(), {})
        update, projected = (coefficients @ grads).sum(0), PCGrad()(grads)
        assert (update - projected).norm() < angle**4


PAIRS: dict[str, tuple[Aligner, Aggregator, float]] = {
    "pcgrad": (OurPCGrad(), PCGrad(), 2.0),
    "mgda": (MGDA(), aggregation.MGDA(epsilon=1e-9, max_iters=20_000), 1.0),
    "bisector": (Bisector(), aggregation.ConFIG(), 1.0),
    "aligned_mtl": (AlignedMTL(), aggregation.AlignedMTL(), 1.0),
}
"""Ours, theirs, and by how much ours with equal weights, which sum to one, is smaller."""


def jacobian(num: int, cosine: float | None = None) -> Tensor:
    grads = torch.randn(num, 9, generator=torch.Generator().manual_seed(num), dtype=torch.float64) * torch.tensor([[1.0], [3.0], [0.5]])[:num]
    if cosine is not None:
        first = grads[0] / grads[0].norm()
        across = grads[1] - (grads[1] @ first) * first
        grads[1] = 3 * (cosine * first + (1 - cosine**2) ** 0.5 * across / across.norm())
    return grads


@pytest.mark.parametrize(("ours", "theirs", "factor"), PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("cosine", [-0.9, -0.3, 0.2, 0.8])
def test_two_gradients_as_torchjd_has_it(ours: Aligner, theirs: Aggregator, factor: float, cosine: float) -> None:
    grads = jacobian(2, cosine)
    coefficients, _ = ours(grads @ grads.T, torch.ones(2).double(), {})
    torch.testing.assert_close(factor * (coefficients @ grads).mean(0), theirs(grads), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mgda", "bisector", "aligned_mtl"])
def test_three_gradients_as_torchjd_has_it(name: str) -> None:
    """PCGrad of more than two is random there."""
    ours, theirs, factor = PAIRS[name]
    grads = jacobian(3)
    coefficients, _ = ours(grads @ grads.T, torch.ones(3).double(), {})
    torch.testing.assert_close(factor * (coefficients @ grads).mean(0), theirs(grads), rtol=1e-3, atol=1e-3)
