"""Samplers of higher order with one evaluation per step, which use the estimate of the step before: DPM-Solver++(2M) and UniPC.

Between two times the probability-flow ODE is an integral over lambda = ln(alpha / sigma) of the clean estimate alone:

    xs = sigma_s / sigma_t xt + sigma_s Integral e^lambda x0_hat(lambda) d lambda

Here x0_hat is a straight line in lambda through two estimates, or a parabola through three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from genrep.randomness import SampleGenerator
from genrep.samplers.base import Sampler, carried
from genrep.schedules import Schedule
from genrep.types import Denoise


@dataclass(frozen=True)
class _Level:
    """A noise level as plain numbers, so that a step costs few operations beside the network."""

    alpha: float
    sigma: float
    half_logsnr: float


@dataclass(frozen=True)
class _Estimate:
    """What the denoiser said at a noise level."""

    level: _Level
    x0_hat: Tensor


@dataclass(frozen=True, kw_only=True)
class DPMSolver(Sampler):
    """Deterministic second-order multistep sampler, DPM-Solver++(2M).

        xs = sigma_s / sigma_t xt + (alpha_s - alpha_t sigma_s / sigma_t) (x0_hat + (x0_hat - x0_before) h / (2 h_before))

    with h the step in ln(alpha / sigma) and h_before the one before. The first step and the one to s = 0, whose h is infinite,
    are Euler's; the latter returns x0_hat.

    Args:
        num_steps: denoiser calls per image, >= 1; the global error falls like 1 / num_steps^2.
    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """

    order: ClassVar[int | None] = 2
    corrects: ClassVar[bool] = False

    def __call__(self, denoise: Denoise, xt: Tensor, y: Tensor, *, schedule: Schedule, generator: SampleGenerator, start: float = 1.0) -> Tensor:
        times = self.times(schedule, start)
        levels = [_Level(*of) for of in zip(*(f(times).tolist() for f in (schedule.alpha, schedule.sigma, lambda t: schedule.logsnr(t) / 2)), strict=True)]
        at = times.to(xt).unbind()
        step: _Step | None = None
        for i in range(len(levels) - 1):
            here = _Estimate(levels[i], denoise(xt, at[i].expand(len(xt)), y).x0_hat)
            if self.corrects and step is not None:
                xt = step.corrected(here)
            step = _Step(xt, here, step.here if step else None, levels[i + 1])
            xt = step.predicted()
        return xt


@dataclass(frozen=True, kw_only=True)
class UniPC(DPMSolver):
    """Deterministic third-order multistep sampler: DPM-Solver++(2M), each of whose steps is taken again with the next step's estimate, at no further
    evaluation.

    Args:
        num_steps: denoiser calls per image, >= 1; the global error falls like 1 / num_steps^3 between two noise levels. With the step to s = 0, which is
            Euler's, it falls like 1 / num_steps^2 on the grid `uniform`.
    Source: Zhao et al. 2023, arXiv:2302.04867, algorithms 1 and 2 with p = 2 and B(h) = e^h - 1.
    """

    order: ClassVar[int | None] = 3
    corrects: ClassVar[bool] = True


@dataclass(frozen=True)
class _Step:
    """From xt to xs on the line through the estimates at t and before it."""

    xt: Tensor
    here: _Estimate
    before: _Estimate | None
    then: _Level

    def predicted(self) -> Tensor:
        """xs."""
        if self.before is None or self.then.sigma == 0:
            return self._carried(self.here.x0_hat)
        return self._carried(self.here.x0_hat.add(self.here.x0_hat - self.before.x0_hat, alpha=self._length / (2 * self._past(self.before))))

    def corrected(self, there: _Estimate) -> Tensor:
        """xs again, once the denoiser has spoken at the predicted one.

        The line becomes a parabola through three estimates; without the first one it is a line through the other two.
        """
        change = there.x0_hat - self.here.x0_hat
        if self.before is None:
            return self._carried(self.here.x0_hat.add(change, alpha=0.5))
        past = self._past(self.before)
        of_slope, of_change = _parabola(self._length, past)
        line = self.here.x0_hat.add(self.here.x0_hat - self.before.x0_hat, alpha=of_slope * self._length / past)
        return self._carried(line.add(change, alpha=of_change))

    def _carried(self, x0_hat: Tensor) -> Tensor:
        """xs where x0_hat is constant."""
        now, then = self.here.level, self.then
        return carried(self.xt, x0_hat, alpha=(now.alpha, then.alpha), sigma=(now.sigma, then.sigma))

    @property
    def _length(self) -> float:
        """This step in ln(alpha / sigma)."""
        return self.then.half_logsnr - self.here.level.half_logsnr

    def _past(self, before: _Estimate) -> float:
        """The step before."""
        return self.here.level.half_logsnr - before.level.half_logsnr


def _parabola(length: float, past: float) -> tuple[float, float]:
    """What a parabola through the estimates before, at and after a step adds to x0_hat: factors of the slope before (times `length`) and of the change."""
    phi1 = math.expm1(-length)
    linear = -(phi1 / length + 1) / phi1
    square = 2 * ((phi1 / length + 1) / length - 0.5) / phi1
    ratio = -past / length
    of_change = (square - ratio * linear) / (1 - ratio)
    return linear - of_change, of_change
