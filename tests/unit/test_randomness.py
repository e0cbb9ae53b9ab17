"""Random numbers: distribution, independence, and belonging to samples instead of batches."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from genrep.randomness import SampleGenerator, permutation

FROZEN_UNIFORM = [[0.40010854601860046, 0.4220530688762665], [0.26721468567848206, 0.6047548055648804]]
FROZEN_NORMAL = [[-1.7598870992660522, 1.1974010467529297], [0.13893193006515503, -0.10564989596605301]]


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_uniform_is_uniform_on_the_open_interval() -> None:
    draws = SampleGenerator(0, torch.arange(300)).uniform(300)
    assert draws.dtype == torch.float32 and draws.min() > 0 and draws.max() < 1
    assert stats.kstest(draws.flatten().numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("shape", [(300,), (301,), (3, 10, 10)])
def test_normal_is_standard_normal(shape: tuple[int, ...]) -> None:
    draws = SampleGenerator(1, torch.arange(300)).normal(*shape)
    assert draws.shape == (300, *shape) and draws.isfinite().all()
    assert stats.kstest(draws.flatten().numpy(), "norm").pvalue > 0.01
    flat = draws.flatten().double()
    assert flat.mean().abs() < 0.02 and abs(flat.var() - 1) < 0.03 and abs(flat.pow(4).mean() - 3) < 0.15


def test_normal_has_tails() -> None:
    draws = SampleGenerator(2, torch.arange(1000)).normal(1000)
    beyond = (draws.abs() > 4).float().mean()
    assert beyond == pytest.approx(6.33e-5, rel=0.4)


def test_integers_are_uniform() -> None:
    counts = torch.bincount(SampleGenerator(3, torch.arange(100)).integers(7, 100).flatten(), minlength=7)
    assert len(counts) == 7 and stats.chisquare(counts.numpy()).pvalue > 0.01


def test_neighbours_are_independent() -> None:
    """Neighbouring samples, seeds, streams, draws and positions are unrelated."""
    num = 20_000
    base = SampleGenerator(4, torch.arange(num), "a")
    first, second = base.normal(2), base.normal(2)
    pairs = {
        "index": (first[:-1], first[1:]),
        "seed": (first, SampleGenerator(5, torch.arange(num), "a").normal(2)),
        "stream": (first, SampleGenerator(4, torch.arange(num), "b").normal(2)),
        "draw": (first, second),
        "position": (first[:, 0], first[:, 1]),
        "squares": (first[:, 0] ** 2, first[:, 1] ** 2),
    }
    assert {name: abs(correlation(*pair)) < 4 / num**0.5 for name, pair in pairs.items()} == dict.fromkeys(pairs, True)


def test_depends_on_the_sample_and_on_what_was_drawn_before_only() -> None:
    index = torch.tensor([7, 0, 123_456_789, 7])
    together = SampleGenerator(6, index, "x")
    rows = [together.uniform(2, 3), together.normal(5), together.integers(10, 4)]
    for row, i in enumerate(index):
        alone = SampleGenerator(6, i[None], "x")
        for drawn, again in zip(rows, (alone.uniform(2, 3), alone.normal(5), alone.integers(10, 4)), strict=True):
            torch.testing.assert_close(drawn[row], again[0], rtol=0, atol=0)


def test_no_two_samples_share_numbers() -> None:
    draws = SampleGenerator(0, torch.arange(500)).uniform(50).flatten()
    expected_collisions = len(draws) ** 2 / 2 / 2**24
    assert len(draws) - len(draws.unique()) < 3 * expected_collisions + 5


@pytest.mark.parametrize("seed", [-1, 0, 2**31, 2**63, 2**70])
def test_any_integer_is_a_seed(seed: int) -> None:
    draws = SampleGenerator(seed, torch.arange(2_000)).uniform(5)
    assert stats.kstest(draws.flatten().numpy(), "uniform").pvalue > 0.001


def test_frozen_numbers() -> None:
    """A change here changes every run of everybody."""
    generator = SampleGenerator(0, torch.tensor([0, 1]), "frozen")
    assert generator.uniform(2).tolist() == FROZEN_UNIFORM
    torch.testing.assert_close(generator.normal(2), torch.tensor(FROZEN_NORMAL))


def test_permutation_visits_all_once_in_an_order_of_its_own() -> None:
    orders = [permutation(1000, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(1000))
    assert all((a == b).float().mean() < 0.02 for a, b in ((orders[0], orders[1]), (orders[0], orders[2]), (orders[0], torch.arange(1000))))
    assert torch.equal(orders[0], permutation(1000, 0, 0))
