"""Stand-ins for a posterior that teaches: they have its lesson's entropies and know nothing that it knows, so they tell information from smoothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.randomness import SampleGenerator

PLACEBOS = ("smoothed", "shuffled")
"""The lessons that are made by these, by the names that configs use."""
NUM_HALVINGS = 40
SHARPEST = 1e3
"""Exponent of a lesson at the most."""


def entropy(probs: Float[Tensor, "r m"]) -> Float[Tensor, " r"]:
    """Nats.

    >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([-0.0000, 0.6931])
    """
    return -torch.xlogy(probs, probs).sum(1)


def smoothed(probs: Float[Tensor, "r m"], favourite: Int[Tensor, " r"]) -> Float[Tensor, "r m"]:
    """Label smoothing: the favourite, and an equal share for every candidate, so much of it that the entropy is the lesson's.

        p = (1 - e) onehot(favourite) + e / m,   e by halving, as the entropy grows with it

    Args:
        favourite: the candidate that is the label, or taken for it.
    """
    onehot = torch.nn.functional.one_hot(favourite, probs.shape[1]).to(probs)
    return _smooth(onehot, _least(lambda share: entropy(_smooth(onehot, share)), entropy(probs), most=1.0))


def _smooth(onehot: Float[Tensor, "r m"], share: Float[Tensor, " r"]) -> Float[Tensor, "r m"]:
    return (1 - share[:, None]) * onehot + share[:, None] / onehot.shape[1]


def shuffled(log_posterior: Float[Tensor, "r m"], generator: SampleGenerator) -> Float[Tensor, "r m"]:
    """The posterior's numbers, dealt to the candidates at random; the head beside it keeps what it knows.

    Args:
        generator: one stream per row.
    """
    return log_posterior.gather(1, generator.uniform(log_posterior.shape[1]).argsort(dim=1))


def as_unsure(log_probs: Float[Tensor, "r m"], probs: Float[Tensor, "r m"]) -> Float[Tensor, "r m"]:
    """p^x, normalised, where x gives it the entropy of the lesson that it stands in for."""

    def flattened(doubt: Float[Tensor, " r"]) -> Float[Tensor, "r m"]:
        return (log_probs / doubt[:, None].clamp(min=1 / SHARPEST)).softmax(1)

    return flattened(_least(lambda doubt: entropy(flattened(doubt)), entropy(probs), most=SHARPEST))


def _least(unsure: Callable[[Tensor], Tensor], wanted: Float[Tensor, " r"], *, most: float) -> Float[Tensor, " r"]:
    """Where what grows with its argument, from 0 to `most`, reaches what is wanted; by halving."""
    low, high = torch.zeros_like(wanted), torch.full_like(wanted, most)
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        short = unsure(middle) < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return high
