"""What computes the losses of a joint step: functions of a model, and twins of it whose gradients stay apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
Loss = Callable[[M], Tensor]
"""A loss, or a part of one, as a function of a model."""
Losses = Callable[[Sequence[M]], Sequence[Tensor]]
"""A part of every loss in one graph, as a function of a model for each."""


def twin(model: M) -> M:
    """A model of the same weights, in the same memory, that has gradients of its own."""
    same = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, {**same, **{id(b): b for b in model.buffers()}})


class Own(Generic[M]):
    """A model and its trainable parameters."""

    def __init__(self, model: M) -> None:
        self.model = model
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}


@dataclass(frozen=True)
class Graph(Generic[M]):
    """What computes parts of some of the losses, of which, and with which models."""

    which: Sequence[int]
    own: Sequence[Own[M]]
    losses: Losses[M]

    def __call__(self) -> Sequence[Tensor]:
        return self.losses([own.model for own in self.own])


class Models(Generic[M]):
    """A model for each graph of each loss: what two losses, or two graphs at once, give to one parameter could not be told apart.

    Args:
        model: the last loss's; others are twins of it.
        num: how many losses.
        side_by_side: how many graphs at once; where they take turns, those of a loss share its model.
    """

    def __init__(self, model: M, num: int, *, side_by_side: int) -> None:
        self._model, self._side_by_side = model, side_by_side
        self._of = [[Own(model if i == num - 1 else twin(model))] for i in range(num)]
        self.parameters = self._of[-1][0].parameters
        """Of the model itself."""

    def graphs(self, parts: Sequence[Sequence[Loss[M]]], whole: Sequence[Losses[M]]) -> list[Graph[M]]:
        """In the order in which they are computed: parts of all losses, then each loss's own.

        Raises:
            ValueError: three graphs at once would add to one loss.
        """
        if self._side_by_side > 1 and any(len(some) + len(whole) > 2 for some in parts):
            raise ValueError("a loss may have two parts at the most: the sum of three would depend on which of them is ready first.")
        models = [self._enough(i, len(some) + len(whole)) for i, some in enumerate(parts)]
        found: list[Graph[M]] = [Graph(range(len(parts)), [own[j] for own in models], losses) for j, losses in enumerate(whole)]
        for i, some in enumerate(parts):
            found += [Graph((i,), [own], partial(_alone, loss)) for loss, own in zip(some, models[i][len(whole) :], strict=True)]
        return found

    def _enough(self, i: int, num: int) -> list[Own[M]]:
        if self._side_by_side == 1:
            return self._of[i] * num
        self._of[i] += [Own(twin(self._model)) for _ in range(num - len(self._of[i]))]
        return self._of[i][:num]


def _alone(loss: Loss[M], models: Sequence[M]) -> list[Tensor]:
    return [loss(models[0])]
