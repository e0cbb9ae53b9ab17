"""p(sem | classes): what is drawn is distributed as what was learnt, and depends on seed and class alone."""

from __future__ import annotations

import torch
from small_models import awake, normal
from torch import Tensor

from genrep.denoiser import draw_times
from genrep.modulators.prior import SemanticPrior
from genrep.randomness import SampleGenerator

NUM, K = 16, 3


def drawn(prior: SemanticPrior, y: Tensor, seed: int = 0) -> Tensor:
    return prior.draw(y, SampleGenerator(seed, torch.arange(len(y)), "test"))


def test_nothing_is_drawn_before_something_is_learnt() -> None:
    prior, y = awake(SemanticPrior(NUM, K)), torch.eye(K)
    assert not drawn(prior, y).any()
    prior.learnt.fill_(1)
    whole = drawn(prior, y)
    assert whole.std(1, unbiased=False).sub(1).abs().max() < 1e-2
    torch.testing.assert_close(prior.draw(y[1:2], SampleGenerator(0, torch.tensor([1]), "test")), whole[1:2])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(drawn(prior, y), whole)


def test_the_sets_of_classes_are_told_apart() -> None:
    prior = awake(SemanticPrior(NUM, K))
    y = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]])
    found = prior(normal(1, NUM).expand(5, -1), torch.full((5,), 0.5), y)
    assert torch.cdist(found, found).fill_diagonal_(9).min() > 1e-3


def test_learns_what_it_is_shown() -> None:
    """Two classes: one of two clusters, one of a plane; of the first a third is in the first cluster."""
    directions = torch.nn.functional.layer_norm(normal(4, NUM, seed=1), (NUM,))

    def shown(num: int, seed: int) -> tuple[Tensor, Tensor]:
        label = torch.arange(num) % 2
        uniform, free = SampleGenerator(seed, torch.arange(num), "shown").uniform(1), normal(num, 2, seed=seed)
        clusters = torch.where(uniform < 1 / 3, directions[0], directions[1])
        plane = free[:, :1] * directions[2] + free[:, 1:] * directions[3]
        sem = torch.where(label[:, None] == 0, clusters, plane) + 0.1 * normal(num, NUM, seed=seed + 1)
        return torch.nn.functional.layer_norm(sem, (NUM,)), torch.nn.functional.one_hot(label, K).float()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prior = SemanticPrior(NUM, K)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=2e-3)
    for step in range(400):
        sem, y = shown(256, 10 * step)
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / 400)
        t = draw_times(SampleGenerator(1, torch.arange(256), str(step)).uniform(1)).squeeze(1)
        optimizer.zero_grad()
        prior.loss(sem, y, t, normal(256, NUM, seed=step)).backward()
        optimizer.step()
    prior.learnt.fill_(1)
    (real, y), num = shown(2000, 7), 2000
    made = drawn(prior, y)
    first = y[:, 0] == 1
    for part in (first, ~first):
        spread = torch.linalg.eigvalsh(torch.cov(real[part].T))[-2:]
        torch.testing.assert_close(torch.linalg.eigvalsh(torch.cov(made[part].T))[-2:], spread, rtol=0.25, atol=0.1)
    nearer = torch.cdist(made[first], directions[:2]).argmin(1)
    assert abs(float((nearer == 0).float().mean()) - 1 / 3) < 0.08 and num == len(made)
