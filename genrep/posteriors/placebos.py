"""Stand-ins for a posterior that teaches: they have its entropies and know nothing that it knows, so they tell information from smoothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.randomness import SampleGenerator

NUM_HALVINGS = 40


def entropy(probs: Float[Tensor, "r m"]) -> Float[Tensor, " r"]:
    """Nats.

    >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([-0.0000, 0.6931])
    """
    return -torch.xlogy(probs, probs).sum(1)


def smoothed(probs: Float[Tensor, "r m"], favourite: Int[Tensor, " r"], generator: SampleGenerator) -> Float[Tensor, "r m"]:
    """Label smoothing: the favourite, and an equal share for every candidate, so much of it that the entropy is the posterior's.

        p = (1 - e) onehot(favourite) + e / m,   e by halving, as the entropy grows with it

    Args:
        favourite: the candidate that is the label, or taken for it.
    """
    del generator
    onehot = torch.nn.functional.one_hot(favourite, probs.shape[1]).to(probs)
    wanted, low, high = entropy(probs), probs.new_zeros(len(probs)), probs.new_ones(len(probs))
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        short = entropy(_smooth(onehot, middle)) < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return _smooth(onehot, high)


def _smooth(onehot: Float[Tensor, "r m"], share: Float[Tensor, " r"]) -> Float[Tensor, "r m"]:
    return (1 - share[:, None]) * onehot + share[:, None] / onehot.shape[1]


def shuffled(probs: Float[Tensor, "r m"], favourite: Int[Tensor, " r"], generator: SampleGenerator) -> Float[Tensor, "r m"]:
    """The posterior's numbers, dealt to the candidates at random.

    Args:
        generator: one stream per row.
    """
    del favourite
    return probs.gather(1, generator.uniform(probs.shape[1]).argsort(dim=1))


PLACEBOS: dict[str, Callable[[Tensor, Tensor, SampleGenerator], Tensor]] = {"smoothed": smoothed, "shuffled": shuffled}
"""Every stand-in by the name that configs use."""
