"""Against TorchJD, where the definitions coincide."""

from __future__ import annotations

import torch
from torchjd.aggregation import Constant, PCGrad

from genrep.aligners import GenRepRule, WeightedSum


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
