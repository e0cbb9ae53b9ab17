"""Muon in float32 is torch's but for rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genrep.training.muon import WideMuon, orthogonalised

KJ = (3.4445, -4.775, 2.0315)


def matrices() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in ((12, 30), (30, 12), (16, 40))]


@pytest.mark.parametrize("which", range(3))
def test_singular_values_come_near_one_and_vectors_stay(which: int) -> None:
    matrix = matrices()[which].double()
    found = orthogonalised(matrix, KJ, num_steps=5, least=1e-7)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ found @ v.T
    assert s.max() / s.min() > 3 and turned.diagonal().min() > 0.6 and turned.diagonal().max() < 1.3
    assert (turned - turned.diagonal().diag()).abs().max() < 1e-9
    assert torch.isfinite(orthogonalised(torch.zeros(3, 5), KJ, num_steps=5, least=1e-7)).all()


def test_it_takes_the_steps_of_torchs_but_for_rounding_and_knows_the_same() -> None:
    """Decay, momentum, the size for every shape; what has no gradient stays."""
    ways = {}
    for kind in (torch.optim.Muon, WideMuon):
        weights = [nn.Parameter(matrix.clone()) for matrix in (*matrices(), torch.ones(4, 4))]
        optimizer = kind(weights, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for step in range(3):
            for weight, matrix in zip(weights, matrices(), strict=False):
                weight.grad = matrix.roll(step, 0) * (1 + step)
            optimizer.step()
        ways[kind] = (weights, [optimizer.state[weight]["momentum_buffer"] for weight in weights[:3]])
    (theirs, their_buffers), (ours, our_buffers) = ways.values()
    for a, b, start in zip(theirs, ours, matrices(), strict=False):
        moved = (a - start).norm()
        assert moved > 0.01 * start.norm() and (a - b).norm() < 0.03 * moved
    assert torch.equal(ours[3], torch.ones(4, 4))
    for a, b in zip(their_buffers, our_buffers, strict=True):
        torch.testing.assert_close(a, b)
