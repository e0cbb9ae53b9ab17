"""What a sampler is: it carries noise to data with the function `denoise`, and knows nothing of models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.layers import widest
from genrep.randomness import SampleGenerator
from genrep.registry import OneOf, lookup
from genrep.samplers.grids import GRIDS
from genrep.schedules import Schedule
from genrep.types import Denoise

CPU = torch.device("cpu")


def carried(xt: Tensor, x0_hat: Tensor, *, alpha: tuple[float, float], sigma: tuple[float, float]) -> Tensor:
    """xs = alpha_s x0_hat + sigma_s (xt - alpha_t x0_hat) / sigma_t: the probability-flow ODE where x0_hat is constant.

    Args:
        alpha, sigma: at t and at s, as plain numbers, so that a step costs few operations beside the network.
    """
    shrink = sigma[1] / sigma[0]
    return (shrink * xt).add_(x0_hat, alpha=alpha[1] - alpha[0] * shrink)


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """Carries xt at time `start` (default 1: pure noise) to x0.

    Args:
        num_steps: steps of the time grid, >= 1.
        grid: where they lie: evenly in t, evenly in log-SNR, or after Karras et al. (`grids.GRIDS`).
    """

    num_steps: int = 50
    grid: Annotated[str, OneOf(GRIDS, "grid")] = "uniform"
    order: ClassVar[int | None]
    """Order of the global error in 1 / num_steps; None for stochastic samplers, which have a marginal instead."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"`num_steps` must be at least 1; found {self.num_steps}.")
        lookup(GRIDS, self.grid, "grid")

    def times(self, schedule: Schedule, start: float = 1.0, device: torch.device = CPU) -> Float[Tensor, " n"]:
        """The grid start = t_0 > ... > t_num_steps = 0, float64 where the device has it.

        Raises:
            ValueError: a start outside (0, 1].
        """
        if not 0 < start <= 1:
            raise ValueError(f"`start` must lie in (0, 1]; found {start}. 1 is pure noise.")
        return lookup(GRIDS, self.grid, "grid")(schedule, self.num_steps, start).to(device, widest(device))

    @abstractmethod
    def __call__(
        self, denoise: Denoise, xt: Float[Tensor, "b c h w"], y: Float[Tensor, "b k"], *, schedule: Schedule, generator: SampleGenerator, start: float = 1.0
    ) -> Float[Tensor, "b c h w"]:
        """x0 from xt at time `start`.

        Args:
            y: condition, zeros = null.
            generator: one stream per image, of length b; deterministic samplers leave it alone.
        """
