"""What every aligner promises, and how the paper's rule meets its equations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from genrep.aligners import ALIGNERS, GenRepRule, WeightedSum
from genrep.aligners.base import Aligner, cosines, share_kept
from genrep.registry import part_to_dict

every_aligner = pytest.mark.parametrize("aligner", [cls() for cls in ALIGNERS.values()], ids=ALIGNERS)
gradients = hnp.arrays("float64", (2, 5), elements=st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: x if abs(x) > 1e-3 else 0.0)).map(torch.from_numpy)


def aligned(aligner: Aligner, grads: Tensor) -> Tensor:
    """The rows g'_i for gradients [l p]."""
    coefficients, _ = aligner(grads @ grads.T, grads.new_ones(len(grads)), aligner.init(len(grads)))
    return coefficients @ grads


@every_aligner
@given(grads=gradients)
def test_finite_for_any_gradients_also_zero_equal_and_opposite(aligner: Aligner, grads: Tensor) -> None:
    first = grads[:1]
    for pair in (grads, first.repeat(2, 1), torch.cat([first, -first]), torch.cat([first, 0 * first]), 0 * grads):
        assert aligned(aligner, pair).isfinite().all()


@every_aligner
@given(grads=gradients)
def test_roles_are_symmetric(aligner: Aligner, grads: Tensor) -> None:
    torch.testing.assert_close(aligned(aligner, grads.flip(0)).flip(0), aligned(aligner, grads), rtol=1e-12, atol=1e-12)


@every_aligner
@given(grads=gradients)
def test_scaling_the_gradients_scales_the_update(aligner: Aligner, grads: Tensor) -> None:
    torch.testing.assert_close(aligned(aligner, 2 * grads), 2 * aligned(aligner, grads), rtol=1e-12, atol=1e-12)


@every_aligner
def test_orthogonal_gradients_stay(aligner: Aligner) -> None:
    grads = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.5, 0.0]]).double()
    torch.testing.assert_close(aligned(aligner, grads), grads)


@every_aligner
def test_does_not_write_to_its_input_and_is_its_own_config(aligner: Aligner) -> None:
    gram = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    before = gram.clone()
    coefficients, _ = aligner(gram, torch.ones(2).double(), aligner.init(2))
    assert coefficients.dtype == torch.float64 and torch.equal(gram, before)
    assert part_to_dict(ALIGNERS, aligner)["name"] in ALIGNERS


def by_components(g: Tensor, other: Tensor) -> Tensor:
    """Equations (11) to (15), literally."""
    if not g.norm() or not other.norm():
        return g
    direction = other / other.norm()
    parallel = (g @ direction) * direction
    orthogonal = g - parallel
    cos = (g @ other / (g.norm() * other.norm())).clamp(-1, 1)
    return orthogonal + ((cos + 1) / 2) ** 2 * parallel


@given(grads=gradients)
def test_genrep_rule_against_explicit_components(grads: Tensor) -> None:
    expected = torch.stack([by_components(grads[0], grads[1]), by_components(grads[1], grads[0])])
    torch.testing.assert_close(aligned(GenRepRule(), grads), expected, rtol=1e-9, atol=1e-9 * float(grads.abs().max() + 1))


@given(grads=gradients)
def test_genrep_update_is_the_sum_of_two_scaled_gradients(grads: Tensor) -> None:
    """g = (w_p + w_g (alpha - 1) s / |g_p|^2) g_p + (w_g + w_p (alpha - 1) s / |g_g|^2) g_g, where neither is zero."""
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
    (p, g), s, norm2 = grads, grads[0] @ grads[1], grads.square().sum(1)
    if not norm2.all():
        return
    alpha = ((s / norm2.prod().sqrt() + 1) / 2) ** 2
    expected = (0.7 + 0.3 * (alpha - 1) * s / norm2[0]) * p + (0.3 + 0.7 * (alpha - 1) * s / norm2[1]) * g
    torch.testing.assert_close(weights @ aligned(GenRepRule(), grads), expected, rtol=1e-9, atol=1e-9 * float(grads.abs().max() + 1))


@pytest.mark.parametrize(("cos", "kept"), [(-1.0, 0.0), (-0.5, 0.0625), (0.1, 0.3025), (0.25, 0.390625), (0.5, 0.5625), (0.75, 0.765625), (1.0, 1.0)])
def test_genrep_rule_also_damps_agreeing_gradients(cos: float, kept: float) -> None:
    gram = torch.tensor([[1.0, 2 * cos], [2 * cos, 4.0]], dtype=torch.float64)
    coefficients, _ = GenRepRule()(gram, torch.ones(2).double(), {})
    assert share_kept(coefficients, gram)[0, 1] == pytest.approx(kept, abs=1e-12)
    assert cosines(gram)[1, 0] == pytest.approx(cos)


def test_genrep_rule_removes_opposite_and_keeps_equal_gradients() -> None:
    g = torch.tensor([1.0, -2.0, 0.5]).double()
    torch.testing.assert_close(aligned(GenRepRule(), torch.stack([g, -3 * g])), torch.zeros(2, 3).double())
    torch.testing.assert_close(aligned(GenRepRule(), torch.stack([g, 3 * g])), torch.stack([g, 3 * g]))


@given(grads=gradients)
def test_genrep_rule_never_turns_a_gradient_against_itself(grads: Tensor) -> None:
    inner = (aligned(GenRepRule(), grads) * grads).sum(1)
    assert (inner >= -1e-9 * grads.square().sum(1)).all()


def test_diagnostics_where_there_is_nothing_to_compare() -> None:
    gram = torch.tensor([[0.0, 0.0], [0.0, 4.0]]).double()
    coefficients, _ = WeightedSum()(gram, torch.ones(2).double(), {})
    assert cosines(gram).tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert share_kept(coefficients, gram).tolist() == [[1.0, 1.0], [1.0, 1.0]]
