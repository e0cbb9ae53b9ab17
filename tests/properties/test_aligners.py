"""What every aligner promises, and how the paper's rule meets its equations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from genrep.aligners import ALIGNERS, MGDA, AlignedMTL, Bisector, CAGrad, GenRepRule, PCGrad, Uncertainty, UPGrad, WeightedSum
from genrep.aligners.base import Aligner, cosines, share_kept

VARIANTS = {"genrep, agreement kept": GenRepRule(keep_agreement=True), "genrep, balanced": GenRepRule(balance=True)}
LINE_UP = {name: cls() for name, cls in ALIGNERS.items()} | VARIANTS
every_aligner = pytest.mark.parametrize("aligner", LINE_UP.values(), ids=LINE_UP)
SOLVED_TO = 1e-7
"""Relative error of those that solve an equation or look for a minimum."""
NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: x if abs(x) > 1e-3 else 0.0)
gradients, gradients_of_three, gradients_of_four = (hnp.arrays("float64", (num, 5), elements=NUMBERS).map(torch.from_numpy) for num in (2, 3, 4))


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
    """What a loss's own gradient becomes does not depend on its place among them; an update for all has no places."""
    flipped, found = aligned(aligner, grads.flip(0)), aligned(aligner, grads)
    torch.testing.assert_close(flipped.sum(0) if alike(found) else flipped.flip(0), found.sum(0) if alike(found) else found, **close_to(grads))


@every_aligner
@given(grads=gradients)
def test_scaling_the_gradients_scales_the_update(aligner: Aligner, grads: Tensor) -> None:
    torch.testing.assert_close(aligned(aligner, 2 * grads), 2 * aligned(aligner, grads), **close_to(grads))


@pytest.mark.parametrize("aligner", [WeightedSum(), GenRepRule(), *VARIANTS.values(), Uncertainty(), PCGrad(), UPGrad()])
def test_orthogonal_gradients_stay(aligner: Aligner) -> None:
    grads = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.5, 0.0]]).double()
    found, expected = aligned(aligner, grads), grads
    if aligner.balance:
        expected = grads * (grads.norm() / grads.norm()) * (1.5**0.5 / grads.norm(dim=1, keepdim=True))
    torch.testing.assert_close(found, expected)


def alike(rows: Tensor) -> bool:
    """Whether the rows of aligned gradients are one update."""
    return bool((rows == rows[:1]).all())


def close_to(grads: Tensor) -> dict[str, float]:
    return {"rtol": SOLVED_TO, "atol": SOLVED_TO * float(grads.abs().max()) + 1e-12}


def weighted(aligner: Aligner, grads: Tensor) -> Tensor:
    """The update with equal weights."""
    return aligned(aligner, grads).mean(0)


@pytest.mark.parametrize("aligner", [PCGrad(), UPGrad(), MGDA(), Bisector()], ids=["pcgrad", "upgrad", "mgda", "bisector"])
@given(grads=gradients)
def test_harms_neither_of_two_losses(aligner: Aligner, grads: Tensor) -> None:
    update = weighted(aligner, grads)
    assert (grads @ update >= -1e-6 * grads.square().sum(1).max()).all()


@pytest.mark.parametrize("aligner", [UPGrad(), MGDA()], ids=["upgrad", "mgda"])
@given(grads=gradients_of_four)
def test_harms_none_of_four_losses(aligner: Aligner, grads: Tensor) -> None:
    assert (grads @ weighted(aligner, grads) >= -1e-5 * (1 + grads.square().sum(1).max())).all()


@given(grads=gradients_of_three)
def test_upgrad_is_the_nearest_harmless_direction(grads: Tensor) -> None:
    """By the conditions of Karush, Kuhn and Tucker; of two gradients it is what PCGrad finds."""
    gram = grads @ grads.T
    rows, _ = UPGrad()(gram, torch.ones(3).double(), {})
    added, tolerance = rows - torch.eye(3).double(), 1e-6 * (1 + float(gram.abs().max()))
    assert (added >= 0).all() and (rows @ gram >= -tolerance).all() and ((added * (rows @ gram)).sum(1).abs() <= tolerance).all()
    torch.testing.assert_close(aligned(UPGrad(), grads[:2]), aligned(PCGrad(), grads[:2]), **close_to(grads))


