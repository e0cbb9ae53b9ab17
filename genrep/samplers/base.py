"""What a sampler is: it carries noise to data with the function `denoise`, and knows nothing of models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import Denoise


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """Carries xt at time `start` (default 1: pure noise) to x0.

    Args:
        num_steps: steps of the time grid, >= 1.
    """

    num_steps: int = 50
    order: ClassVar[int | None]
    """Order of the global error in 1 / num_steps; None for stochastic samplers, which have a marginal instead."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"`num_steps` must be at least 1; found {self.num_steps}.")

    def times(self, start: float = 1.0, device: torch.device | str = "cpu") -> Float[Tensor, " n"]:
        """The uniform grid start = t_0 > ... > t_num_steps = 0."""
        return torch.linspace(start, 0.0, self.num_steps + 1, device=device, dtype=torch.float64)

    def __call__(
        self, denoise: Denoise, xt: Float[Tensor, "b c h w"], y: Float[Tensor, "b k"], *, schedule: Schedule, generator: SampleGenerator, start: float = 1.0
    ) -> Float[Tensor, "b c h w"]:
        """x0 from xt at time `start`.

        Args:
            y: condition, zeros = null.
            generator: one stream per image, of length b; deterministic samplers leave it alone.
        """
        times = self.times(start, xt.device)
        for now, then in pairwise(times):
            t, s = (time.to(xt.dtype).expand(len(xt)) for time in (now, then))
            xt = self.step(denoise, xt, t, s, y=y, schedule=schedule, generator=generator)
        return xt

    @abstractmethod
    def step(self, denoise: Denoise, xt: Tensor, t: Tensor, s: Tensor, *, y: Tensor, schedule: Schedule, generator: SampleGenerator) -> Tensor:
        """xs from xt, for times s < t, [b]; s may be 0."""
