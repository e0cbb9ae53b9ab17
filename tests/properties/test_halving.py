"""Successive halving: who is asked how often, and that what comes out is what its rounds found."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from posterior_cases import centred, estimate, images, three_classes
from torch import Tensor

from genrep.posteriors import DenoisingGap
from genrep.posteriors.base import one_by_one
from genrep.posteriors.halving import successive_halving
from genrep.randomness import SampleGenerator
from genrep.types import DenoiseCandidates
from tests.doubles import ClassGaussians


def ten_classes(apart: float = 0.4) -> ClassGaussians:
    means = apart * SampleGenerator(5, torch.arange(10), "means").normal(1, 2, 3).double()
    return ClassGaussians(means, torch.full_like(means, 0.5), three_classes().schedule)


def counted(denoise: ClassGaussians) -> tuple[DenoiseCandidates, list[Tensor]]:
    asked: list[Tensor] = []

    def asking(xt: Tensor, t: Tensor, candidates: Tensor) -> Tensor:
        asked.append(candidates.argmax(-1))
        return one_by_one(denoise)(xt, t, candidates)

    return asking, asked


def test_each_round_asks_the_better_half() -> None:
    denoise = ten_classes()
    x0, (asking, asked) = images(denoise, 6), counted(denoise)
    DenoisingGap(budget=8, rounds=4)(asking, x0, denoise.candidates(6), schedule=denoise.schedule, generator=SampleGenerator(0, torch.arange(6)))
    assert [each.shape[1] for each in asked] == [10, 10, 5, 5, 3, 3, 2, 2]
    for before, after in pairwise(asked):
        assert all(set(a.tolist()) <= set(b.tolist()) for a, b in zip(after, before, strict=True))


def test_one_round_is_the_estimator_itself() -> None:
    denoise = three_classes()
    x0 = images(denoise, 5)
    generator, gap = SampleGenerator(0, torch.arange(5)), DenoisingGap(budget=6)

    def once(candidates: Tensor) -> Tensor:
        return gap(one_by_one(denoise), x0, candidates, schedule=denoise.schedule, generator=generator)

    whole = successive_halving(once, denoise.candidates(5).to(x0), rounds=1)
    torch.testing.assert_close(centred(whole), centred(estimate(gap, denoise, x0)))


def test_the_order_of_the_candidates_does_not_matter() -> None:
    denoise, order = ten_classes(), torch.randperm(10, generator=torch.Generator().manual_seed(1))
    x0, halving, candidates = images(denoise, 7), DenoisingGap(budget=16, rounds=4), denoise.candidates(7)
    plain, permuted = (
        halving(one_by_one(denoise), x0, y, schedule=denoise.schedule, generator=SampleGenerator(0, torch.arange(7)))
        for y in (candidates, candidates[:, order])
    )
    torch.testing.assert_close(permuted, plain[:, order])


def test_candidates_that_stay_to_the_end_are_measured_as_by_all_of_the_budget() -> None:
    """Their difference is that of the plain estimator with as many draws; who left first is known least."""
    denoise, num = ten_classes(apart=1.5), 600
    x0 = images(denoise, 1).expand(num, -1, -1, -1)
    exact = denoise.gaps(x0[:1], -8, 7)[0]
    found = estimate(DenoisingGap(budget=16, rounds=4), denoise, x0)
    best = exact.topk(2).indices
    difference = found[:, best[0]] - found[:, best[1]]
    assert (difference - (exact[best[0]] - exact[best[1]])).mean().abs() < 4 * difference.std() / num**0.5
    plain = estimate(DenoisingGap(budget=4), denoise, x0)
    assert difference.std() < 0.75 * (plain[:, best[0]] - plain[:, best[1]]).std()
    assert torch.equal(found.argmax(1), best[:1].expand(num))


def test_an_image_does_not_depend_on_its_batch() -> None:
    denoise, index = ten_classes(), torch.tensor([5, 3, 8])
    x0, halving = images(denoise, 3), DenoisingGap(budget=16, rounds=4)
    alone = torch.cat([estimate(halving, denoise, x0[i : i + 1], index[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(estimate(halving, denoise, x0, index), alone, rtol=1e-12, atol=1e-12)


def test_rounds_that_cannot_share_the_budget_are_refused() -> None:
    for rounds, budget in ((0, 8), (4, 6)):
        with pytest.raises(ValueError, match=f"`rounds` must be at least 1 and divide `budget`; found {rounds} rounds and {budget} evaluations"):
            DenoisingGap(budget=budget, rounds=rounds)
    with pytest.raises(ValueError, match="`budget` must be even per round where draws come in pairs; found 1"):
        DenoisingGap(budget=4, rounds=4)