@given(grads=gradients)
def test_pcgrad_takes_away_conflict_alone(grads: Tensor) -> None:
    found = aligned(PCGrad(), grads)
    if grads[0] @ grads[1] >= 0:
        torch.testing.assert_close(found, grads, rtol=0, atol=0)
    elif grads.square().sum(1).min() > 1e-6:
        assert ((found * grads.flip(0)).sum(1).abs() <= 1e-9 * grads.square().sum(1).max()).all()


def test_the_bisector_has_one_cosine_with_all_and_their_length_along_it() -> None:
    grads = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([[1.0], [5.0], [0.2]])
    update = weighted(Bisector(), grads)
    along = grads @ update / update.norm()
    assert torch.allclose(along / grads.norm(dim=1), (along / grads.norm(dim=1))[:1]) and update.norm() == pytest.approx(float(along.sum()))


def test_aligned_mtl_makes_an_orthogonal_system_of_the_shortest_length() -> None:
    grads = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([[1.0], [5.0], [0.2]])
    found = aligned(AlignedMTL(), grads)
    torch.testing.assert_close(found @ found.T, torch.linalg.eigvalsh(grads @ grads.T)[0] * torch.eye(3).double())


@pytest.mark.parametrize("radius", [0.0, 0.4, 0.9])
def test_cagrad_is_as_far_from_the_mean_as_it_should(radius: float) -> None:
    """And there the worst-off loss falls at least as fast as along any other update so far from the mean."""
    generator = torch.Generator().manual_seed(1)
    for num in (2, 3):
        grads = torch.randn(num, 5, generator=generator).double() * torch.tensor([[1.0], [4.0], [0.3]])[:num]
        update, mean = weighted(CAGrad(radius=radius), grads), grads.mean(0)
        assert (update - mean).norm() == pytest.approx(radius * float(mean.norm()), rel=1e-6)
        others = torch.nn.functional.normalize(torch.randn(3000, 5, generator=generator).double(), dim=1) * radius * mean.norm() + mean
        assert (grads @ update).min() >= (others @ grads.T).min(1).values.max() - 1e-6
    with pytest.raises(ValueError, match=r"`radius` must lie in \[0, 1\); found 1.0"):
        CAGrad(radius=1.0)


def test_uncertainty_learns_the_scale_of_each_loss() -> None:
    aligner, losses = Uncertainty(rate=0.1), torch.tensor([8.0, 0.25]).double()
    state = aligner.init(2)
    for _ in range(400):
        coefficients, state = aligner(torch.eye(2).double(), losses, state)
    torch.testing.assert_close(coefficients, torch.diag(1 / losses), rtol=1e-3, atol=1e-3)
    for rate in (0.0, 1.0):
        with pytest.raises(ValueError, match="`rate` must lie between 0 and 1"):
            Uncertainty(rate=rate)


@given(grads=gradients)
def test_genrep_rule_may_keep_agreement_and_change_one_loss_alone(grads: Tensor) -> None:
    whole = aligned(GenRepRule(), grads)
    kept = aligned(GenRepRule(keep_agreement=True), grads)
    torch.testing.assert_close(kept, grads if grads[0] @ grads[1] >= 0 else whole)
    first, second = (aligned(GenRepRule(only=i), grads) for i in (0, 1))
    torch.testing.assert_close(first, torch.stack([whole[0], grads[1]]))
    torch.testing.assert_close(second, torch.stack([grads[0], whole[1]]))
    with pytest.raises(ValueError, match="`only` must be the number of a loss"):
        GenRepRule(only=-1)


@every_aligner
def test_does_not_write_to_its_input(aligner: Aligner) -> None:
    gram = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    before = gram.clone()
    coefficients, _ = aligner(gram, torch.ones(2).double(), aligner.init(2))
    assert coefficients.dtype == torch.float64 and torch.equal(gram, before)


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
