"""What the times and conditions of a sampler's loop do to a trunk, computed before the loop."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.backbones.base import Backbone, Hidden

MOST_ROWS = 4_096
"""Of a table: where every image has a condition of its own, a large batch gains nothing by one."""


class ModulationTable:
    """`trunk(xt, t, y)` that looks up what t and y do, at the times and conditions it was made for; elsewhere, and where they are too many, it computes it.

    Args:
        times: at which the trunk will be asked.
        y: the conditions of the images; each of them, and null, is computed once.
    """

    def __init__(self, trunk: Backbone, times: Float[Tensor, " s"], y: Float[Tensor, "b _"]) -> None:
        self._trunk = trunk
        self._conditions = torch.cat([y, torch.zeros_like(y[:1])]).unique(dim=0)
        num = len(self._conditions)
        times = times[: len(times) * (num * len(times) <= MOST_ROWS)]
        self._step = {float(time): i for i, time in enumerate(times.to(y.dtype))}
        self._modulations = trunk.modulations(times.to(y.dtype).repeat_interleave(num), self._conditions.repeat(len(times), 1))
        self._asked: tuple[Tensor, Tensor] | None = None

    def __call__(self, xt: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Float[Tensor, "b _"]) -> Hidden:
        step = self._step.get(float(t[0]))
        which = self._which(y)
        if step is None or which is None or bool((t != t[0]).any()):
            return self._trunk(xt, t, y)
        rows = which + step * len(self._conditions)
        return self._trunk.modulated(xt, tuple(each[rows] for each in self._modulations))

    def _which(self, y: Tensor) -> Tensor | None:
        """The row of each condition; None where one is not in the table. A loop mostly asks for the same ones again."""
        if self._asked is None or self._asked[0] is not y:
            same = (y[:, None] == self._conditions).all(-1)
            if not bool(same.any(1).all()):
                return None
            self._asked = (y, same.int().argmax(1))
        return self._asked[1]
