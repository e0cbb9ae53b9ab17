"""How sure a head may be of what it says: fitted on validation images when training ends, stored with the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_DOUBT = 1e-7
"""A score is no nearer to 0 or 1 than this."""


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Logits l become slope * l + offset. Neither changes what is best, nor, of scores, any order.

    Args:
        slope: > 0, one over the temperature; below 1 where the head is surer than it should be.
        offset: of a score; classes have none.
        of_object: > 0, of the class of a detected object, whose probability is a factor of its score: so this one does change the order of scores, and
            average precision with it.
    Source: Guo et al. 2017, arXiv:1706.04599 (classes); Platt 1999 (scores).
    """

    slope: float = 1.0
    offset: float = 0.0
    of_object: float = 1.0

    def of_classes(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """log-probabilities, nats.

        >>> Confidence(slope=0.5).of_classes(torch.tensor([[4.0, 0.0]])).exp()
        tensor([[0.8808, 0.1192]])
        """
        return (self.slope * logits).log_softmax(1)

    def of_scores(self, scores: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Scores in (0, 1) as probabilities.

        >>> Confidence(slope=0.5, offset=-1.0).of_scores(torch.tensor([0.5, 0.9]))
        tensor([0.2689, 0.5246])
        """
        return scores if (self.slope, self.offset) == (1.0, 0.0) else (self.slope * torch.logit(scores, eps=LEAST_DOUBT) + self.offset).sigmoid()

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, for json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Confidence:
        """The inverse of `to_dict`."""
        return cls(**values)
